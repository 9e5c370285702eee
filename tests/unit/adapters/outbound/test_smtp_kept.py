"""SMTP connections that are kept for the next message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from chatmail.adapters.outbound.smtp import SmtpTransport
from chatmail.domain.model.federation import HopFault, HopResult, TlsRule
from tests.unit.adapters.outbound.mail_server import MailServer, breaking
from tests.unit.adapters.outbound.rig import (
    DELIVERED,
    Authority,
    PeerStream,
    Script,
    fates,
    letter,
    peer,
    smtp_hop,
    smtp_transport,
)


async def several(transport: SmtpTransport, port: int, count: int) -> list[HopResult]:
    hop = smtp_hop(port, TlsRule.NONE)
    return [await transport.attempt(hop, letter()) for _ in range(count)]


async def test_a_connection_is_kept_for_the_next_message() -> None:
    """A6.7."""
    server = MailServer()
    transport = smtp_transport()
    async with peer(server) as served:
        await several(transport, served.port, 3)
        transport.pool.close()
    assert server.sessions == 1
    assert [line for line in served.heard if line in ("RSET", "QUIT")] == ["RSET", "RSET"]
    assert len(server.contents) == 3


async def test_ten_messages_are_enough_for_a_connection() -> None:
    """A6.7."""
    server = MailServer()
    transport = smtp_transport()
    async with peer(server) as served:
        await several(transport, served.port, 11)
        transport.pool.close()
    assert server.sessions == 2
    assert served.heard.count("QUIT") == 1


async def test_a_connection_is_not_shared_between_rules(authority: Authority) -> None:
    server = MailServer(authority.server("peer.example"))
    transport = smtp_transport(authority.file)
    async with peer(server) as served:
        await transport.attempt(smtp_hop(served.port, TlsRule.NONE), letter())
        result = await transport.attempt(smtp_hop(served.port, TlsRule.VERIFY), letter())
        transport.pool.close()
    assert result.fault is None
    assert server.sessions == 2


def once(then: Callable[[PeerStream], Awaitable[None]]) -> Script:
    """One delivery, and then something else when RSET comes."""

    async def serve(stream: PeerStream) -> None:
        await stream.send("220 x\r\n")
        await stream.line()
        await stream.send("250-x\r\n250 PIPELINING\r\n")
        for _ in range(3):
            await stream.line()
        await stream.send("250 ok\r\n250 ok\r\n354 go\r\n")
        await stream.until(b"\r\n.\r\n")
        await stream.send("250 ok\r\n")
        await then(stream)

    return serve


async def _close(stream: PeerStream) -> None:
    await stream.line()


async def _dismiss(stream: PeerStream) -> None:
    await stream.line()
    await stream.send("421 4.4.2 idle for too long\r\n")


async def _enough(stream: PeerStream) -> None:
    await stream.line()
    await stream.send("250 ok\r\n451 4.7.0 too many messages in this session\r\n")
    await stream.line()


async def _leave(stream: PeerStream) -> None:
    await stream.send("421 4.4.2 idle for too long\r\n")


@pytest.mark.parametrize("then", [_close, _dismiss, _enough, _leave])
async def test_a_kept_connection_that_ended_is_replaced_once(
    then: Callable[[PeerStream], Awaitable[None]],
) -> None:
    second = MailServer()
    transport = smtp_transport()
    async with peer(once(then), second) as served:
        first_result, second_result = await several(transport, served.port, 2)
        transport.pool.close()
    assert fates(first_result) == fates(second_result) == {"bob": DELIVERED}
    assert len(second.contents) == 1


async def test_a_new_connection_that_fails_is_not_tried_again() -> None:
    transport = smtp_transport()
    async with peer(once(_close), breaking("envelope")) as served:
        _, result = await several(transport, served.port, 2)
    assert result.fault is HopFault.BROKEN
    assert len(served.connections) == 2
