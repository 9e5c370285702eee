# ruff: noqa: RUF009  (`option` wraps attrs.field: nothing mutable is shared)
"""Keys of the relay itself: names, listeners, accounts, the store, mail to and from other relays.

The table of spec admin 5.2, as classes: one per section, one field per key. Keys of features
that are not built yet are read and checked all the same, so that a full file is valid.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import attrs

from chatmail.app.config_option import option
from chatmail.app.config_values import (
    IpAddress,
    IpNetwork,
    ListenAddress,
    Percent,
    Port,
    Seconds,
    Size,
    duration,
    durations,
    listen_addresses,
    size,
)


def _at(*addresses: str) -> tuple[ListenAddress, ...]:
    return listen_addresses(list(addresses))


@attrs.frozen(kw_only=True)
class ServerSection:
    """Who and where we are."""

    domain: str = option("")
    ip: IpAddress | None = option(None)
    hostname: str = option("")
    public_ips: tuple[IpAddress, ...] = option((), aliases=("public_ip",))
    extra_domains: tuple[str, ...] = option((), aliases=("local_domains",))
    state_dir: Path | None = option(None)
    runtime_dir: Path | None = option(None)
    ipv6: bool = option(True)
    defaults: Literal["relay", "madmail"] = option("relay")
    strict: bool = option(True)
    user: str = option("chatmail")
    supervised: bool | None = option(None)


@attrs.frozen(kw_only=True)
class TlsSection:
    """Certificates; `mode` empty is detected (spec federation-web E1)."""

    mode: Literal["", "acme", "files", "self-signed", "external-proxy"] = option("")
    cert: Path | None = option(None)
    key: Path | None = option(None)
    min: Literal["1.2", "1.3"] = option("1.2")
    submission_min: Literal["1.2", "1.3"] = option("1.3")
    acme_email: str = option("", aliases=("acme.email",))
    acme_directory: str = option(
        "https://acme-v02.api.letsencrypt.org/directory", aliases=("acme.directory",)
    )
    acme_challenge: Literal["http-01", "tls-alpn-01", "dns-01"] = option(
        "http-01", aliases=("acme.challenge",)
    )
    acme_names: tuple[str, ...] = option((), aliases=("acme.names",))
    acme_webroot: Path | None = option(None, aliases=("acme.webroot",))
    acme_reuse_key: bool = option(True, aliases=("acme.reuse_key",))
    acme_ip: bool = option(False, aliases=("acme.ip", "ip_certificates"))
    renew_before: Seconds | None = option(None)


@attrs.frozen(kw_only=True)
class ListenSection:
    """Addresses by face; an empty tuple switches the face off."""

    smtp: tuple[ListenAddress, ...] = option(_at("*:25"))
    submission: tuple[ListenAddress, ...] = option(_at("*:587"))
    submissions: tuple[ListenAddress, ...] = option(_at("*:465"), aliases=("smtps",))
    imap: tuple[ListenAddress, ...] = option(_at("*:143"))
    imaps: tuple[ListenAddress, ...] = option(_at("*:993"))
    http: tuple[ListenAddress, ...] = option(_at("*:80"))
    https: tuple[ListenAddress, ...] = option(_at("*:443"))
    turn: tuple[ListenAddress, ...] = option(_at("*:3478"))
    turns: tuple[ListenAddress, ...] = option(_at("*:5349"))
    iroh: tuple[ListenAddress, ...] = option(_at("*:3340"))
    shadowsocks: tuple[ListenAddress, ...] = option(_at("*:8388"))
    metrics: tuple[ListenAddress, ...] = option((), aliases=("metrics.listen",))
    proxy_protocol: bool = option(False)


FACES: Final = tuple(
    field.name for field in attrs.fields(ListenSection) if field.name != "proxy_protocol"
)
ABSENT_WITH_LISTEN_TABLE: Final = ("turns", "iroh")


@attrs.frozen(kw_only=True)
class HttpSection:
    """The HTTP faces."""

    trusted_proxies: tuple[IpNetwork, ...] = option((), aliases=("trusted_proxies",))
    alpn_mux: bool = option(True)


@attrs.frozen(kw_only=True)
class DnsSection:
    """Look-ups."""

    servers: tuple[ListenAddress, ...] = option(())


@attrs.frozen(kw_only=True)
class RegistrationSection:
    """Who gets an account."""

    open: bool = option(True)
    jit: bool = option(True)
    require_token: bool = option(False)
    username_length: int = option(9, madmail=8)
    username_min: int = option(9, madmail=8)
    username_max: int = option(9, madmail=20)
    password_length: int = option(22)
    password_min: int = option(9, madmail=8)
    rate_per_ip_hour: int = option(60)
    max_load_1m: float = option(5.0, madmail=0)
    min_available_memory: Size = option(size("200M"), madmail=0)
    min_free_disk_space: Size = option(size("1G"), madmail=0, aliases=("min_free_disk",))
    nocreate_file: Path | None = option(None)
    blocked_localparts: tuple[str, ...] = option(())


@attrs.frozen(kw_only=True)
class LimitsSection:
    """Sizes, rates, connections."""

    max_message_size: Size = option(size("30M"), madmail="100M")
    max_federation_size: Size = option(size("70M"))
    max_mailbox_size: Size = option(
        size("500M"), madmail="1G", aliases=("default_quota", "storage.mailbox")
    )
    send_rate_per_minute: int = option(
        60, madmail=0, aliases=("max_user_send_per_minute", "send_per_minute")
    )
    send_burst: int = option(10, aliases=("max_user_send_burst_size",))
    max_imap_connections: int = option(10000, aliases=("max_imap",))
    max_smtp_connections: int = option(1000, aliases=("max_smtp",))
    max_per_address: int = option(0, aliases=("per_ip",))
    imap_sessions_per_account: int = option(30)
    smtp_sessions_per_account: int = option(30)
    max_recipients: int = option(1000)


@attrs.frozen(kw_only=True)
class GateSection:
    """The encryption gate."""

    append_policy: Literal["encrypted", "any"] = option(
        "encrypted", aliases=("append_policy", "filter_append")
    )
    allow_secure_join: bool = option(True)
    minimise_bounces: bool = option(True)
    opacity_check: bool = option(True)
    strict_outer_headers: bool = option(False)
    allow_autocrypt_setup: bool = option(False)
    passthrough_senders: tuple[str, ...] = option(())
    passthrough_recipients: tuple[str, ...] = option(())


@attrs.frozen(kw_only=True)
class ImapSection:
    """The IMAP face."""

    compress: bool = option(True)
    idle_keepalive: Seconds = option(duration("240s"))


@attrs.frozen(kw_only=True)
class RetentionSection:
    """What expires when; 0 is never."""

    messages: Seconds = option(duration("20d"), madmail="off", aliases=("delete_mails_after",))
    large: Seconds = option(duration("7d"), madmail="off", aliases=("delete_large_after",))
    large_threshold: Size = option(Size(200000), aliases=("large_message_bytes",))
    inactive_accounts: Seconds = option(
        duration("90d"), madmail="off", aliases=("delete_inactive_users_after",)
    )
    unused_accounts: Seconds = option(
        duration("24h"), madmail="720h", aliases=("unused_account_retention",)
    )
    quota_trim: bool = option(True, madmail=False)
    quota_trim_high: Percent = option(Percent(75))
    quota_trim_low: Percent = option(Percent(70))
    address_quarantine: Seconds = option(duration("90d"), aliases=("address_quarantine_days",))
    seen: bool = option(False)
    seen_grace: Seconds = option(duration("1h"))
    interval: Seconds = option(duration("1h"))


@attrs.frozen(kw_only=True)
class StorageSection:
    """The store."""

    fsync: Literal["strict", "always", "optimized", "never"] = option(
        "always", aliases=("mail_fsync",)
    )


@attrs.frozen(kw_only=True)
class DatabaseSection:
    """The database."""

    url: str = option("sqlite", secret=True)


@attrs.frozen(kw_only=True)
class FederationSection:
    """Other relays, both ways."""

    enabled: bool = option(True)
    policy: Literal["accept", "reject"] = option("accept")
    stats: bool = option(True, aliases=("federation_stats",))
    smtp_port: Port = option(Port(25))
    https_port: Port = option(Port(443))
    http_port: Port = option(Port(80))
    ca_file: Path | None = option(None)
    tls: Literal["verify", "encrypt"] = option("verify")
    tls_noverify: tuple[str, ...] = option(())
    tls_optional: tuple[str, ...] = option(("nauta.cu",))
    http_fallback: Literal["literal", "always", "never"] = option("literal")
    prefer: Literal["ipv4", "ipv6"] = option("ipv4")
    outbound_bind: str = option("")
    endpoint_rewrite: str = option("")
    single_rcpt: tuple[str, ...] = option(())
    require_dkim: bool = option(True, aliases=("dkim",))
    dkim_exempt: tuple[str, ...] = option(())
    require_tls: bool = option(True, aliases=("inbound_tls",))
    mxdeliv_http: Literal["literal", "always"] = option("literal")
    literal_source: Literal["any", "match"] = option("any")
    unknown_recipient: Literal["bounce", "drop"] = option("bounce", aliases=("unknown_rcpt",))
    private_peers: Literal["auto", "allow", "refuse"] = option("auto")


@attrs.frozen(kw_only=True)
class QueueSection:
    """Deliveries that wait."""

    max_age: Seconds = option(duration("48h"), aliases=("lifetime", "queue_lifetime"))
    dsn_max_age: Seconds = option(duration("24h"))
    schedule: tuple[Seconds, ...] = option(durations("30s 1m 2m 5m 10m 15m 30m 1h"))
    parallelism: int = option(64, madmail=16, aliases=("max_parallel",))
    per_destination: int = option(4)
    start_delay: Seconds = option(duration("10s"), aliases=("post_init_delay",))
    reply_wait: Seconds = option(duration("1s"))


@attrs.frozen(kw_only=True)
class DkimSection:
    """Signing."""

    selector: str = option("opendkim", madmail="default")
    key_dir: Path | None = option(None)
    algorithms: str = option("rsa2048")
    canonicalization: str = option("relaxed/simple")
    rotate_every: Seconds = option(Seconds(0.0))
