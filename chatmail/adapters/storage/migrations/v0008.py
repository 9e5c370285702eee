"""Other relays: the operator's word, what attempts taught, and what is counted."""

from __future__ import annotations

from typing import Final

VERSION: Final = 8

STATEMENTS: Final = (
    """CREATE TABLE peer_rules (
        pattern TEXT NOT NULL PRIMARY KEY, action TEXT NOT NULL, created_s BIGINT NOT NULL)""",
    """CREATE TABLE peer_dismissals (
        pattern TEXT NOT NULL PRIMARY KEY, created_s BIGINT NOT NULL)""",
    """CREATE TABLE peer_overrides (
        domain TEXT NOT NULL PRIMARY KEY, target TEXT NOT NULL, comment TEXT NOT NULL,
        smtp_fallback INTEGER NOT NULL, created_s BIGINT NOT NULL)""",
    """CREATE TABLE peer_health (
        domain TEXT NOT NULL PRIMARY KEY, last_ok_https_s BIGINT NOT NULL,
        last_ok_http_s BIGINT NOT NULL, last_ok_smtp_s BIGINT NOT NULL,
        https_block_until_s BIGINT NOT NULL, https_fail_streak BIGINT NOT NULL,
        smtp_fail_streak BIGINT NOT NULL, connect_fail_since_s BIGINT NOT NULL,
        connect_fail_streak BIGINT NOT NULL, not_before_s DOUBLE PRECISION NOT NULL,
        learned_host TEXT NOT NULL, updated_s BIGINT NOT NULL)""",
    """CREATE TABLE sts_policies (
        domain TEXT NOT NULL PRIMARY KEY, id TEXT NOT NULL, mode TEXT NOT NULL,
        mx TEXT NOT NULL, expires_s BIGINT NOT NULL, fetched_s BIGINT NOT NULL)""",
    """CREATE TABLE peer_counters (
        domain TEXT NOT NULL PRIMARY KEY, ok_https BIGINT NOT NULL, ok_http BIGINT NOT NULL,
        ok_smtp BIGINT NOT NULL, fail_https BIGINT NOT NULL, fail_http BIGINT NOT NULL,
        fail_smtp BIGINT NOT NULL, inbound_http BIGINT NOT NULL, inbound_smtp BIGINT NOT NULL,
        bounced BIGINT NOT NULL, dismissed BIGINT NOT NULL, latency_sum_ms BIGINT NOT NULL,
        latency_count BIGINT NOT NULL, last_ok_s BIGINT NOT NULL, last_fail_s BIGINT NOT NULL,
        last_error TEXT NOT NULL, active_s BIGINT NOT NULL)""",
)
