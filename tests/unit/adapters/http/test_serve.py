"""Hypercorn on our streams: what we use of it, HTTP/1.1, limits."""

from __future__ import annotations

import importlib.metadata
from contextlib import suppress

import pytest
import trio
import trio.testing
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext

from chatmail.adapters.http import serve
from tests.unit.adapters.http.asgi import NAMED, Site
from tests.unit.adapters.http.serving import GET, read_answer, read_to_end, running

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
