"""Both ends of a TLS connection on loopback."""

from __future__ import annotations

import trio

from chatmail.adapters.net.tls import TlsKeeper, TlsPurpose
from chatmail.adapters.net.tls_stream import TlsStream
from tests.unit.adapters.net.rig import TlsClient, client_context, tcp_pair, tls_client, tls_stream


async def tls_pair(
    keeper: TlsKeeper, *, small_buffers: bool = False
) -> tuple[TlsStream, TlsClient]:
    sock, transport = await tcp_pair(small_buffers=small_buffers)
    server = tls_stream(sock, keeper.context(TlsPurpose.IMAP))
    client = tls_client(transport, client_context(keeper.pair))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        nursery.start_soon(server.do_handshake)
    return server, client


async def receive_exactly(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    parts, left = [], size
    while left:
        octets = await stream.receive_some(min(left, 65536))
        assert octets, "the stream ended early"
        parts.append(bytes(octets))
        left -= len(octets)
    return b"".join(parts)
