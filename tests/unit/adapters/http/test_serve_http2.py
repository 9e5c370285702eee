"""HTTP/2 by ALPN, and both protocols over real TLS."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from chatmail.adapters.net.streams import Stream
from chatmail.adapters.net.tls_stream import TlsStream
from tests.unit.adapters.http.asgi import DEMO, Site
from tests.unit.adapters.http.serving import GET, Http2Client, read_answer, read_to_end, running


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
