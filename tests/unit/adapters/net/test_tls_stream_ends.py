"""TLS on a socket: how it is closed, given up, reset, left by the peer."""

from __future__ import annotations

import socket
import struct

import pytest
import trio
from trio.testing import MockClock

from chatmail.adapters.net.tls import TlsKeeper
from tests.unit.adapters.net.rig import TlsClient, read_to_end
from tests.unit.adapters.net.tls_pair import tls_pair


async def test_closing_sends_close_notify(keeper: TlsKeeper) -> None:
    server, client = await tls_pair(keeper)
    async with trio.open_nursery() as nursery:
        await server.send_all(b"221 Bye\r\n")
        nursery.start_soon(server.aclose)
        # https_compatible=False: an end without close_notify would raise.
        assert await read_to_end(client) == b"221 Bye\r\n"
        await client.aclose()


async def test_last_words_reach_a_peer_that_is_still_sending(keeper: TlsKeeper) -> None:
    server, client = await tls_pair(keeper)
    await client.send_all(b"x" * 30_000)  # never read: a plain close would send RST
    async with trio.open_nursery() as nursery:
        await server.send_all(b"* BYE\r\n")
        nursery.start_soon(server.aclose)
        await trio.testing.wait_all_tasks_blocked()
        assert await read_to_end(client) == b"* BYE\r\n"
        await client.aclose()


async def test_closing_does_not_wait_long_for_a_silent_peer(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    server, _client = await tls_pair(keeper)
    began = trio.current_time()
    await server.aclose()
    assert trio.current_time() - began <= 1.0
    assert server.socket.fileno() == -1


async def test_closing_after_the_peer_left_takes_no_time(
    keeper: TlsKeeper, mock_clock: MockClock
) -> None:
    server, client = await tls_pair(keeper)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.aclose)
        assert await server.receive_some() == b""
        await server.aclose()  # with a clock that stands still it would hang
    assert server.socket.fileno() == -1


async def test_closing_twice_is_harmless(keeper: TlsKeeper, autojump_clock: MockClock) -> None:
    server, _client = await tls_pair(keeper)
    await server.aclose()
    await server.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await server.send_all(b"x")
    with pytest.raises(trio.ClosedResourceError):
        await server.receive_some()


async def test_a_cancelled_close_still_closes(keeper: TlsKeeper) -> None:
    server, _client = await tls_pair(keeper)
    with trio.CancelScope() as scope:
        scope.cancel()
        await server.aclose()
    assert server.socket.fileno() == -1


async def test_abort_wakes_the_reader(keeper: TlsKeeper) -> None:
    server, _client = await tls_pair(keeper)

    async def read() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await server.receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        server.abort()
        server.abort()


async def test_closing_wakes_the_reader(keeper: TlsKeeper, autojump_clock: MockClock) -> None:
    server, _client = await tls_pair(keeper)

    async def read() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await server.receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        await server.aclose()


async def test_a_reader_that_stops_is_given_up_at_the_deadline(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    server, _client = await tls_pair(keeper, small_buffers=True)
    began = trio.current_time()
    with pytest.raises(trio.BrokenResourceError):
        await server.send_all(b"x" * 10_000_000)
    assert 120 <= trio.current_time() - began < 121
    with pytest.raises(trio.BrokenResourceError):
        await server.send_all(b"x")
    await server.aclose()


async def test_a_slow_reader_is_kept_as_long_as_it_reads(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    server, client = await tls_pair(keeper, small_buffers=True)
    size, got = 3_000_000, 0
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.send_all, b"x" * size)
        while got < size:
            await trio.sleep(100)
            target = min(got + 400_000, size)
            while got < target:
                got += len(await client.receive_some(65536))
    assert trio.current_time() - began > 500


async def test_reset_ends_reading(keeper: TlsKeeper) -> None:
    server, client = await tls_pair(keeper)
    reset(client)
    try:
        octets = await server.receive_some()
    except trio.BrokenResourceError:
        octets = b""
    assert octets == b""  # Python's ssl reports some resets as an end


async def test_reset_is_broken_when_writing(keeper: TlsKeeper) -> None:
    server, client = await tls_pair(keeper)
    reset(client)

    async def send_much() -> None:
        for _ in range(100):
            await server.send_all(b"x" * 100_000)
            await trio.lowlevel.checkpoint()

    with pytest.raises(trio.BrokenResourceError):
        await send_much()
    await server.aclose()


def reset(client: TlsClient) -> None:
    sock = client.transport_stream.socket
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def test_an_end_without_close_notify_is_an_end(keeper: TlsKeeper) -> None:
    server, client = await tls_pair(keeper)
    await trio.aclose_forcefully(client)
    assert await server.receive_some() == b""
    assert await server.receive_some() == b""
