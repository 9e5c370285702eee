"""Messages as requests: head, body, recipients, paths."""

from __future__ import annotations

import attrs
import pytest

from chatmail.adapters.outbound.mxdeliv import host_field
from chatmail.domain.model.federation import HopFault, TlsRule
from tests.unit.adapters.outbound.rig import (
    CONTENT,
    DELIVERED,
    PERMANENT,
    Authority,
    PeerStream,
    fates,
    http_hop,
    letter,
    mxdeliv_transport,
)
from tests.unit.adapters.outbound.web_server import OK, WebServer, answer, attempt


async def test_a_message_is_posted_as_it_is(authority: Authority) -> None:
    """A4: the fields, a length instead of chunks, no dots stuffed, the signature in front."""
    server = WebServer()
    result = await attempt(
        server,
        letter("bob", "carol", prefix=b"DKIM-Signature: x\r\n"),
        tls=authority.server("peer.example"),
        rule=TlsRule.VERIFY,
        authority=authority,
    )
    assert result.fault is None
    assert fates(result) == {"bob": DELIVERED, "carol": DELIVERED}
    assert result.outcomes[0].reply == "250 2.0.0 OK"
    (request,) = server.requests
    assert request.head.startswith("POST /mxdeliv HTTP/1.1\r\n")
    body = b"DKIM-Signature: x\r\n" + CONTENT
    assert request.body == body
    assert request.fields[0][1].startswith("peer.example:")
    assert request.fields[1:] == [
        ("X-Mail-From", "alice@relay.example"),
        ("X-Mail-To", "bob@peer.example"),
        ("X-Mail-To", "carol@peer.example"),
        ("Content-Type", "message/rfc822"),
        ("Content-Length", str(len(body))),
        ("User-Agent", "chatmail/1"),
    ]


async def test_the_null_sender_is_an_empty_field() -> None:
    server = WebServer()
    await attempt(server, letter(sender=None))
    assert "\r\nX-Mail-From: \r\n" in server.requests[0].head


async def test_a_large_message_arrives_whole(authority: Authority) -> None:
    content = bytes(range(256)) * 4096
    server = WebServer()
    result = await attempt(
        server,
        letter(content=content, prefix=b"X: y\r\n"),
        tls=authority.server("peer.example"),
        rule=TlsRule.ENCRYPT,
    )
    assert fates(result) == {"bob": DELIVERED}
    assert server.requests[0].body == b"X: y\r\n" + content


@pytest.mark.parametrize("content", [b"", b"x" * 65536, b"x" * 65537, b"x" * 131072])
async def test_every_size_arrives_whole(content: bytes) -> None:
    server = WebServer()
    assert fates(await attempt(server, letter(content=content))) == {"bob": DELIVERED}
    assert server.requests[0].body == content


async def test_head_and_small_body_leave_in_one_write() -> None:
    pieces: list[bytes] = []

    async def server(stream: PeerStream) -> None:
        pieces.append(await stream.stream.receive_some())
        await stream.send(OK)

    await attempt(server)
    assert pieces[0].startswith(b"POST ")
    assert pieces[0].endswith(CONTENT)


async def test_many_recipients_are_several_requests() -> None:
    """A4.1."""
    server = WebServer(OK, answer("400 no", "550 5.7.1 no\n"))
    result = await attempt(server, letter(*(f"u{number}" for number in range(70))))
    assert len(server.requests) == 2
    assert server.connections == 1
    assert len(fates(result)) == 70
    assert fates(result)["u0"] is DELIVERED
    assert fates(result)["u69"] is PERMANENT


async def test_a_peer_that_serves_the_first_recipient_only_gets_a_request_for_each() -> None:
    """A4.3."""
    server = WebServer(OK, OK, OK)
    result = await attempt(server, letter("u0", "u1", "u2"), takes_one=True)
    assert len(server.requests) == 3
    assert len(fates(result)) == 3


async def test_a_fault_in_a_later_request_keeps_the_outcomes_before() -> None:
    server = WebServer(OK, answer("503 no", "", "Retry-After: 30"))
    result = await attempt(server, letter(*(f"u{number}" for number in range(70))))
    assert (result.fault, result.retry_after_s) == (HopFault.BUSY, 30.0)
    assert len(fates(result)) == 50


@pytest.mark.parametrize(
    ("host", "port", "default", "field"),
    [
        ("peer.example", 443, 443, "peer.example"),
        ("peer.example", 8443, 443, "peer.example:8443"),
        ("::1", 443, 443, "[::1]"),
        ("::1", 80, 443, "[::1]:80"),
        ("127.0.0.1", 80, 80, "127.0.0.1"),
    ],
)
def test_the_host_field(host: str, port: int, default: int, field: str) -> None:
    """A2.3: IPv6 in brackets."""
    assert host_field(host, port, default) == field


@pytest.mark.parametrize("path", ["/a b", "/\u00e4", "/x\r\nX: y", ""])
async def test_a_path_that_is_none_is_not_posted_to(path: str) -> None:
    hop = attrs.evolve(http_hop(1), path=path)
    result = await mxdeliv_transport().attempt(hop, letter())
    assert (result.fault, result.reply[:9]) == (HopFault.BROKEN, "451 4.3.5")
