"""`/mxdeliv` on Hypercorn: framing as the peer sees it on its connection."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from tests.unit.adapters.http.posts import MESSAGE, head, site
from tests.unit.adapters.http.serving import Connection, read_answer, read_to_end, running
from tests.unit.adapters.inbound.surfaces import Surfaces


async def test_two_messages_on_one_connection(surfaces: Surfaces) -> None:
    async with running(site(surfaces)) as there:
        stream = there.connect(is_tls=True)
        for _ in range(2):
            await stream.send_all(head(len(MESSAGE)) + MESSAGE)
            answer, body = await read_answer(stream)
            assert answer.startswith(b"HTTP/1.1 200")
            assert body == b"250 2.0.0 OK\r\n"
        await stream.send_all(head(None) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(MESSAGE), MESSAGE))
        assert (await read_answer(stream))[1] == b"250 2.0.0 OK\r\n"
        await stream.send_all(b"HEAD /mxdeliv HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = bytes(await stream.receive_some())
        assert answer.startswith(b"HTTP/1.1 405")
        await stream.send_all(b"GET /robots.txt HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await read_answer(stream))[0].startswith(b"HTTP/1.1 200")
        await trio.testing.wait_all_tasks_blocked()
        assert there.face.requests_in_flight == 0
    assert len(surfaces.relay.intake.committed) == 3


async def test_a_body_with_two_ends_is_none(surfaces: Surfaces) -> None:
    """A proxy may have gone by the length: what follows it would be its next request."""
    async with running(site(surfaces)) as there:
        stream = there.connect(is_tls=True)
        both = head(len(MESSAGE), b"Transfer-Encoding: chunked")
        await stream.send_all(both + b"%x\r\n%b\r\n0\r\n\r\n" % (len(MESSAGE), MESSAGE))
        answer, body = await read_answer(stream)
        assert answer.startswith(b"HTTP/1.1 400")
        assert body == b"501 5.5.4 A length and chunks\r\n"
        assert await read_to_end(stream) == b""
    assert surfaces.relay.intake.committed == []


async def test_sixty_recipients_in_the_head(surfaces: Surfaces) -> None:
    more = [b"X-Mail-To: " + b"x" * 60 + b"%d@relay.test" % number for number in range(90)]
    async with running(site(surfaces)) as there:
        stream = there.connect(is_tls=True)
        await stream.send_all(head(len(MESSAGE), *more) + MESSAGE)
        assert (await read_answer(stream))[0].startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("length", [10**9, None], ids=["announced", "chunked"])
async def test_what_is_too_big_is_answered_and_the_connection_ends(
    surfaces: Surfaces, length: int | None, autojump_clock: trio.testing.MockClock
) -> None:
    surfaces.relay.limit(max_message_bytes=200_000)
    async with running(site(surfaces)) as there:
        stream = there.connect(is_tls=True)
        await stream.send_all(head(length))
        if length is None:
            for _ in range(5):
                await stream.send_all(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
        answer, body = await read_answer(stream)
        assert answer.startswith(b"HTTP/1.1 413")
        assert body == b"552 5.3.4 message file too big\r\n"
        assert await stream.receive_some() == b""


async def test_a_peer_waits_for_the_store_and_not_the_memory(
    surfaces: Surfaces, autojump_clock: trio.testing.MockClock
) -> None:
    collect = surfaces.relay.collect

    class Stuck:
        def __call__(self, *arguments: Any) -> Any:
            collector = collect(*arguments)

            async def feed(chunk: bytes) -> None:
                await trio.sleep_forever()

            collector.feed = feed  # type: ignore[method-assign]
            return collector

    object.__setattr__(surfaces.mxdeliv._services, "collect", Stuck())
    sent = 0
    async with running(site(surfaces)) as there:
        ours, theirs = trio.testing.lockstep_stream_pair()
        there.nursery.start_soon(there.face.serve_connection, Connection(theirs, is_tls=True))
        await ours.send_all(head(20_000_000))
        with trio.move_on_after(30):
            while sent < 20_000_000:
                await ours.send_all(b"x" * 65_536)
                sent += 65_536
        assert sent < 2_000_000
        there.nursery.cancel_scope.cancel()


async def test_a_peer_that_asks_before_it_sends_is_told_to_go_on_or_not(
    surfaces: Surfaces, autojump_clock: trio.testing.MockClock
) -> None:
    asking = head(len(MESSAGE), b"Expect: 100-continue")
    async with running(site(surfaces)) as there:
        stream = there.connect(is_tls=True)
        await stream.send_all(asking)
        assert bytes(await stream.receive_some()).startswith(b"HTTP/1.1 100 ")
        await stream.send_all(MESSAGE)
        assert (await read_answer(stream))[1] == b"250 2.0.0 OK\r\n"
        surfaces.relay.limit(max_message_bytes=100)
        await stream.send_all(asking)
        answer = b""
        while b"552 5.3.4" not in answer:
            octets = bytes(await stream.receive_some())
            assert octets
            answer += octets
        assert b"HTTP/1.1 413 " in answer
