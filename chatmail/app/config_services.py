# ruff: noqa: RUF009  (`option` wraps attrs.field: nothing mutable is shared)
"""Keys of what stands beside mail: operator and web faces, push, calls, log, metrics, backup.

Written as `config_sections` is: one class per section, one field per key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import attrs

from chatmail.app.config_option import option
from chatmail.app.config_values import (
    IpNetwork,
    Percent,
    Seconds,
    Size,
    Targets,
    duration,
    size,
)


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
