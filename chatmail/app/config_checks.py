"""What types cannot see: values of the configuration that do not fit one another.

Each check yields findings; none raises. Source:  spec admin 5.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

from chatmail.adapters.dkim.keys import is_selector, parse_algorithms
from chatmail.adapters.dkim.signer import parse_forms
from chatmail.app.config_identity import mail_domain, tls_mode
from chatmail.app.config_keys import BootConfig
from chatmail.app.config_sections import FACES
from chatmail.app.config_tls import pair_problem
from chatmail.app.config_values import ListenAddress, quoted
from chatmail.domain.model.address import AddressError, EmailAddress, is_literal, normalise_domain

MIN_TOKEN_CHARACTERS: Final = 32
IDLE_KEEPALIVE_S: Final = (60, 270)

_ORIGIN: Final = re.compile(r"https?://[^/\s?#@]+\Z")
_ENDPOINT: Final = re.compile(r"https?://[^/\s?#@]+(/[^\s?#]*)?\Z")
_PORTS: Final = re.compile(r"(\d{1,5})-(\d{1,5})\Z")
_RESERVED_PATHS: Final = ("/new", "/mxdeliv", "/.well-known")


@attrs.frozen
class Finding:
    """One thing the operator should know; the first of `keys` is blamed."""

    keys: tuple[str, ...]
    message: str
    is_warning: bool = False


def check(
    boot: BootConfig, *, file: Path | None, secrets: tuple[str, ...], now_s: float
) -> list[Finding]:
    """Return every finding. `secrets`: keys whose values stand literally in the file."""
    return [
        *_identity(boot),
        *_registration(boot),
        *_limits(boot),
        *_federation(boot),
        *_dkim(boot),
        *_listeners(boot),
        *_turn(boot),
        *_admin(boot),
        *_origins(boot),
        *_metrics(boot),
        *_tls(boot, now_s),
        *_secrets(file, secrets),
        *_storage(boot),
    ]


def check_settings(boot: BootConfig) -> list[Finding]:
    """Return the findings that live settings can cause or mend; no file is read."""
    return [*_identity(boot), *_registration(boot), *_limits(boot), *_listeners(boot)]


def _identity(boot: BootConfig) -> Iterator[Finding]:
    server = boot.server
    if server.domain and server.ip:
        yield Finding(("server.ip", "server.domain"), "server.domain is given as well: choose one")
    elif not server.domain and server.ip is None:
        yield Finding(("server.domain", "server.ip"), "is missing (set it, or server.ip)")
    elif server.domain:
        yield from _domain(server.domain)
    for domain in server.extra_domains:
        if _normal(domain) is None:
            yield Finding(("server.extra_domains",), f"{quoted(domain)} is not a domain")
    if server.hostname and _normal(server.hostname) is None:
        yield Finding(("server.hostname",), f"{quoted(server.hostname)} is not a host name")
    for name in ("passthrough_senders", "passthrough_recipients"):
        for text in getattr(boot.gate, name):
            if not _is_address_or_domain(text, may_be_domain=name.endswith("recipients")):
                yield Finding((f"gate.{name}",), f"{quoted(text)} is not an address")


def _domain(domain: str) -> Iterator[Finding]:
    normal = _normal(domain)
    if normal is not None and is_literal(normal):
        yield Finding(("server.domain",), f"{quoted(domain)} is an IP address: use server.ip")
    elif normal is None or "." not in normal:
        yield Finding(("server.domain",), f"{quoted(domain)} is not a fully qualified domain name")


def _normal(domain: str) -> str | None:
    try:
        return normalise_domain(domain)
    except AddressError:
        return None


def _is_address_or_domain(text: str, *, may_be_domain: bool) -> bool:
    if may_be_domain and text.startswith("@"):
        return _normal(text[1:]) is not None
    try:
        EmailAddress.parse(text)
    except AddressError:
        return False
    return True


def _registration(boot: BootConfig) -> Iterator[Finding]:
    part = boot.registration
    lengths = ("registration.username_min", "registration.username_max")
    if part.username_min > part.username_max:
        yield Finding(lengths, f"is above registration.username_max ({part.username_max})")
    elif not part.username_min <= part.username_length <= part.username_max:
        yield Finding(
            ("registration.username_length", *lengths),
            f"is outside {part.username_min} to {part.username_max}, the lengths accepted",
        )
    if part.username_min < 1 or part.username_max > 64:
        yield Finding(lengths, "lengths are 1 to 64")
    if part.password_length < part.password_min:
        yield Finding(
            ("registration.password_length", "registration.password_min"),
            f"is below registration.password_min ({part.password_min})",
        )
    if part.password_length > 256:
        yield Finding(("registration.password_length",), "is above 256, the longest password")


def _federation(boot: BootConfig) -> Iterator[Finding]:
    part, queue = boot.federation, boot.queue
    for name in ("tls_noverify", "tls_optional", "dkim_exempt", "single_rcpt"):
        for domain in getattr(part, name):
            if _normal(domain) is None:
                yield Finding((f"federation.{name}",), f"{quoted(domain)} is not a domain")
    if part.endpoint_rewrite and not _ENDPOINT.match(part.endpoint_rewrite):
        yield Finding(("federation.endpoint_rewrite",), "is not an http or https address")
    if not queue.schedule or min(queue.schedule) < 1:
        yield Finding(("queue.schedule",), "needs at least one wait, each of 1s or more")
    for name in ("parallelism", "per_destination"):
        if getattr(queue, name) < 1:
            yield Finding((f"queue.{name}",), "must be at least 1")


def _dkim(boot: BootConfig) -> Iterator[Finding]:
    part = boot.dkim
    for name, parse in (("algorithms", parse_algorithms), ("canonicalization", parse_forms)):
        try:
            parse(getattr(part, name))
        except ValueError:
            yield Finding((f"dkim.{name}",), f"{quoted(getattr(part, name))} is not understood")
    if not is_selector(part.selector):
        yield Finding(("dkim.selector",), f"{quoted(part.selector)} is not a DKIM selector")


def _limits(boot: BootConfig) -> Iterator[Finding]:
    limits = boot.limits
    if limits.max_message_size > limits.max_mailbox_size:
        yield Finding(
            ("limits.max_message_size", "limits.max_mailbox_size"),
            f"is above limits.max_mailbox_size ({limits.max_mailbox_size} octets)",
        )
    for name in ("max_message_size", "max_federation_size", "max_mailbox_size", "max_recipients"):
        if getattr(limits, name) < 1:
            yield Finding((f"limits.{name}",), "is 0")
    if limits.send_rate_per_minute and limits.send_burst < 1:
        yield Finding(("limits.send_burst",), "is 0: nobody could send")
    low, high = IDLE_KEEPALIVE_S
    if not low <= boot.imap.idle_keepalive <= high:
        yield Finding(("imap.idle_keepalive",), f"is outside {low}s to {high}s")
    if boot.retention.interval < 1:
        yield Finding(("retention.interval",), "is below 1s")
    trim = ("retention.quota_trim_low", "retention.quota_trim_high")
    if boot.retention.quota_trim_low > boot.retention.quota_trim_high:
        yield Finding(trim, "is above retention.quota_trim_high")


def _listeners(boot: BootConfig) -> Iterator[Finding]:
    taken: list[tuple[str, ListenAddress]] = []
    for face in FACES:
        for address in getattr(boot.listen, face):
            other = next((name for name, used in taken if _is_same(used, address)), None)
            if other is not None:
                keys = (f"listen.{face}", f"listen.{other}")
                yield Finding(keys, f"{address} is taken by listen.{other}")
            taken.append((face, address))


def _is_same(one: ListenAddress, other: ListenAddress) -> bool:
    if one.is_unix or other.is_unix:
        return one == other
    if one.port != other.port or one.port == 0:
        return False
    return one.host == other.host or "*" in (one.host, other.host)


def _turn(boot: BootConfig) -> Iterator[Finding]:
    key = "turn.relay_ports"
    match = _PORTS.match(boot.turn.relay_ports)
    if match is None:
        yield Finding((key,), f"{quoted(boot.turn.relay_ports)} is not a range (use 49152-51199)")
        return
    low, high = int(match[1]), int(match[2])
    if low > high:
        yield Finding((key,), f"{low} is above {high}")
    elif low < 1 or high > 65535:
        yield Finding((key,), "ports are 1 to 65535")
    for address in (*boot.listen.turn, *boot.listen.turns):
        if not address.is_unix and address.port and low <= address.port <= high:
            yield Finding((key, "listen.turn"), f"contains the control port {address.port}")


def _admin(boot: BootConfig) -> Iterator[Finding]:
    paths = {"admin.path": boot.admin.path, "admin.web_path": boot.admin.web_path}
    for key, path in paths.items():
        if not path.startswith("/") or path.rstrip("/") == "":
            yield Finding((key,), f"{quoted(path)} is not a path below /")
        for reserved in _RESERVED_PATHS:
            if _is_inside(path, reserved) or _is_inside(reserved, path):
                yield Finding((key,), f"{quoted(path)} collides with {reserved}")
    if _is_inside(boot.admin.path, boot.admin.web_path):
        keys = ("admin.path", "admin.web_path")
        yield Finding(keys, f"is equal to or inside admin.web_path ({boot.admin.web_path})")
    if boot.admin.token and len(boot.admin.token) < MIN_TOKEN_CHARACTERS:
        yield Finding(("admin.token",), f"is shorter than {MIN_TOKEN_CHARACTERS} characters")


def _is_inside(path: str, outer: str) -> bool:
    path, outer = path.rstrip("/"), outer.rstrip("/")
    return path == outer or path.startswith(outer + "/")


def _origins(boot: BootConfig) -> Iterator[Finding]:
    for key, origins in (
        ("admin.cors_origins", boot.admin.cors_origins),
        ("webmail.cors_origins", boot.webmail.cors_origins),
    ):
        for origin in origins:
            if origin != "*" and not _ORIGIN.match(origin):
                yield Finding((key,), f"{quoted(origin)} is not an origin (scheme://host, no path)")


def _metrics(boot: BootConfig) -> Iterator[Finding]:
    is_public = not all(address.is_loopback for address in boot.listen.metrics)
    if is_public and not boot.metrics.token:
        message = "METRICS ARE OPEN TO EVERYBODY: listen on loopback or set metrics.token"
        yield Finding(("listen.metrics", "metrics.token"), message, is_warning=True)


def _tls(boot: BootConfig, now_s: float) -> Iterator[Finding]:
    mode = tls_mode(boot)
    if mode == "acme" and boot.tls.acme_challenge == "http-01":
        if not boot.listen.http:
            message = "http-01 needs port 80, but listen.http is empty"
            yield Finding(("tls.acme_challenge", "listen.http"), message)
        elif all(address.port != 80 for address in boot.listen.http):
            message = "http-01 comes in on port 80: something has to pass it to listen.http"
            yield Finding(("listen.http",), message, is_warning=True)
    if mode != "files":
        return
    for key in ("cert", "key"):
        if getattr(boot.tls, key) is None:
            yield Finding((f"tls.{key}", "tls.mode"), 'is missing (tls.mode is "files")')
    if boot.tls.cert and boot.tls.key:
        problem = pair_problem(boot.tls.cert, boot.tls.key, mail_domain(boot) or "", now_s)
        if problem:
            yield Finding(("tls.cert", "tls.key"), problem)


def _secrets(file: Path | None, secrets: tuple[str, ...]) -> Iterator[Finding]:
    if file is None or not secrets:
        return
    try:
        is_readable = bool(file.stat().st_mode & 0o004)
    except OSError:
        return
    if is_readable:
        message = "everybody on this machine can read the file with this secret (chmod 640)"
        yield Finding(secrets[:1], message, is_warning=True)


def _storage(boot: BootConfig) -> Iterator[Finding]:
    if boot.storage.fsync in ("optimized", "never"):
        message = f"{boot.storage.fsync}: has no effect, every message is synced before its 250"
        yield Finding(("storage.fsync",), message, is_warning=True)
    url = boot.database.url
    if not re.match(r"sqlite(?::.+)?\Z|postgres(?:ql)?://", url):
        yield Finding(("database.url",), "is neither sqlite, sqlite:PATH nor postgresql://…")
