"""NOTIFY at the face: in IDLE, between pieces, up to the end of a session."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.unit.adapters.imap.notifying import OTHERS, SELECTED, notified, other_mailbox
from tests.unit.adapters.imap.world import MESSAGE, Client, World


async def test_idle_tells_the_same_events(autojump_clock: object) -> None:
    world = World()
    elsewhere = other_mailbox(world)
    async with notified(world, SELECTED + b" " + OTHERS) as client, world.session() as other:
        await client.send(b"i IDLE\r\n")
        assert await client.line() == b"+ idling"
        world.deliver()
        assert await client.line() == b"* 1 EXISTS"
        assert (await client.line()).startswith(b"* 1 FETCH (UID 1 RFC822.SIZE ")
        world.deliver(mailbox=elsewhere)
        assert await client.line() == b'* STATUS "other" (MESSAGES 1 UIDNEXT 2)'
        await other.ok(b"CREATE a")
        assert await client.line() == b'* LIST (\\HasNoChildren) "/" "a"'
        await client.send(b"DONE\r\n")
        assert await client.line() == b"i OK Idle completed"


async def test_idle_is_silent_about_a_mailbox_nothing_was_asked_of(autojump_clock: object) -> None:
    world = World()
    async with notified(world, OTHERS) as client:
        await client.send(b"i IDLE\r\n")
        assert await client.line() == b"+ idling"
        world.deliver()
        assert await client.line() == b"* OK Still here"
        await client.send(b"DONE\r\n")
        assert await client.line() == b"i OK Idle completed"


async def test_a_command_in_pieces_is_not_interrupted() -> None:
    world = World()
    async with notified(world, SELECTED) as client:
        await client.send(b"a CREATE {3}\r\n")
        assert await client.line() == b"+ OK"
        world.deliver()
        assert await client.quiet()
        await client.send(b"new\r\n")
        *told, done = await client.until(b"a")
        assert told == [b"* 1 EXISTS", b"* 1 FETCH (UID 1 RFC822.SIZE %d)" % len(MESSAGE)]
        assert done.endswith(b"Create completed")


async def test_nothing_is_pushed_behind_compress_before_the_client_speaks() -> None:
    """RFC 4978, spec mail 4.4 (COMPRESS): the client drops what came with the OK."""
    world = World()
    async with notified(world, SELECTED) as client:
        await client.ok(b"COMPRESS DEFLATE")
        world.deliver()
        assert await client.quiet()
        client.start_deflate()
        assert (await client.ok(b"NOOP"))[0] == b"* 1 EXISTS"
        world.deliver()
        assert await client.line() == b"* 2 EXISTS"


async def test_events_do_not_put_off_the_end_for_inactivity(autojump_clock: object) -> None:
    world = World()
    async with notified(world, SELECTED) as client:
        started = trio.current_time()
        for number in range(1, 5):
            await trio.sleep(400)
            world.deliver()
            assert await client.line() == b"* %d EXISTS" % number
            await client.line()
        assert await client.line() == b"* BYE Disconnected for inactivity"
        assert trio.current_time() - started == pytest.approx(1800)


async def test_what_comes_within_20_ms_is_one_line_and_the_client_is_heard(
    autojump_clock: object,
) -> None:
    world = World()
    async with notified(world, b"(SELECTED (MessageNew MessageExpunge))") as client:
        world.deliver()
        assert await client.line() == b"* 1 EXISTS"
        started = trio.current_time()
        for _ in range(5):
            world.deliver()
            await trio.testing.wait_all_tasks_blocked()
        assert await client.ok(b"NOOP") == [b"* 6 EXISTS"]
        assert trio.current_time() == started
        world.deliver()
        assert await client.line() == b"* 7 EXISTS"
        assert trio.current_time() - started <= 0.021


async def test_a_deleted_mailbox_ends_the_session_at_once() -> None:
    world = World()
    other_mailbox(world, "old")
    async with world.session(b"old") as client, world.session() as other:
        await client.ok(b"NOTIFY SET " + SELECTED)
        await other.ok(b"DELETE old")
        assert await client.line() == b"* BYE Mailbox deleted"
        assert await client.line() == b""


async def test_trouble_with_the_store_ends_the_session() -> None:
    world = World()
    elsewhere = other_mailbox(world)
    async with notified(world, OTHERS) as client:
        world.state.fail = 1
        world.deliver(mailbox=elsewhere)
        assert (await client.line()).startswith(b"* BYE [UNAVAILABLE] ")
    assert "imap_command_failed" in world.log.events


async def test_trouble_at_the_start_is_no_and_changes_nothing() -> None:
    world = World()
    async with world.session() as client:
        world.state.fail = 1
        assert (await client.cmd(b"NOTIFY SET " + OTHERS))[-1].startswith(b"NO [UNAVAILABLE] ")
        world.deliver()
        assert await client.quiet()
        assert await client.ok(b"NOOP") == [b"* 1 EXISTS"]


async def test_a_drain_reaches_a_session_that_waits_for_events() -> None:
    world = World()
    async with notified(world, OTHERS) as client:
        world.drain.start()
        assert await client.line() == b"* BYE [UNAVAILABLE] Server restarting"


async def test_listening_ends_with_the_session_and_with_the_next_notify() -> None:
    world = World()
    elsewhere = other_mailbox(world)
    hints = world.state.hints
    async with world.session() as client:
        assert hints.subscribers(elsewhere) == 0
        for _ in range(3):
            await client.ok(b"NOTIFY SET " + OTHERS)
            assert hints.subscribers(elsewhere) == 1
        await client.ok(b"NOTIFY SET " + SELECTED)
        assert hints.subscribers(elsewhere) == 0
        assert hints.subscribers(world.inbox) == 1
        await client.ok(b"NOTIFY SET " + OTHERS)
    await trio.testing.wait_all_tasks_blocked()
    assert hints.subscribers(elsewhere) == hints.subscribers(world.inbox) == 0


async def test_sessions_without_notify_hear_nothing_of_names(autojump_clock: object) -> None:
    world = World()
    async with world.session() as client, world.session() as other:
        await client.send(b"i IDLE\r\n")
        assert await client.line() == b"+ idling"
        await other.ok(b"CREATE a")
        await other.ok(b"SUBSCRIBE a")
        assert await client.line() == b"* OK Still here"
        assert await _next_is_silent(client)


async def _next_is_silent(client: Client) -> bool:
    return await client.line() == b"* OK Still here"


async def test_notify_is_refused_before_login_and_by_grammar() -> None:
    async with World().connect() as client:
        await client.line()
        assert (await client.cmd(b"NOTIFY NONE"))[-1].startswith(b"BAD ")
    async with World().session() as client:
        reply = await client.cmd(b"NOTIFY SET (PERSONAL (AnnotationChange))")
        assert reply[-1].startswith(b"NO [BADEVENT (MessageNew ")
