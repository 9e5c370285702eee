from __future__ import annotations

import gc
import socket
import struct
import time
import tracemalloc
import zlib

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from chatmail.adapters.net.certificates import CertificatePair
from chatmail.adapters.net.errors import PeerGone
from chatmail.adapters.net.handshakes import Handshaker
from chatmail.adapters.net.socket_stream import SocketStream
from chatmail.adapters.net.streams import Stream
from chatmail.adapters.net.tls import TlsKeeper, TlsPurpose
from chatmail.adapters.net.turns import Turns
from chatmail.domain.model.errors import LocalProtocolError
from tests.unit.adapters.net.rig import (
    TlsClient,
    client_context,
    read_to_end,
    tcp_pair,
    tls_client,
    tracked,
)


async def stream_pair(
    keeper: TlsKeeper | None = None, *, small_buffers: bool = False
) -> tuple[Stream, trio.SocketStream]:
    sock, client = await tcp_pair(small_buffers=small_buffers)
    handshaker = None
    if keeper is not None:
        handshaker = Handshaker(keeper, TlsPurpose.IMAP, Turns(), ["imap"])
    host, port = sock.getpeername()
    return Stream(SocketStream(sock), host, port, handshaker), client


async def secure(stream: Stream, client: trio.SocketStream, pair: CertificatePair) -> TlsClient:
    tls = tls_client(client, client_context(pair))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tls.do_handshake)
        await stream.start_tls()
    tracked(stream.transport.socket)
    return tls


async def test_starttls_goes_on_with_the_same_connection(keeper: TlsKeeper) -> None:
    stream, client = await stream_pair(keeper)
    stream.write_timeout_s = 33
    await client.send_all(b"A1 STARTTLS\r\n")
    assert await stream.receive_some() == b"A1 STARTTLS\r\n"
    before = stream.is_tls
    await stream.send_all(b"A1 OK\r\n")
    assert await client.receive_some() == b"A1 OK\r\n"
    tls = await secure(stream, client, keeper.pair)
    assert (before, stream.is_tls) == (False, True)
    assert stream.alpn is None  # Delta Chat core offers none with STARTTLS, and no SNI
    assert stream.write_timeout_s == 33
    await tls.send_all(b"A2 NOOP\r\n")
    assert await stream.receive_some() == b"A2 NOOP\r\n"
    await stream.send_all(b"A2 OK\r\n")
    assert await tls.receive_some() == b"A2 OK\r\n"
    assert (stream.octets_in, stream.octets_out) == (22, 14)


async def test_cleartext_behind_starttls_never_becomes_input(keeper: TlsKeeper) -> None:
    stream, client = await stream_pair(keeper)
    await client.send_all(b"A2 LOGIN user secret\r\n")
    with pytest.raises(PeerGone):
        await stream.start_tls()
    await stream.aclose()


async def test_a_peer_that_leaves_in_the_handshake_is_gone(keeper: TlsKeeper) -> None:
    stream, client = await stream_pair(keeper)
    await client.aclose()
    with pytest.raises(PeerGone):
        await stream.start_tls()
    await stream.aclose()


async def test_a_peer_reset_before_starttls_is_gone(keeper: TlsKeeper) -> None:
    stream, client = await stream_pair(keeper)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.socket.close()
    with pytest.raises(PeerGone):
        await stream.start_tls()
    await stream.aclose()


async def test_starting_tls_twice_or_without_a_certificate_is_our_bug(keeper: TlsKeeper) -> None:
    stream, client = await stream_pair(keeper)
    await secure(stream, client, keeper.pair)
    with pytest.raises(LocalProtocolError):
        await stream.start_tls()
    plain, _ = await stream_pair()
    with pytest.raises(LocalProtocolError):
        await plain.start_tls()


async def test_errors_are_peer_gone() -> None:
    stream, client = await stream_pair()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.socket.close()
    with pytest.raises(PeerGone):
        await stream.receive_some()
    with pytest.raises(PeerGone):
        await stream.send_all(b"x")
    await stream.aclose()
    with pytest.raises(PeerGone):
        await stream.receive_some()


async def test_a_slow_reader_is_gone_after_the_write_timeout(autojump_clock: MockClock) -> None:
    stream, _client = await stream_pair(small_buffers=True)
    assert stream.write_timeout_s == 120
    stream.write_timeout_s = 5
    began = trio.current_time()
    with pytest.raises(PeerGone):
        await stream.send_all(b"x" * 10_000_000)
    assert 5 <= trio.current_time() - began < 6


async def test_closing_is_bounded_and_never_raises(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    stream, client = await stream_pair(keeper, small_buffers=True)
    await secure(stream, client, keeper.pair)
    # The kernel's buffer is full: not even close_notify fits.
    while stream.transport._write(b"x" * 16384):
        pass
    began = trio.current_time()
    with trio.CancelScope() as scope:
        scope.cancel()
        await stream.aclose()
    assert trio.current_time() - began <= 3
    assert stream.transport.socket.fileno() == -1


async def test_abort_ends_a_reader() -> None:
    stream, _client = await stream_pair()

    async def read() -> None:
        with pytest.raises(PeerGone):
            await stream.receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        stream.abort()


def packed(client: zlib._Compress, text: bytes) -> bytes:
    return client.compress(text) + client.flush(zlib.Z_SYNC_FLUSH)


async def test_deflate_both_ways_under_tls(keeper: TlsKeeper) -> None:
    stream, client = await stream_pair(keeper)
    tls = await secure(stream, client, keeper.pair)
    stream.start_deflate()
    stream.start_deflate()
    up, down = zlib.compressobj(6, zlib.DEFLATED, -15), zlib.decompressobj(-15)
    for text in (b"A1 NOOP\r\n", b"A2 UID FETCH 1:* (FLAGS)\r\n" * 9):
        await tls.send_all(packed(up, text))
        assert await stream.receive_some() == text
        await stream.send_all(text.lower())
        assert down.decompress(bytes(await tls.receive_some())) == text.lower()


async def test_the_server_compresses_nothing_before_the_client_did() -> None:
    stream, client = await stream_pair()
    stream.start_deflate()
    await stream.send_all(b"* 7 EXISTS\r\n")
    with trio.move_on_after(0.05) as scope:
        await client.receive_some()
    assert scope.cancelled_caught
    await client.send_all(packed(zlib.compressobj(6, zlib.DEFLATED, -15), b"A1 NOOP\r\n"))
    assert await stream.receive_some() == b"A1 NOOP\r\n"
    await stream.send_all(b"A1 OK\r\n")
    octets = bytes(await client.receive_some())
    assert zlib.decompressobj(-15).decompress(octets) == b"* 7 EXISTS\r\nA1 OK\r\n"


async def test_plaintext_left_over_is_read_without_the_network() -> None:
    stream, client = await stream_pair()
    stream.start_deflate()
    text = b"".join(b"A%05d UID STORE %d +FLAGS (\\Seen)\r\n" % (i, i) for i in range(4000))
    await client.send_all(packed(zlib.compressobj(6, zlib.DEFLATED, -15), text))
    got = bytearray()
    while len(got) < len(text):
        with trio.fail_after(60), trio.testing.assert_checkpoints():
            octets = await stream.receive_some()
        assert 0 < len(octets) <= 65536
        got += octets
    assert got == text


async def test_half_a_deflate_block_waits_for_the_rest() -> None:
    stream, client = await stream_pair()
    stream.start_deflate()
    wire = packed(zlib.compressobj(6, zlib.DEFLATED, -15), b"A1 NOOP\r\n")

    async def send() -> None:
        for octet in wire:
            await client.send_all(bytes([octet]))
            await trio.testing.wait_all_tasks_blocked()
        await client.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        got = b""
        while octets := await stream.receive_some():
            got += octets
    assert got == b"A1 NOOP\r\n"


async def drain(stream: Stream) -> None:
    for _ in range(100):
        await stream.receive_some()


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"A1 LOGIN a b\r\n" * 9, id="cleartext"),
        pytest.param(packed(zlib.compressobj(9, zlib.DEFLATED, -15), bytes(1 << 22)), id="bomb"),
    ],
)
async def test_abuse_of_deflate_is_the_end(octets: bytes) -> None:
    stream, client = await stream_pair()
    stream.start_deflate()
    await client.send_all(octets)
    with pytest.raises(PeerGone):
        await drain(stream)


async def test_idle_connections_hold_no_buffers(keeper: TlsKeeper) -> None:
    text = b"x" * 60_000
    pairs = []
    for _ in range(20):
        stream, client = await stream_pair(keeper)
        tls = await secure(stream, client, keeper.pair)
        stream.start_deflate()
        pairs.append((stream, tls))
    tracemalloc.start()
    try:
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        streams = [stream for stream, _ in pairs]
        for stream, tls in pairs:
            await tls.send_all(packed(zlib.compressobj(6, zlib.DEFLATED, -15), b"A1 NOOP\r\n"))
            await stream.receive_some()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.send_all, text)
                await tls.receive_some(65536)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown / len(streams) < 4000


async def test_connection_values_take_little_room() -> None:
    stream, _client = await stream_pair()
    assert not hasattr(stream, "__dict__")
    assert not hasattr(stream.transport, "__dict__")


async def test_time_in_the_real_world_is_not_waited_for() -> None:
    took = []
    for _ in range(5):  # a busy machine may make any of them late
        stream, client = await stream_pair()
        await client.aclose()
        began = time.monotonic()
        assert await read_to_end(stream.transport) == b""
        await stream.aclose()
        took.append(time.monotonic() - began)
    assert min(took) < 1


@pytest.mark.parametrize("with_tls", [False, True])
async def test_an_abort_while_closing_raises_nowhere(keeper: TlsKeeper, with_tls: bool) -> None:
    stream, client = await stream_pair(keeper)
    if with_tls:
        await secure(stream, client, keeper.pair)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.aclose)
        await trio.testing.wait_all_tasks_blocked()
        stream.abort()
    await client.aclose()
