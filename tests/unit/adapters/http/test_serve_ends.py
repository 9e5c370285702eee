"""How connections end: stalls, slow peers, drain."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from chatmail.adapters.http import serve
from tests.unit.adapters.http.asgi import Site
from tests.unit.adapters.http.serving import (
    GET,
    Connection,
    Http2Client,
    narrow_pair,
    read_answer,
    read_to_end,
    running,
)

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
