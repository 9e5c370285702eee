"""One listener description per face name of `[listen]`."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from chatmail.adapters.http.serve import HttpFace
from chatmail.adapters.imap.server import serve_connection as serve_imap
from chatmail.adapters.imap.services import ImapServices
from chatmail.adapters.net.crowds import ConnectionLimits, Crowd
from chatmail.adapters.net.listeners import Face, FaceListener, TlsMode
from chatmail.adapters.net.streams import Stream
from chatmail.adapters.net.tls import TlsPurpose
from chatmail.adapters.smtp.server import serve_connection as serve_smtp
from chatmail.adapters.smtp.services import SmtpServices
from chatmail.app.config_identity import tls_mode
from chatmail.app.live_settings import LiveSettings
from chatmail.domain.wire.smtp.sequence import Role

if TYPE_CHECKING:
    from chatmail.app.config_keys import BootConfig
    from chatmail.app.config_values import IpNetwork

HTTP_CONNECTIONS: Final = 2000
RELAY_CONNECTIONS: Final = ConnectionLimits(total=500, per_source=50)  # federation-web.md B1.7


def listeners(
    boot: BootConfig,
    settings: LiveSettings,
    smtp: SmtpServices,
    imap: ImapServices,
    http: HttpFace,
) -> dict[str, FaceListener]:
    """One listener description per face name of `[listen]`."""

    def imap_limits() -> ConnectionLimits:
        limits = settings().limits
        return ConnectionLimits(limits.max_imap_connections, limits.max_per_address)

    def smtp_limits() -> ConnectionLimits:
        limits = settings().limits
        return ConnectionLimits(limits.max_smtp_connections, limits.max_per_address)

    full = b"421 4.7.0 Too many connections\r\n"
    submission = Face(handler=partial(_submission, smtp), crowd=Crowd(smtp_limits), refusal=full)
    relay = Face(
        handler=partial(_relay, smtp), crowd=Crowd(lambda: RELAY_CONNECTIONS), refusal=full
    )
    mailbox = Face(
        handler=_imap(imap),
        crowd=Crowd(imap_limits),
        refusal=b"* BYE [UNAVAILABLE] Too many connections\r\n",
    )
    web = Face(
        handler=http.serve_connection,
        crowd=Crowd(lambda: ConnectionLimits(total=HTTP_CONNECTIONS)),
    )
    mux = {"imap": mailbox, "smtp": submission} if boot.http.alpn_mux else {}
    # federation-web.md E1.4: a proxy in front ends TLS; only it may speak cleartext to these.
    is_proxied = tls_mode(boot) == "external-proxy"
    front = TlsMode.PROXIED if is_proxied else TlsMode.IMPLICIT
    admits = partial(_is_proxy, boot.http.trusted_proxies) if is_proxied else _everybody
    described = (
        FaceListener(name="smtp", tls=TlsMode.STARTTLS, purpose=TlsPurpose.RELAY, face=relay),
        FaceListener(
            name="submission", tls=TlsMode.STARTTLS, purpose=TlsPurpose.SUBMISSION, face=submission
        ),
        FaceListener(
            name="submissions",
            tls=front,
            purpose=TlsPurpose.SUBMISSION,
            face=submission,
            admits=admits,
        ),
        FaceListener(name="imap", tls=TlsMode.STARTTLS, purpose=TlsPurpose.IMAP, face=mailbox),
        FaceListener(name="imaps", tls=front, purpose=TlsPurpose.IMAP, face=mailbox, admits=admits),
        FaceListener(name="http", tls=TlsMode.NONE, face=web),
        FaceListener(
            name="https",
            tls=front,
            purpose=TlsPurpose.HTTPS,
            face=web,
            alpn=mux,
            admits=admits,
        ),
    )
    return {listener.name: listener for listener in described}


def _everybody(_host: str) -> bool:
    return True


def _is_proxy(networks: tuple[IpNetwork, ...], host: str) -> bool:
    address = ipaddress.ip_address(host.partition("%")[0])
    return address.is_loopback or any(address in network for network in networks)


async def _submission(services: SmtpServices, stream: Stream) -> None:
    await serve_smtp(stream, services, Role.SUBMISSION)


async def _relay(services: SmtpServices, stream: Stream) -> None:
    await serve_smtp(stream, services, Role.INBOUND)


def _imap(services: ImapServices) -> Callable[[Stream], Awaitable[None]]:
    async def handle(stream: Stream) -> None:
        await serve_imap(stream, services)

    return handle
