# ruff: noqa: RUF009  (`option` wraps attrs.field: nothing mutable is shared)
"""Every key of the configuration file with its type, defaults and older names.

The table of spec admin 5.2, as classes: one per section, one field per key. Keys of features
that are not built yet are read and checked all the same, so that a full file is valid.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import attrs

from chatmail.app.config_values import (
    IpAddress,
    IpNetwork,
    ListenAddress,
    Percent,
    Port,
    Seconds,
    Size,
    Targets,
    duration,
    durations,
    listen_addresses,
    size,
)

T = TypeVar("T")

UNSET: Final = object()


def option(
    default: T, *, madmail: object = UNSET, aliases: tuple[str, ...] = (), secret: bool = False
) -> T:
    """Declare a key.

    Args:  madmail: the default of that profile, as the file would give it. aliases: older
        names; one without a dot is read in its own section and at the top. secret: never shown.
    """
    metadata = {"madmail": madmail, "aliases": aliases, "secret": secret}
    field: T = attrs.field(default=default, metadata=metadata)
    return field


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


@attrs.frozen(kw_only=True)
class AdminSection:
    """The operator's faces; an empty token is the one in the file `admin_token`."""

    path: str = option("/api/admin", aliases=("web.admin_path",))
    token: str = option("", secret=True)
    cors_origins: tuple[str, ...] = option(())
    hosted_panels: bool = option(False)
    web_enabled: bool = option(False)
    web_path: str = option("/admin", aliases=("web.admin_web_path",))
    web_dir: Path | None = option(None)
    allow_from: tuple[IpNetwork, ...] = option(())


@attrs.frozen(kw_only=True)
class WebSection:
    """Public pages; `dir` none is the built-in ones."""

    dir: Path | None = option(None, aliases=("www_dir", "www_folder"))
    language: str = option("en")
    privacy_postal: str = option("")
    privacy_mail: str = option("")
    privacy_pdo: str = option("")
    privacy_supervisor: str = option("")
    contact_sharing: bool = option(False)
    title: str = option("")
    dcaccount_style: Literal["url", "host"] = option("url")
    app: bool = option(False)
    serve_release: bool = option(False)


@attrs.frozen(kw_only=True)
class WebimapSection:
    """Web IMAP."""

    enabled: bool = option(False)


@attrs.frozen(kw_only=True)
class WebsmtpSection:
    """Web SMTP."""

    enabled: bool = option(False)


@attrs.frozen(kw_only=True)
class WebmailSection:
    """Both web mail faces."""

    cors_origins: tuple[str, ...] = option((), aliases=("web.cors_origins",))


@attrs.frozen(kw_only=True)
class PushSection:
    """Push notifications."""

    mode: Literal["auto", "on", "off"] = option("auto", madmail="off")
    endpoint: str = option("https://notifications.delta.chat/notify", aliases=("push_url",))


@attrs.frozen(kw_only=True)
class TurnSection:
    """Calls."""

    enabled: bool = option(True, aliases=("turn_enable", "turn_enabled"))
    host: str = option("", aliases=("turn_server", "turn_host"))
    realm: str = option("", aliases=("turn_realm",))
    secret: str = option("", aliases=("turn_secret",), secret=True)
    previous_secret: str = option("", aliases=("turn_previous_secret",), secret=True)
    ttl: Seconds = option(Seconds(86400.0), aliases=("turn_ttl",))
    relay_ip: str = option("auto", aliases=("turn_relay_ip",))
    relay_ip6: str = option("auto", aliases=("turn_relay_ip6",))
    relay_ports: str = option("49152-51199", aliases=("turn_relay_ports",))
    allow_private_peers: bool = option(False, aliases=("turn_allow_private_peers",))
    allowed_peers: tuple[IpNetwork, ...] = option((), aliases=("turn_allowed_peers",))
    denied_peers: tuple[IpNetwork, ...] = option((), aliases=("turn_denied_peers",))
    max_per_account: int = option(10, aliases=("turn_max_per_account",))
    max_per_ip: int = option(20, aliases=("turn_max_per_ip",))
    max_total: int = option(2000, aliases=("turn_max_total",))
    max_rate: Size = option(size("2M/s"), aliases=("turn_max_rate",))


@attrs.frozen(kw_only=True)
class IrohSection:
    """Peer-to-peer relay; `relay_url` "own" is ours, empty advertises none."""

    enabled: bool = option(True, madmail=False)
    relay_url: str = option("own")
    max_per_ip: int = option(64)
    max_total: int = option(8192)


@attrs.frozen(kw_only=True)
class ShadowsocksSection:
    """Circumvention; off without a password."""

    password: str = option("", aliases=("ss_password",), secret=True)
    cipher: str = option("aes-128-gcm", aliases=("ss_cipher",))
    allowed_ports: tuple[int, ...] = option((), aliases=("ss_allowed_ports",))


@attrs.frozen(kw_only=True)
class LogSection:
    """Where records go, and which."""

    target: Targets = option(Targets(("stderr",)), madmail="off")
    level: Literal["debug", "info", "warning", "error"] = option("info")
    format: Literal["text", "json"] = option("text")
    ip: Literal["none", "truncate"] = option("none")
    addresses: Literal["hash", "none"] = option("hash")
    audit: bool = option(True)


@attrs.frozen(kw_only=True)
class MetricsSection:
    """Metrics."""

    path: str = option("/metrics")
    token: str = option("", secret=True)
    legacy_names: bool = option(True)
    peer_labels: bool = option(False)


@attrs.frozen(kw_only=True)
class BackupSection:
    """Backups."""

    dir: Path | None = option(None)
    schedule: str = option("off")
    keep: int = option(7)
    encrypt_to: str = option("")


@attrs.frozen(kw_only=True)
class AlertsSection:
    """Alerts."""

    webhook: str = option("", secret=True)
    disk_percent: Percent = option(Percent(90))
    queue_age: Seconds = option(duration("6h"))
    cert_days: int = option(7)
    push_failures: int = option(5)


def _part(section_class: type[T]) -> T:
    field: T = attrs.field(factory=section_class)
    return field


@attrs.frozen(kw_only=True)
class BootConfig:
    """The whole file, frozen."""

    server: ServerSection = _part(ServerSection)
    tls: TlsSection = _part(TlsSection)
    listen: ListenSection = _part(ListenSection)
    http: HttpSection = _part(HttpSection)
    dns: DnsSection = _part(DnsSection)
    registration: RegistrationSection = _part(RegistrationSection)
    limits: LimitsSection = _part(LimitsSection)
    gate: GateSection = _part(GateSection)
    imap: ImapSection = _part(ImapSection)
    retention: RetentionSection = _part(RetentionSection)
    storage: StorageSection = _part(StorageSection)
    database: DatabaseSection = _part(DatabaseSection)
    federation: FederationSection = _part(FederationSection)
    queue: QueueSection = _part(QueueSection)
    dkim: DkimSection = _part(DkimSection)
    admin: AdminSection = _part(AdminSection)
    web: WebSection = _part(WebSection)
    webimap: WebimapSection = _part(WebimapSection)
    websmtp: WebsmtpSection = _part(WebsmtpSection)
    webmail: WebmailSection = _part(WebmailSection)
    push: PushSection = _part(PushSection)
    turn: TurnSection = _part(TurnSection)
    iroh: IrohSection = _part(IrohSection)
    shadowsocks: ShadowsocksSection = _part(ShadowsocksSection)
    log: LogSection = _part(LogSection)
    metrics: MetricsSection = _part(MetricsSection)
    backup: BackupSection = _part(BackupSection)
    alerts: AlertsSection = _part(AlertsSection)

    @property
    def state_dir(self) -> Path:
        """Where everything durable lives."""
        return self.server.state_dir or Path("/var/lib/chatmail")

    @property
    def runtime_dir(self) -> Path:
        """Where the control socket lives."""
        return self.server.runtime_dir or self.state_dir / "run"

    @property
    def nocreate_file(self) -> Path:
        """The file whose presence stops new accounts."""
        return self.registration.nocreate_file or self.state_dir / "nocreate"

    @property
    def dkim_dir(self) -> Path:
        """Where signing keys live."""
        return self.dkim.key_dir or self.state_dir / "dkim"

    @property
    def backup_dir(self) -> Path:
        """Where backups go."""
        return self.backup.dir or self.state_dir / "backup"


def _fields() -> dict[str, attrs.Attribute[Any]]:
    return {
        f"{part.name}.{field.name}": field
        for part in attrs.fields(BootConfig)
        for field in attrs.fields(SECTIONS[part.name])
    }


SECTIONS: Final[dict[str, type[Any]]] = {
    name: type(value) for name, value in attrs.asdict(BootConfig(), recurse=False).items()
}
FIELDS: Final = _fields()
PATHS: Final = frozenset(n for n, field in FIELDS.items() if str(field.type) == "Path | None")


def _aliases() -> dict[str, str]:
    found: dict[str, str] = {}
    for name, field in FIELDS.items():
        for alias in field.metadata.get("aliases", ()):
            found[alias] = name
            if "." not in alias:
                found.setdefault(f"{name.partition('.')[0]}.{alias}", name)
    return {alias: name for alias, name in found.items() if alias not in FIELDS}


ALIASES: Final = _aliases()
