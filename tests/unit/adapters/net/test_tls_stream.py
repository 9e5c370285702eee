"""TLS on a socket: reading, writing, the handshake."""

from __future__ import annotations

import random
import socket
import ssl
import struct

import pytest
import trio

from chatmail.adapters.net.certificates import CertificatePair
from chatmail.adapters.net.tls import TlsKeeper, TlsPurpose
from tests.patience import PATIENCE_S
from tests.unit.adapters.net.rig import client_context, tcp_pair, tls_client, tls_stream
from tests.unit.adapters.net.tls_pair import receive_exactly, tls_pair


@pytest.mark.parametrize("size", [1, 16383, 16384, 16385, 65536, 65537, 1_000_003])
async def test_both_directions_at_once_through_tiny_buffers(keeper: TlsKeeper, size: int) -> None:
    server, client = await tls_pair(keeper, small_buffers=True)
    up, down = random.Random(1).randbytes(size), random.Random(2).randbytes(size)
    got: dict[str, bytes] = {}

    async def receive(name: str, stream: trio.abc.ReceiveStream) -> None:
        got[name] = await receive_exactly(stream, size)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, up)
        nursery.start_soon(server.send_all, down)
        nursery.start_soon(receive, "up", server)
        nursery.start_soon(receive, "down", client)
    assert got == {"up": up, "down": down}


async def test_a_reply_of_one_record_arrives_in_one_read(keeper: TlsKeeper) -> None:
    server, client = await tls_pair(keeper)
    await server.send_all(b"x" * 16384)
    assert len(await client.receive_some(65536)) == 16384


async def test_full_records_are_gathered_up_to_64_kib(keeper: TlsKeeper) -> None:
    server, client = await tls_pair(keeper)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, b"x" * 200_000)
        await trio.testing.wait_all_tasks_blocked()
        assert len(await server.receive_some()) == 65536
        nursery.cancel_scope.cancel()


async def test_octets_pending_inside_tls_do_not_wait_for_the_network(keeper: TlsKeeper) -> None:
    server, client = await tls_pair(keeper)
    await client.send_all(b"0123456789")
    assert await server.receive_some(4) == b"0123"
    # All of the record has left the kernel: readability would never come.
    with trio.fail_after(PATIENCE_S):
        assert await server.receive_some(4) == b"4567"
        assert await server.receive_some() == b"89"


async def test_a_read_of_pending_octets_is_a_checkpoint(keeper: TlsKeeper) -> None:
    server, client = await tls_pair(keeper)
    await client.send_all(b"0123456789")
    await server.receive_some(4)
    with trio.testing.assert_checkpoints():
        await server.receive_some(4)


async def test_zero_or_negative_max_bytes_is_an_error(keeper: TlsKeeper) -> None:
    server, _ = await tls_pair(keeper)
    with pytest.raises(ValueError, match="positive"):
        await server.receive_some(0)


async def test_cancelled_reads_lose_nothing(keeper: TlsKeeper) -> None:
    server, client = await tls_pair(keeper, small_buffers=True)
    sent = random.Random(3).randbytes(300_000)
    got = bytearray()

    async def send() -> None:
        rest, rng = memoryview(sent), random.Random(4)
        while rest:
            step = rng.randint(1, 9000)
            await client.send_all(bytes(rest[:step]))
            rest = rest[step:]

    async def cancel_often(scopes: list[trio.CancelScope]) -> None:
        rng = random.Random(5)
        while len(got) < len(sent):
            for _ in range(rng.randint(0, 3)):
                await trio.lowlevel.checkpoint()
            for scope in scopes:
                scope.cancel()
            await trio.lowlevel.checkpoint()

    cancelled = 0
    async with trio.open_nursery() as nursery:
        scopes: list[trio.CancelScope] = []
        nursery.start_soon(send)
        nursery.start_soon(cancel_often, scopes)
        while len(got) < len(sent):
            with trio.CancelScope() as scope:
                scopes[:] = [scope]
                got += await server.receive_some()
            cancelled += scope.cancelled_caught
    assert bytes(got) == sent
    assert cancelled > 10


async def test_a_read_cancelled_inside_a_record_goes_on_later(keeper: TlsKeeper) -> None:
    sock, transport = await tcp_pair()
    server = tls_stream(sock, keeper.context(TlsPurpose.IMAP))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context(keeper.pair).wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.do_handshake)
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                await transport.send_all(outgoing.read())
                incoming.write(await transport.receive_some())
        await transport.send_all(outgoing.read())
    client.write(b"one whole record")
    record = outgoing.read()
    await transport.send_all(record[:9])
    with trio.move_on_after(0.05) as scope:
        await server.receive_some()
    assert scope.cancelled_caught
    await transport.send_all(record[9:])
    assert await server.receive_some() == b"one whole record"


async def test_a_cancelled_send_breaks_the_stream(keeper: TlsKeeper) -> None:
    server, _client = await tls_pair(keeper, small_buffers=True)
    with trio.move_on_after(0.05) as scope:
        await server.send_all(b"x" * 10_000_000)
    assert scope.cancelled_caught
    with pytest.raises(trio.BrokenResourceError):
        await server.send_all(b"y")
    with trio.fail_after(PATIENCE_S):
        await server.aclose()


async def test_two_senders_at_once_are_refused(keeper: TlsKeeper) -> None:
    server, _client = await tls_pair(keeper, small_buffers=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.send_all, b"x" * 10_000_000)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await server.send_all(b"y")
        nursery.cancel_scope.cancel()


async def test_an_empty_send_does_nothing(keeper: TlsKeeper) -> None:
    server, client = await tls_pair(keeper)
    await server.send_all(b"")
    await server.send_all(memoryview(b"abc"))
    assert await client.receive_some() == b"abc"


@pytest.mark.parametrize(
    "garbage", [b"A1 LOGIN a b\r\n" * 5, b"\x16\x03\x01\x00\x05hello", b"\x00" * 100, b"GET / HTTP"]
)
async def test_garbage_instead_of_a_handshake_is_broken(keeper: TlsKeeper, garbage: bytes) -> None:
    sock, transport = await tcp_pair()
    server = tls_stream(sock, keeper.context(TlsPurpose.IMAP))
    await transport.send_all(garbage)
    await transport.send_eof()
    with pytest.raises(trio.BrokenResourceError):
        await server.do_handshake()
    await server.aclose()
    await transport.aclose()


async def test_the_handshake_is_done_once(keeper: TlsKeeper) -> None:
    server, _client = await tls_pair(keeper)
    await server.do_handshake()
    assert server.tls_version == "TLSv1.3"
    assert server.selected_alpn_protocol() is None


async def test_a_cancelled_handshake_goes_on(keeper: TlsKeeper) -> None:
    sock, transport = await tcp_pair()
    server = tls_stream(sock, keeper.context(TlsPurpose.IMAP))
    with trio.move_on_after(0.01):
        await server.do_handshake()
    client = tls_client(transport, client_context(keeper.pair))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        await server.do_handshake()
    await client.send_all(b"x")
    assert await server.receive_some() == b"x"


async def test_a_peer_that_left_before_the_handshake_is_an_os_error(keeper: TlsKeeper) -> None:
    sock, transport = await tcp_pair()
    raw = transport.socket
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.close()
    with pytest.raises((OSError, trio.BrokenResourceError)):
        await tls_stream(sock, keeper.context(TlsPurpose.IMAP)).do_handshake()


async def test_it_offers_what_an_http_server_asks_of_a_stream(keeper: TlsKeeper) -> None:
    server, client = await tls_pair(keeper)
    sock = server.transport_stream.socket
    assert sock.family == socket.AF_INET
    assert sock.getpeername() == client.transport_stream.socket.getsockname()
    assert sock.getsockname() == client.transport_stream.socket.getpeername()
    assert not hasattr(server, "send_eof")
    await server.wait_send_all_might_not_block()


async def test_the_certificate_is_verified_by_a_strict_client(
    keeper: TlsKeeper, pair: CertificatePair
) -> None:
    _server, client = await tls_pair(keeper)
    assert client.version() == "TLSv1.3"


async def test_a_record_that_was_not_sent_now_leaves_first(keeper: TlsKeeper) -> None:
    server, client = await tls_pair(keeper, small_buffers=True)
    sent = 0
    while server.send_now(b"%07d\n" % sent):
        sent += 1
    got = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.send_all, b"after\n")
        while not got.endswith(b"after\n"):
            got += await client.receive_some()
    assert bytes(got) == b"".join(b"%07d\n" % number for number in range(sent + 1)) + b"after\n"
