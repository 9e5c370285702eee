"""Hypercorn on memory streams, and clients of both protocols."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import h2.config
import h2.connection
import h2.events
import trio
import trio.testing

from chatmail.adapters.http.serve import HttpFace
from tests.unit.adapters.http.asgi import Site

GET = b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@attrs.define
class Connection:
    """A `FaceStream` over any Trio stream."""

    transport: trio.abc.Stream
    is_tls: bool = False
    alpn: str | None = None
    peer_host: str = "203.0.113.9"
    peer_port: int = 4711

    async def aclose(self) -> None:
        with trio.move_on_after(3, shield=True):
            await self.transport.aclose()


@attrs.define
class Running:
    face: HttpFace
    site: Site
    nursery: trio.Nursery

    def connect(self, *, is_tls: bool = False, alpn: str | None = None) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        self.nursery.start_soon(
            self.face.serve_connection, Connection(theirs, is_tls=is_tls, alpn=alpn)
        )
        return ours


@asynccontextmanager
async def running(site: Site | None = None) -> AsyncIterator[Running]:
    site = site or Site()
    face = HttpFace(site.services)
    async with trio.open_nursery() as nursery:
        await nursery.start(face.run)
        yield Running(face, site, nursery)
        nursery.cancel_scope.cancel()


async def read_answer(stream: trio.abc.ReceiveStream) -> tuple[bytes, bytes]:
    """Read one answer with Content-Length."""
    data = bytearray()
    while b"\r\n\r\n" not in data:
        octets = await stream.receive_some()
        assert octets, f"closed after {bytes(data)!r}"
        data += octets
    head, _, body = bytes(data).partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = int(next(line for line in lines if line.startswith(b"content-length"))[15:])
    while len(body) < length:
        body += bytes(await stream.receive_some())
    return head, body


async def read_to_end(stream: trio.abc.ReceiveStream) -> bytes:
    data = bytearray()
    async for octets in stream:
        data += octets
    return bytes(data)


def narrow_pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    """A pair whose writer blocks until the reader reads."""
    return trio.testing.lockstep_stream_pair()


class Http2Client:
    """As much of HTTP/2 as a test asks for."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.connection.initiate_connection()
        self.is_over = False

    async def request(self, method: str, path: str, body: bytes | None = None) -> int:
        stream_id = self.connection.get_next_available_stream_id()
        head = [
            (":method", method),
            (":path", path),
            (":scheme", "https"),
            (":authority", "127.0.0.1"),
        ]
        self.connection.send_headers(stream_id, head, end_stream=body is None)
        if body is not None:
            self.connection.send_data(stream_id, body, end_stream=True)
        await self.flush()
        return stream_id

    async def flush(self) -> None:
        await self.stream.send_all(self.connection.data_to_send())

    async def answer(self, stream_id: int) -> tuple[dict[str, str], bytes]:
        headers: dict[str, str] = {}
        body = b""
        while True:
            data = await self.stream.receive_some()
            if not data:
                raise EOFError
            for event in self.connection.receive_data(bytes(data)):
                if getattr(event, "stream_id", None) != stream_id:
                    continue
                if isinstance(event, h2.events.ResponseReceived):
                    headers = {name.decode(): value.decode() for name, value in event.headers}
                elif isinstance(event, h2.events.DataReceived):
                    body += event.data
                elif isinstance(event, h2.events.StreamReset):
                    raise EOFError
                elif isinstance(event, h2.events.StreamEnded):
                    return headers, body
