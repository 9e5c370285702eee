"""Web servers that are trusted, and those that are not."""

from __future__ import annotations

from chatmail.domain.model.federation import HopFault, TlsRule
from tests.unit.adapters.outbound.rig import (
    DELIVERED,
    HASTE,
    Authority,
    fates,
    http_hop,
    letter,
    mxdeliv_transport,
    peer,
)
from tests.unit.adapters.outbound.web_server import WebServer, attempt


async def test_a_wrong_certificate_is_never_talked_to(authority: Authority) -> None:
    """A5.2."""
    server = WebServer()
    result = await attempt(
        server, tls=authority.server("other.example"), rule=TlsRule.VERIFY, authority=authority
    )
    assert result.fault is HopFault.TLS
    assert result.reply.startswith("454 4.7.5 Certificate not verified: ")
    assert server.requests == []


async def test_plain_http_on_the_tls_port_is_a_fault() -> None:
    result = await attempt(WebServer(), rule=TlsRule.ENCRYPT, patience=HASTE)
    assert result.fault is HopFault.TLS


async def test_a_literal_needs_no_certificate(authority: Authority) -> None:
    """A5.1."""
    server = WebServer()
    result = await attempt(
        server, tls=authority.server("x.example"), rule=TlsRule.ENCRYPT, host="127.0.0.1"
    )
    assert fates(result) == {"bob": DELIVERED}


async def test_http_is_what_we_speak(authority: Authority) -> None:
    """On 443 of a relay the protocol decides who answers."""
    context = authority.server("peer.example")
    context.set_alpn_protocols(["imap", "smtp", "h2", "http/1.1"])
    server = WebServer()
    await attempt(server, tls=context, rule=TlsRule.VERIFY, authority=authority)
    assert server.versions == ["http/1.1"]


async def test_the_next_session_is_resumed(authority: Authority) -> None:
    """A5.6."""
    server = WebServer()
    transport = mxdeliv_transport(authority.file)
    async with peer(server, tls=authority.server("peer.example")) as served:
        for _ in range(2):
            await transport.attempt(http_hop(served.port), letter())
            transport.pool.close()
    assert server.resumed == [False, True]
