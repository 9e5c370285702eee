from __future__ import annotations

import contextlib
import random
import socket
import struct

import pytest
import trio
from trio.testing import MockClock

from chatmail.adapters.net.socket_stream import WRITE_BYTES, SocketStream
from tests.unit.adapters.net.rig import read_to_end, tcp_pair


async def plain_pair(*, small_buffers: bool = False) -> tuple[SocketStream, trio.SocketStream]:
    sock, client = await tcp_pair(small_buffers=small_buffers)
    return SocketStream(sock), client


@pytest.mark.parametrize("size", [1, 16384, 65537, 1_000_003])
async def test_octets_arrive_whole_in_both_directions(size: int) -> None:
    server, client = await plain_pair(small_buffers=True)
    up, down = random.Random(1).randbytes(size), random.Random(2).randbytes(size)
    got: dict[str, bytes] = {}

    async def send_from_client() -> None:
        await client.send_all(up)
        await client.send_eof()

    async def receive_at_client() -> None:
        got["down"] = await read_to_end(client)

    async def send_from_server() -> None:
        await server.send_all(down)
        got["up"] = await read_to_end(server)
        await server.aclose()

    async with trio.open_nursery() as nursery:
        for task in (send_from_client, receive_at_client, send_from_server):
            nursery.start_soon(task)
    assert got == {"up": up, "down": down}


async def test_a_read_is_a_checkpoint_and_a_write_that_fits_is_none() -> None:
    server, client = await plain_pair()
    await client.send_all(b"x")
    with trio.testing.assert_checkpoints():
        assert await server.receive_some() == b"x"
    with trio.testing.assert_no_checkpoints():
        await server.send_all(b"y")


async def test_a_cancelled_read_loses_nothing() -> None:
    server, client = await plain_pair()
    await client.send_all(b"kept")
    with trio.CancelScope() as scope:
        scope.cancel()
        await server.receive_some()
    assert scope.cancelled_caught
    assert await server.receive_some() == b"kept"


async def test_after_a_torn_send_nothing_more_is_sent() -> None:
    server, client = await plain_pair(small_buffers=True)
    with trio.move_on_after(0.05) as scope:
        await server.send_all(b"x" * 1_000_000)
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.receive_some)
        with pytest.raises(trio.BrokenResourceError):
            await server.send_all(b"y")


async def test_no_progress_within_the_deadline_breaks_the_stream(autojump_clock: MockClock) -> None:
    server, _client = await plain_pair(small_buffers=True)
    server.send_timeout_s = 7
    began = trio.current_time()
    with pytest.raises(trio.BrokenResourceError):
        await server.send_all(b"x" * 10_000_000)
    assert 7 <= trio.current_time() - began < 8


async def test_reset_is_broken() -> None:
    server, client = await plain_pair()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.socket.close()
    with pytest.raises(trio.BrokenResourceError):
        await server.receive_some()
    await server.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await server.receive_some()


async def test_last_words_reach_a_peer_that_is_still_sending() -> None:
    server, client = await plain_pair()
    await client.send_all(b"x" * 30_000)
    await server.send_all(b"421 Bye\r\n")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.aclose)
        await trio.testing.wait_all_tasks_blocked()
        # An early close would answer these with RST, and the client never gets to read.
        for _ in range(5):
            await client.send_all(b"x" * 1000)
            await trio.testing.wait_all_tasks_blocked()
        assert await read_to_end(client) == b"421 Bye\r\n"
        await client.aclose()


async def test_a_peer_that_floods_while_we_close_is_cut_off(autojump_clock: MockClock) -> None:
    server, client = await plain_pair()

    async def flood() -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            while True:
                await client.send_all(b"x" * 65536)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        await server.aclose()
        assert trio.current_time() - began <= 1.0


async def test_waiting_for_room_fails_on_a_closed_stream(autojump_clock: MockClock) -> None:
    server, _client = await plain_pair()
    await server.wait_send_all_might_not_block()
    await server.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await server.wait_send_all_might_not_block()


async def test_a_detached_stream_leaves_the_socket_open() -> None:
    server, client = await plain_pair()
    sock = server.detach()
    await server.aclose()
    sock.send(b"still here")
    assert await client.receive_some() == b"still here"


async def test_what_was_not_sent_now_leaves_first() -> None:
    server, client = await plain_pair(small_buffers=True)
    sent = 0
    while server.send_now(b"%07d\n" % sent):
        sent += 1
    assert not server.send_now(b"%07d\n" % (sent + 1))  # behind what is left
    got = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.send_all, b"")
        while len(got) < 8 * (sent + 2):
            got += await client.receive_some()
    assert bytes(got) == b"".join(b"%07d\n" % number for number in range(sent + 2))
    await server.send_all(b"after\n")
    assert await client.receive_some() == b"after\n"


async def test_sending_now_never_raises() -> None:
    server, client = await plain_pair()
    assert server.send_now(b"x")
    assert not server.send_now(b"y" * (WRITE_BYTES + 1))  # too much for one step
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.socket.close()
    with pytest.raises(trio.BrokenResourceError):
        await server.receive_some()
    assert not server.send_now(b"x")
    await server.aclose()
    assert not server.send_now(b"x")
