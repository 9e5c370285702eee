"""Every live setting in one frozen snapshot; sessions read it at each command boundary."""

from __future__ import annotations

from typing import Final, TypeAlias

import attrs

MIB: Final = 1024 * 1024
DAY_S: Final = 86400

SettingValue: TypeAlias = bool | int | float | str | tuple[str, ...]
"""One typed value of the configuration; octets, seconds and plain numbers are numbers."""


@attrs.frozen(kw_only=True)
class RegistrationSettings:
    """Who may get an account (spec policy 2.1-2.4; keys `registration.*`)."""

    is_open: bool = True
    jit: bool = True
    require_token: bool = False
    username_length: int = 9
    username_min: int = 9
    username_max: int = 9
    password_length: int = 22
    password_min: int = 9
    rate_per_ip_hour: int = 60
    max_load_1m: float = 5.0
    min_available_memory_bytes: int = 200 * MIB
    min_free_disk_bytes: int = 1024 * MIB
    blocked_localparts: frozenset[str] = frozenset()


@attrs.frozen(kw_only=True)
class LimitSettings:
    """Sizes, rates, connections (keys `limits.*`)."""

    max_message_bytes: int = 31457280
    max_federation_bytes: int = 70 * MIB
    max_mailbox_bytes: int = 500 * MIB
    send_rate_per_minute: int = 60
    send_burst: int = 10
    max_imap_connections: int = 10000
    max_smtp_connections: int = 1000
    max_per_address: int = 0
    imap_sessions_per_account: int = 30
    smtp_sessions_per_account: int = 30
    max_recipients: int = 1000
    max_messages_per_account: int = 100_000  # spec policy 3; no key


@attrs.frozen(kw_only=True)
class GateSettings:
    """The encryption gate (keys `gate.*`, spec policy 1.12)."""

    append_any: bool = False
    allow_secure_join: bool = True
    minimise_bounces: bool = True
    opacity_check: bool = True
    strict_outer_headers: bool = False
    allow_autocrypt_setup: bool = False
    passthrough_senders: frozenset[str] = frozenset()
    passthrough_recipients: frozenset[str] = frozenset()


@attrs.frozen(kw_only=True)
class ImapSettings:
    """The IMAP face (keys `imap.*`)."""

    compress: bool = True
    idle_keepalive_s: float = 240.0


@attrs.frozen(kw_only=True)
class QuotaSettings:
    """Trimming of full mailboxes (keys `retention.quota_trim*`)."""

    trim: bool = True
    trim_high_percent: int = 75
    trim_low_percent: int = 70
    spare_younger_s: int = DAY_S


@attrs.frozen(kw_only=True)
class RetentionSettings:
    """What expires when (keys `retention.*`, spec policy 4); a duration of 0 is never."""

    messages_s: float = 20.0 * DAY_S
    large_s: float = 7.0 * DAY_S
    large_threshold_bytes: int = 200_000
    inactive_accounts_s: float = 90.0 * DAY_S
    unused_accounts_s: float = 1.0 * DAY_S
    address_quarantine_s: float = 90.0 * DAY_S
    seen: bool = False
    seen_grace_s: float = 3600.0
    interval_s: float = 3600.0


@attrs.frozen(kw_only=True)
class FederationSettings:
    """Other relays, both ways (keys `federation.*`). Domains are normalised.

    Attributes:
        is_enabled: off: every remote domain is denied both ways.
        rejects_by_default: policy REJECT: only listed domains.
        verifies_tls: off: certificates of names are not verified (`federation.tls = "encrypt"`).
        http_fallback: literal, always or never (federation-web.md A5.4).
        mxdeliv_http: literal or always (B2.1).
        literal_source: any or match (B5.6).
        dsn_to_unknown: mail to unknown recipients is reported, else dropped (B7.2).
        endpoint_rewrite: one URL that takes all remote mail; "" none.
        single_rcpt: domains or hosts whose `/mxdeliv` gets one recipient at a time (A4.3).
    """

    is_enabled: bool = True
    rejects_by_default: bool = False
    keeps_stats: bool = True
    smtp_port: int = 25
    https_port: int = 443
    http_port: int = 80
    verifies_tls: bool = True
    tls_noverify: frozenset[str] = frozenset()
    tls_optional: frozenset[str] = frozenset(("nauta.cu",))
    http_fallback: str = "literal"
    prefers_ipv6: bool = False
    endpoint_rewrite: str = ""
    single_rcpt: frozenset[str] = frozenset()
    require_dkim: bool = True
    dkim_exempt: frozenset[str] = frozenset()
    require_tls: bool = True
    mxdeliv_http: str = "literal"
    literal_source: str = "any"
    dsn_to_unknown: bool = True


@attrs.frozen(kw_only=True)
class QueueSettings:
    """Deliveries to other relays that wait (keys `queue.*`)."""

    max_age_s: float = 48 * 3600.0
    dsn_max_age_s: float = 24 * 3600.0
    schedule_s: tuple[float, ...] = (30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0)
    parallelism: int = 64
    per_destination: int = 4
    start_delay_s: float = 10.0
    reply_wait_s: float = 1.0


@attrs.frozen(kw_only=True)
class IdentitySettings:
    """Who we are. `mail_domain` is normalised; `local_domains` holds it and the extra ones.

    `operator_mailto` is a whole `mailto:` URI.
    """

    mail_domain: str
    local_domains: frozenset[str]
    hostname: str
    operator_comment: str | None = None
    operator_mailto: str | None = None


@attrs.frozen(kw_only=True)
class SettingsSnapshot:
    """All live settings at one instant."""

    identity: IdentitySettings
    registration: RegistrationSettings = RegistrationSettings()
    limits: LimitSettings = LimitSettings()
    gate: GateSettings = GateSettings()
    imap: ImapSettings = ImapSettings()
    quota: QuotaSettings = QuotaSettings()
    retention: RetentionSettings = RetentionSettings()
    federation: FederationSettings = FederationSettings()
    queue: QueueSettings = QueueSettings()
    trusted_proxies: tuple[str, ...] = ()
