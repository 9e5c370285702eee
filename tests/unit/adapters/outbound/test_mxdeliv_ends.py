"""Losses and silence of a web server, and what is known of the message then."""

from __future__ import annotations

import attrs
import pytest
import trio

from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.federation import HopFault, TlsRule
from tests.unit.adapters.outbound.rig import (
    CONTENT,
    HASTE,
    PATIENCE,
    PeerStream,
    http_hop,
    letter,
    mxdeliv_transport,
    peer,
)
from tests.unit.adapters.outbound.web_server import OK, WebServer, attempt


async def test_no_answer_after_everything_was_sent_is_ambiguous() -> None:
    """A3.4."""

    async def server(stream: PeerStream) -> None:
        await stream.until(b"dots\r\n")

    result = await attempt(server)
    assert (result.fault, result.reply[:9]) == (HopFault.AMBIGUOUS, "451 4.4.2")


async def test_silence_after_everything_was_sent_is_ambiguous() -> None:
    async def server(stream: PeerStream) -> None:
        await trio.sleep_forever()

    result = await attempt(server, patience=HASTE)
    assert result.fault is HopFault.AMBIGUOUS


async def test_silence_after_a_large_message_is_ambiguous() -> None:
    async def server(stream: PeerStream) -> None:
        await stream.exactly(200_000)
        await trio.sleep_forever()

    result = await attempt(server, letter(content=b"x" * 100_000), patience=HASTE)
    assert result.fault is HopFault.AMBIGUOUS


async def test_a_loss_amid_the_body_is_not_ambiguous() -> None:
    async def server(stream: PeerStream) -> None:
        await stream.until(b"\r\n\r\n")

    result = await attempt(server, letter(content=b"x" * 20_000_000))
    assert (result.fault, result.reply) == (HopFault.BROKEN, "451 4.4.2 Connection lost")


async def test_a_stalled_upload_times_out() -> None:
    """A4.8."""

    async def server(stream: PeerStream) -> None:
        await trio.sleep_forever()

    with trio.fail_after(60):
        result = await attempt(server, letter(content=b"x" * 20_000_000), patience=HASTE)
    assert (result.fault, result.reply) == (HopFault.BROKEN, "451 4.4.2 Timed out")


async def test_a_request_has_an_end_whatever_the_server_does() -> None:
    async def server(stream: PeerStream) -> None:
        await stream.until(b"\r\n\r\n")
        while True:
            await stream.exactly(100_000)
            await trio.sleep(0.02)

    patience = attrs.evolve(PATIENCE, http_base=0.3, http_octets_per_s=1e12)
    result = await attempt(server, letter(content=b"x" * 200_000_000), patience=patience)
    assert (result.fault, result.reply) == (HopFault.BROKEN, "451 4.4.2 Timed out")


async def test_a_refused_connection_is_no_connection() -> None:
    async with peer(WebServer()) as served:
        pass
    result = await mxdeliv_transport().attempt(http_hop(served.port), letter())
    assert (result.fault, result.reply) == (HopFault.CONNECT, "451 4.4.1 Connection refused")


@pytest.mark.parametrize("size", [len(CONTENT), 200_000])
async def test_unreadable_content_is_never_a_whole_request(size: int) -> None:
    async def read(offset: int, length: int) -> bytes:
        if size < 100_000 or offset:
            raise TransientFailure("gone")
        return b"x" * length

    server = WebServer()
    transport = mxdeliv_transport()
    async with peer(server) as served:
        with pytest.raises(TransientFailure):
            await transport.attempt(
                http_hop(served.port, TlsRule.NONE), attrs.evolve(letter(), size=size, read=read)
            )
    assert len(transport.pool) == 0
    assert server.answers == (OK,)
    assert all(len(request.body) < size for request in server.requests)


async def test_cancellation_leaves_nothing_behind() -> None:
    async def server(stream: PeerStream) -> None:
        await trio.sleep_forever()

    transport = mxdeliv_transport()
    async with peer(server) as served:
        with trio.move_on_after(0.1) as scope:
            await transport.attempt(http_hop(served.port, TlsRule.NONE), letter())
        assert scope.cancelled_caught
    assert len(transport.pool) == 0
