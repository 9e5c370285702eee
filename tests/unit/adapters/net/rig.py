"""Real loopback connections for the tests of this package."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from chatmail.adapters.net.binding import bind
from chatmail.adapters.net.certificates import CertificatePair
from chatmail.adapters.net.crowds import ConnectionLimits, Crowd
from chatmail.adapters.net.listeners import Face, FaceListener, TlsMode, serve_listener
from chatmail.adapters.net.streams import Stream
from chatmail.adapters.net.tls import TlsKeeper, TlsPurpose
from chatmail.adapters.net.tls_stream import TlsStream
from chatmail.adapters.net.turns import Turns

SMALL_BUFFER = 4096

_SOCKETS: list[Any] = []


def tracked(sock: Any) -> Any:
    """Have a socket closed when the test ends."""
    _SOCKETS.append(sock)
    return sock


def close_tracked() -> None:
    while _SOCKETS:
        _SOCKETS.pop().close()


class EventRecorder:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def warning(self, event: str, **fields: object) -> None:
        self.events.append((event, fields))

    def names(self) -> list[str]:
        return [event for event, _ in self.events]


async def tcp_pair(*, small_buffers: bool = False) -> tuple[socket.socket, trio.SocketStream]:
    """Return the accepted, non-blocking socket and the client's stream."""
    with socket.socket() as listening:
        client = socket.socket()
        if small_buffers:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        client.connect(listening.getsockname())
        accepted, _ = listening.accept()
    accepted.setblocking(False)
    tracked(accepted)
    return accepted, client_stream(client)


def client_stream(sock: socket.socket) -> trio.SocketStream:
    sock.setblocking(False)
    return trio.SocketStream(trio.socket.from_stdlib_socket(tracked(sock)))


def tls_stream(sock: socket.socket, context: ssl.SSLContext) -> TlsStream:
    stream = TlsStream(sock, context)
    tracked(stream.socket)
    return stream


def client_context(pair: CertificatePair, alpn: Sequence[str] = ()) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(pair.chain))
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


TlsClient = trio.SSLStream[trio.SocketStream]


def tls_client(
    transport: trio.SocketStream, context: ssl.SSLContext, *, name: str | None = "127.0.0.1"
) -> TlsClient:
    """Return a client that takes an end without close_notify for an error."""
    return trio.SSLStream(transport, context, server_hostname=name, https_compatible=False)


async def read_to_end(stream: trio.abc.ReceiveStream) -> bytes:
    parts = []
    while octets := await stream.receive_some(65536):
        parts.append(bytes(octets))
    return b"".join(parts)


async def echo(stream: Stream) -> None:
    while octets := await stream.receive_some():
        await stream.send_all(octets)


def face(
    handler: Callable[[Stream], Awaitable[None]] = echo,
    *,
    total: int = 1000,
    per_source: int = 0,
    refusal: bytes = b"",
) -> Face:
    crowd = Crowd(lambda: ConnectionLimits(total, per_source))
    return Face(handler=handler, crowd=crowd, refusal=refusal)


def imaps(own: Face | None = None) -> FaceListener:
    return FaceListener(
        name="imaps", tls=TlsMode.IMPLICIT, purpose=TlsPurpose.IMAP, face=own or face()
    )


def smtp(own: Face | None = None) -> FaceListener:
    return FaceListener(
        name="smtp", tls=TlsMode.STARTTLS, purpose=TlsPurpose.RELAY, face=own or face()
    )


@attrs.define
class Served:
    """A listener at work."""

    host: str
    port: int
    log: EventRecorder
    nursery: trio.Nursery
    accepting: trio.CancelScope

    async def connect(self) -> trio.SocketStream:
        return client_stream(socket.create_connection((self.host, self.port)))


@asynccontextmanager
async def served(
    listener: FaceListener, keeper: TlsKeeper, address: str = "127.0.0.1:0"
) -> AsyncIterator[Served]:
    log = EventRecorder()
    scope = trio.CancelScope()
    turns = Turns()

    async def accept(
        nursery: trio.Nursery, task_status: trio.TaskStatus[list[tuple[str, int]]]
    ) -> None:
        with scope:
            await serve_listener(
                bind(address), listener, keeper, turns, nursery, log, task_status=task_status
            )

    async with trio.open_nursery() as nursery:
        [(host, port)] = await nursery.start(accept, nursery)
        yield Served(host, port, log, nursery, scope)
        nursery.cancel_scope.cancel()
