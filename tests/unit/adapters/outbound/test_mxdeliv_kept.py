"""HTTP connections that are kept for the next message."""

from __future__ import annotations

import attrs
import pytest

from chatmail.adapters.outbound.mxdeliv import MxdelivTransport
from chatmail.domain.model.federation import HopFault, HopResult, TlsRule
from tests.unit.adapters.outbound.rig import (
    DELIVERED,
    PATIENCE,
    PeerStream,
    Script,
    fates,
    http_hop,
    letter,
    mxdeliv_transport,
    peer,
)
from tests.unit.adapters.outbound.web_server import OK, WebServer, answer


async def several(transport: MxdelivTransport, port: int, count: int) -> list[HopResult]:
    hop = http_hop(port, TlsRule.NONE)
    return [await transport.attempt(hop, letter()) for _ in range(count)]


async def test_a_connection_is_kept_for_the_next_message() -> None:
    """A4.9."""
    server = WebServer()
    transport = mxdeliv_transport()
    async with peer(server) as served:
        results = await several(transport, served.port, 5)
        transport.pool.close()
    assert [fates(result) for result in results] == [{"bob": DELIVERED}] * 5
    assert server.connections == 1


async def test_a_hundred_requests_are_enough_for_a_connection() -> None:
    server = WebServer()
    transport = mxdeliv_transport(patience=attrs.evolve(PATIENCE, http_requests=3))
    async with peer(server) as served:
        await several(transport, served.port, 4)
        transport.pool.close()
    assert server.connections == 2


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(answer("200 OK", "OK", "Connection: close"), id="close"),
        pytest.param("HTTP/1.0 200 OK\r\n\r\nOK", id="http-1.0"),
        pytest.param(answer("400 no", "x" * 5000), id="longer-than-read"),
    ],
)
async def test_a_connection_that_cannot_be_kept_is_not(reply: str) -> None:
    transport = mxdeliv_transport()
    async with peer(WebServer(reply)) as served:
        await several(transport, served.port, 1)
        assert len(transport.pool) == 0


async def _answer_and_leave(stream: PeerStream) -> None:
    await stream.until(b"dots\r\n")
    await stream.send(OK)


async def _answer_and_leave_at_the_next(stream: PeerStream) -> None:
    await stream.until(b"dots\r\n")
    await stream.send(OK)
    await stream.until(b"dots\r\n")


@pytest.mark.parametrize("first", [_answer_and_leave, _answer_and_leave_at_the_next])
async def test_a_kept_connection_that_ended_is_replaced_once(first: Script) -> None:
    """A4.9."""
    second = WebServer()
    transport = mxdeliv_transport()
    async with peer(first, second) as served:
        results = await several(transport, served.port, 2)
        transport.pool.close()
    assert [fates(result) for result in results] == [{"bob": DELIVERED}] * 2
    assert len(second.requests) == 1


async def test_a_new_connection_that_fails_is_not_tried_again() -> None:
    async def fail(stream: PeerStream) -> None:
        await stream.until(b"dots\r\n")

    transport = mxdeliv_transport()
    async with peer(_answer_and_leave_at_the_next, fail) as served:
        _, result = await several(transport, served.port, 2)
    assert result.fault is HopFault.AMBIGUOUS
    assert len(served.connections) == 2


async def test_a_half_answer_on_a_kept_connection_is_not_tried_again() -> None:
    async def half(stream: PeerStream) -> None:
        await _answer_and_leave(stream)
        await stream.until(b"dots\r\n")
        await stream.send("HTTP/1.1 20")

    transport = mxdeliv_transport()
    async with peer(half, WebServer()) as served:
        _, result = await several(transport, served.port, 2)
    assert result.fault is HopFault.AMBIGUOUS
    assert len(served.connections) == 1
