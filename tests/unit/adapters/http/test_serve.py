"""Hypercorn on our streams: both protocols, limits, stalls, drain, and what we use of it."""

from __future__ import annotations

import importlib.metadata
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import h2.config
import h2.connection
import h2.events
import pytest
import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext

from chatmail.adapters.http import serve
from chatmail.adapters.http.serve import HttpFace
from chatmail.adapters.net.streams import Stream
from chatmail.adapters.net.tls_stream import TlsStream
from tests.unit.adapters.http.asgi import DEMO, NAMED, Site

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


# --- the contract with Hypercorn ---


def test_hypercorn_is_the_version_this_was_written_for() -> None:
    assert importlib.metadata.version("hypercorn").startswith("0.18.")


def test_every_setting_is_one_hypercorn_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {name for name in dir(Config) if not name.startswith("_")}
    written: set[str] = set()

    def note(config: Config, name: str, value: object) -> None:
        written.add(name)
        object.__setattr__(config, name, value)

    monkeypatch.setattr(Config, "__setattr__", note, raising=False)
    serve._config(Site().log)
    assert written
    assert written <= known | {"_log"}


def test_worker_context_has_the_event_that_ends_idle_connections() -> None:
    async def main() -> None:
        context = WorkerContext(None)
        assert not context.terminated.is_set()
        await context.terminated.set()
        assert context.terminated.is_set()

    trio.run(main)


# --- HTTP/1.1 ---


async def test_plain_stream_speaks_http1_and_keeps_alive() -> None:
    async with running() as run:
        client = run.connect()
        for _ in range(3):
            await client.send_all(GET % b"/robots.txt")
            head, body = await read_answer(client)
            assert head.startswith(b"HTTP/1.1 200")
            assert body == b"User-agent: *\nDisallow: /\n"


async def test_answers_name_no_server_software() -> None:
    async with running() as run:
        client = run.connect()
        await client.send_all(GET % b"/")
        head, _ = await read_answer(client)
        assert b"\r\nserver:" not in head.lower()
        assert b"hypercorn" not in head.lower()
        assert b"\r\ndate:" in head.lower()


async def test_head_has_the_length_of_get_and_no_body() -> None:
    async with running() as run:
        client = run.connect()
        await client.send_all(GET % b"/main.js")
        _, body = await read_answer(client)
        await client.send_all((GET % b"/main.js").replace(b"GET", b"HEAD"))
        await client.send_all(GET % b"/robots.txt")
        again = await client.receive_some()
        assert f"content-length: {len(body)}".encode() in again
        assert body[:20] not in again


async def test_scheme_is_that_of_the_stream() -> None:
    async with running(Site(NAMED)) as run:
        plain = run.connect()
        await plain.send_all(GET % b"/")
        assert (await read_answer(plain))[0].startswith(b"HTTP/1.1 301")
        proxied = run.connect(is_tls=True)
        await proxied.send_all(GET % b"/")
        assert (await read_answer(proxied))[0].startswith(b"HTTP/1.1 200")


async def test_header_block_above_the_limit_is_refused() -> None:
    async with running() as run:
        client = run.connect()
        await client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        with trio.testing.assert_checkpoints():
            await client.send_all(b"x" * (serve.MAX_HEAD_OCTETS + 10))
        head, _ = await read_answer(client)
        assert head.startswith(b"HTTP/1.1 431")


async def test_large_header_below_the_limit_is_served() -> None:
    async with running() as run:
        client = run.connect()
        await client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 60000 + b"\r\n\r\n")
        assert (await read_answer(client))[0].startswith(b"HTTP/1.1 200")


async def test_endless_body_is_refused_and_cut() -> None:
    async with running() as run:
        client = run.connect()
        await client.send_all(
            b"POST /new HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(6):
            with suppress(trio.BrokenResourceError):
                await client.send_all(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
            await trio.testing.wait_all_tasks_blocked()
        assert run.face.connections == 0
        head, _ = await read_answer(client)
        assert head.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "octets",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"EHLO me\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        b"GET http://[x/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\ngarbage",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nHTTP2-Settings: !\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n",
        b"POST /new HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_garbage_never_raises_nor_shows_a_traceback(octets: bytes) -> None:
    async with running() as run:
        client = run.connect()
        await client.send_all(octets)
        await client.send_eof()  # type: ignore[attr-defined]
        answer = await read_to_end(client)
        assert b"Traceback" not in answer
        assert not answer.startswith(b"HTTP/1.1 500")


async def test_websocket_handshake_on_a_page_is_no_upgrade() -> None:
    async with running() as run:
        client = run.connect()
        await client.send_all(
            b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        answer = await client.receive_some()
        assert answer.startswith((b"HTTP/1.1 4",))


# --- time ---


async def test_silent_peer_is_closed(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as run:
        client = run.connect()
        await client.send_all(b"GET / HTTP/1.1\r\nHost:")
        start = trio.current_time()
        assert not (await read_to_end(client)).startswith(b"HTTP/1.1 2")
        assert trio.current_time() - start == pytest.approx(serve.KEEP_ALIVE_S, abs=1)


async def test_dripping_head_gains_no_time(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as run:
        client = run.connect()
        start = trio.current_time()
        for _ in range(20):
            with suppress(trio.BrokenResourceError):
                await client.send_all(b"G")
                closed_at = trio.current_time()
            await trio.sleep(5)
        assert closed_at - start == pytest.approx(serve.KEEP_ALIVE_S, abs=6)


@pytest.mark.parametrize("alpn", ["http/1.1", "h2"])
async def test_connection_idle_after_an_answer_is_closed(
    autojump_clock: trio.testing.MockClock, alpn: str
) -> None:
    async with running() as run:
        client = run.connect(is_tls=True, alpn=alpn)
        if alpn == "h2":
            http2 = Http2Client(client)
            await http2.answer(await http2.request("GET", "/robots.txt"))
        else:
            await client.send_all(GET % b"/robots.txt")
            await read_answer(client)
        start = trio.current_time()
        await read_to_end(client)
        assert trio.current_time() - start == pytest.approx(serve.KEEP_ALIVE_S, abs=1)


async def test_slow_answer_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    site = Site()

    async def slow(source: str, token: str | None = None) -> Any:
        await trio.sleep(serve.KEEP_ALIVE_S * 3)
        return site.register.outcome

    site.services = attrs.evolve(site.services, register=slow)
    async with running(site) as run:
        client = run.connect()
        await client.send_all(b"POST /new HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        assert (await read_answer(client))[0].startswith(b"HTTP/1.1 200")


async def test_unfinished_body_is_408(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as run:
        client = run.connect()
        await client.send_all(b"POST /new HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
        head, _ = await read_answer(client)
        assert head.startswith(b"HTTP/1.1 408")
        await trio.testing.wait_all_tasks_blocked()
        assert run.face.requests_in_flight == 0


def narrow_pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    """A pair whose writer blocks until the reader reads."""
    return trio.testing.lockstep_stream_pair()


async def test_peer_that_does_not_read_is_cut_off(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as run:
        ours, theirs = narrow_pair()
        run.nursery.start_soon(run.face.serve_connection, Connection(theirs))
        await ours.send_all(GET % b"/")
        await trio.sleep(serve.STALLED_S - 1)
        assert run.face.connections == 1
        await trio.sleep(serve.CLOSE_S + 5)
        assert run.face.connections == 0


# --- drain ---


async def test_drain_answers_what_is_in_flight(autojump_clock: trio.testing.MockClock) -> None:
    site = Site()
    go_on = trio.Event()

    async def slow(source: str, token: str | None = None) -> Any:
        await go_on.wait()
        return site.register.outcome

    site.services = attrs.evolve(site.services, register=slow)
    async with running(site) as run:
        client = run.connect()
        await client.send_all(b"POST /new HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        await trio.testing.wait_all_tasks_blocked()
        assert run.face.requests_in_flight == 1
        run.nursery.start_soon(run.face.drain, 10.0)
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()
        head, _ = await read_answer(client)
        assert head.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in head.lower()
        assert await read_to_end(client) == b""


async def test_drain_ends_with_the_last_answer(autojump_clock: trio.testing.MockClock) -> None:
    site = Site()

    async def slow(source: str, token: str | None = None) -> Any:
        await trio.sleep(1)
        return site.register.outcome

    site.services = attrs.evolve(site.services, register=slow)
    async with running(site) as run:
        client = run.connect()
        await client.send_all(b"POST /new HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        await trio.testing.wait_all_tasks_blocked()
        start = trio.current_time()
        await run.face.drain(10.0)
        assert trio.current_time() - start < 2
        assert (await read_answer(client))[0].startswith(b"HTTP/1.1 200")


async def test_drain_closes_idle_connections(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as run:
        client = run.connect()
        await client.send_all(GET % b"/robots.txt")
        await read_answer(client)
        await run.face.drain(10.0)
        assert await read_to_end(client) == b""
        assert run.face.connections == 0


async def test_drain_does_not_wait_for_a_peer_that_does_not_read(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running() as run:
        ours, theirs = narrow_pair()
        run.nursery.start_soon(run.face.serve_connection, Connection(theirs))
        await ours.send_all(GET % b"/")
        await trio.testing.wait_all_tasks_blocked()
        start = trio.current_time()
        await run.face.drain(2.0)
        await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() - start == pytest.approx(2.0, abs=0.5)
        assert run.face.connections == 0


# --- HTTP/2 ---


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


async def test_http2_by_alpn() -> None:
    async with running() as run:
        client = Http2Client(run.connect(is_tls=True, alpn="h2"))
        headers, body = await client.answer(await client.request("GET", "/robots.txt"))
        assert headers[":status"] == "200"
        assert body.startswith(b"User-agent")
        _, credentials = await client.answer(await client.request("POST", "/new", b""))
        assert b"dclogin_url" in credentials


async def test_http2_drain_finishes_the_answer(autojump_clock: trio.testing.MockClock) -> None:
    site = Site()
    go_on = trio.Event()

    async def slow(source: str, token: str | None = None) -> Any:
        await go_on.wait()
        return site.register.outcome

    site.services = attrs.evolve(site.services, register=slow)
    async with running(site) as run:
        client = Http2Client(run.connect(is_tls=True, alpn="h2"))
        stream_id = await client.request("POST", "/new", b"")
        await trio.testing.wait_all_tasks_blocked()
        assert run.face.requests_in_flight == 1
        run.nursery.start_soon(run.face.drain, 10.0)
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()
        _, body = await client.answer(stream_id)
        assert b"dclogin_url" in body


async def test_http2_data_after_an_early_answer_harms_nobody() -> None:
    async with running() as run:
        client = Http2Client(run.connect(is_tls=True, alpn="h2"))
        stream_id = client.connection.get_next_available_stream_id()
        head = [(":method", "POST"), (":path", "/"), (":scheme", "https"), (":authority", "a")]
        client.connection.send_headers(stream_id, head)
        await client.flush()
        await trio.testing.wait_all_tasks_blocked()
        client.connection.send_data(stream_id, b"x" * 1000)
        await client.flush()
        await trio.testing.wait_all_tasks_blocked()
        other = run.connect()
        await other.send_all(GET % b"/robots.txt")
        assert (await read_answer(other))[0].startswith(b"HTTP/1.1 200")


# --- over real TLS ---


def certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "relay.test")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("relay.test")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "cert.pem"
    path.write_bytes(
        built.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
async def test_handshaken_tls_stream_on_a_socket(tmp_path: Path, protocol: str) -> None:
    pem = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.set_alpn_protocols(["h2", "http/1.1"])
    trust = ssl.create_default_context(cafile=str(pem))
    trust.set_alpn_protocols([protocol])

    here, there = socket.socketpair()
    here.setblocking(False)
    async with running(Site(DEMO)) as run:

        async def accept() -> None:
            transport = TlsStream(here, context)
            await transport.do_handshake()
            stream = Stream(transport, "203.0.113.9", 4711, is_tls=True)
            stream.alpn = transport.selected_alpn_protocol()
            await run.face.serve_connection(stream)

        run.nursery.start_soon(accept)
        raw = trio.SocketStream(trio.socket.from_stdlib_socket(there))
        client = trio.SSLStream(raw, trust, server_hostname="relay.test", https_compatible=False)
        await client.do_handshake()
        if protocol == "h2":
            http2 = Http2Client(client)
            _, body = await http2.answer(await http2.request("GET", "/"))
            assert b"<!doctype html>" in body
            run.nursery.start_soon(run.face.drain, 1)
        else:
            await client.send_all(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") % b"/")
        # Not https_compatible: a missing close_notify would raise here, as it does in core.
        rest = await read_to_end(client)
        assert protocol == "h2" or b"<!doctype html>" in rest
        await client.aclose()
