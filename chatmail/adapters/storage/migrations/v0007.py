"""Mail on its way to other relays, and copies that must not be delivered a second time."""

from __future__ import annotations

from typing import Final

VERSION: Final = 7

STATEMENTS: Final = (
    """CREATE TABLE outbound_messages (
        id {serial} NOT NULL PRIMARY KEY, blob BIGINT NOT NULL, reverse_path TEXT,
        created_s BIGINT NOT NULL, prefix {octets} NOT NULL, is_report INTEGER NOT NULL,
        is_doomed INTEGER NOT NULL)""",
    "CREATE INDEX outbound_by_age ON outbound_messages (is_report, created_s, id)",
    "CREATE INDEX outbound_by_sender ON outbound_messages (reverse_path)",
    "CREATE INDEX outbound_doomed ON outbound_messages (id) WHERE is_doomed = 1",
    """CREATE TABLE outbound_recipients (
        message BIGINT NOT NULL, recipient TEXT{bytewise} NOT NULL, domain TEXT NOT NULL,
        is_large INTEGER NOT NULL, created_s BIGINT NOT NULL, due_s DOUBLE PRECISION NOT NULL,
        leased_until_s DOUBLE PRECISION NOT NULL, leased_by BIGINT NOT NULL,
        is_held INTEGER NOT NULL, attempts BIGINT NOT NULL, last_at_s BIGINT,
        last_reply TEXT NOT NULL, last_transport TEXT, last_host TEXT NOT NULL,
        written TEXT NOT NULL,
        PRIMARY KEY (message, recipient)){clustered}""",
    # Everything that is asked of a destination is answered from this index.
    """CREATE INDEX outbound_by_domain ON outbound_recipients
        (domain, is_large, due_s, created_s, is_held, leased_until_s)""",
    """CREATE INDEX outbound_due ON outbound_recipients (due_s)
        WHERE is_held = 0 AND leased_until_s = 0""",
    """CREATE INDEX outbound_leased ON outbound_recipients (leased_until_s)
        WHERE leased_until_s > 0""",
    "CREATE TABLE delivered_once (key {octets} NOT NULL PRIMARY KEY, expires_s BIGINT NOT NULL)",
    "CREATE INDEX delivered_once_by_age ON delivered_once (expires_s)",
)
