"""IDLE: what is told, when, and what is not."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
import trio

from chatmail.adapters.imap.idle import AGAIN_S
from chatmail.adapters.imap.spree import GAP_S, SPREE_S
from chatmail.domain.wire.imap.view import SelectedView
from tests.unit.adapters.imap.world import World


@asynccontextmanager
async def idling(world: World):  # type: ignore[no-untyped-def]
    async with world.session() as client:
        await client.send(b"i IDLE\r\n")
        assert await client.line() == b"+ idling"
        await trio.testing.wait_all_tasks_blocked()  # it may stand back after a long command
        yield client


async def test_plus_leaves_first_in_its_own_write_and_then_what_came_before() -> None:
    world = World()
    async with world.session() as client:
        world.deliver()  # between SELECT and IDLE
        client.server.writes.clear()
        await client.send(b"i IDLE\r\n")
        assert await client.line() == b"+ idling"
        assert await client.line() == b"* 1 EXISTS"
        assert client.server.writes == [b"+ idling\r\n", b"* 1 EXISTS\r\n"]


async def test_new_mail_is_told_at_once(autojump_clock: object) -> None:
    world = World()
    async with idling(world) as client:
        started = trio.current_time()
        world.deliver()
        assert await client.line() == b"* 1 EXISTS"
        assert trio.current_time() == started


async def test_of_a_burst_the_first_is_told_at_once_and_the_rest_is_one_line(
    autojump_clock: object,
) -> None:
    world = World()
    async with idling(world) as client:
        for _ in range(5):
            world.deliver()
        assert await client.line() == b"* 1 EXISTS"
        assert await client.line() == b"* 5 EXISTS"
        assert await client.quiet()


async def test_new_mail_is_written_where_it_is_published() -> None:
    world = World()
    async with idling(world) as client:
        world.deliver()
        assert client.server.writes[-1] == b"* 1 EXISTS\r\n"  # no other task has run


async def test_what_the_network_does_not_take_at_once_leaves_before_all_else() -> None:
    world = World()
    async with idling(world) as client:
        client.server.is_full = True
        world.deliver()
        await client.send(b"DONE\r\n")
        assert await client.line() == b"* 1 EXISTS"
        assert await client.line() == b"i OK Idle completed"


async def test_a_bug_in_telling_one_session_does_not_reach_who_publishes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    async with idling(world) as client:
        with monkeypatch.context() as patch:
            patch.setattr(SelectedView, "update", _fail)
            world.deliver()
        assert await client.line() == b"* 1 EXISTS"  # by the session's own task


def _fail(*_: object, **__: object) -> None:
    raise ValueError("a bug")


async def test_who_is_not_told_at_once_is_told_by_the_sessions_own_task(
    autojump_clock: object,
) -> None:
    world = World()
    async with idling(world) as first, idling(world) as second:
        steps = round(2 * SPREE_S / GAP_S)  # somebody has been telling for a while
        for step in range(steps):
            world.spree.goes_on(trio.current_time() - (steps - step) * GAP_S / 2)
        world.deliver()
        assert first.server.writes[-1] == second.server.writes[-1] == b"+ idling\r\n"
        assert await first.line() == b"* 1 EXISTS"
        assert await second.line() == b"* 1 EXISTS"


async def test_mail_right_behind_an_exists_is_gathered_for_20_ms(autojump_clock: object) -> None:
    world = World()
    async with idling(world) as client:
        world.deliver()
        assert await client.line() == b"* 1 EXISTS"
        started = trio.current_time()
        world.deliver()
        await trio.testing.wait_all_tasks_blocked()
        world.deliver()
        assert await client.line() == b"* 3 EXISTS"
        assert 0 < trio.current_time() - started <= 0.021


async def test_foreign_flags_are_gathered_for_a_second(autojump_clock: object) -> None:
    world = World()
    world.deliver()
    world.deliver()
    async with idling(world) as client, world.session() as other:
        started = trio.current_time()
        await other.ok(b"UID STORE 1 +FLAGS.SILENT (\\Seen)")
        await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(0.5)
        await other.ok(b"UID STORE 1,2 +FLAGS.SILENT (\\Flagged)")
        assert await client.line() == b"* 1 FETCH (UID 1 FLAGS (\\Flagged \\Seen))"
        assert await client.line() == b"* 2 FETCH (UID 2 FLAGS (\\Flagged))"
        assert trio.current_time() - started == pytest.approx(1.0)


async def test_new_mail_takes_waiting_flags_along(autojump_clock: object) -> None:
    world = World()
    world.deliver()
    async with idling(world) as client, world.session() as other:
        await other.ok(b"UID STORE 1 +FLAGS.SILENT (\\Seen)")
        await trio.testing.wait_all_tasks_blocked()
        started = trio.current_time()
        world.deliver()
        assert await client.line() == b"* 2 EXISTS"
        assert await client.line() == b"* 1 FETCH (UID 1 FLAGS (\\Seen))"
        assert trio.current_time() == started


async def test_expunges_are_told_with_true_numbers(autojump_clock: object) -> None:
    world = World()
    for _ in range(3):
        world.deliver()
    async with idling(world) as client, world.session() as other:
        await other.ok(b"UID STORE 1,3 +FLAGS.SILENT (\\Deleted)")
        await other.ok(b"CLOSE")
        assert await client.line() == b"* 3 EXPUNGE"
        assert await client.line() == b"* 1 EXPUNGE"


async def test_only_still_here_in_silence(autojump_clock: object) -> None:
    world = World()
    async with idling(world) as client:
        last = trio.current_time()
        for _ in range(5):
            assert await client.line() == b"* OK Still here"
            now = trio.current_time()
            assert 60 <= now - last <= 240.001
            last = now


async def test_news_puts_the_keepalive_off(autojump_clock: object) -> None:
    world = World()
    async with idling(world) as client:
        await trio.sleep(200)
        world.deliver()
        assert await client.line() == b"* 1 EXISTS"
        assert await client.line() == b"* 1 EXISTS"  # it was not looked at
        told = trio.current_time()
        assert await client.line() == b"* OK Still here"
        assert trio.current_time() - told > 200


async def test_mail_that_is_not_looked_at_is_told_once_more(autojump_clock: object) -> None:
    """A client that lost an EXISTS would hear of its mail with the next one."""
    world = World()
    async with idling(world) as client:
        world.deliver()
        world.deliver()
        assert await client.line() == b"* 1 EXISTS"
        assert await client.line() == b"* 2 EXISTS"
        told = trio.current_time()
        assert await client.line() == b"* 2 EXISTS"
        assert trio.current_time() - told == AGAIN_S
        assert await client.line() == b"* OK Still here"
        for _ in range(2):
            await client.send(b"DONE\r\n")
            assert (await client.line()).endswith(b"OK Idle completed")
            await client.send(b"i IDLE\r\n")
            assert await client.line() == b"+ idling"
            assert await client.line() == b"* OK Still here"


async def test_who_looked_at_its_mail_is_not_told_again(autojump_clock: object) -> None:
    world = World()
    async with idling(world) as client:
        world.deliver()
        assert await client.line() == b"* 1 EXISTS"
        await client.send(b"DONE\r\nf UID FETCH 1:* (FLAGS)\r\ni IDLE\r\n")
        while await client.line() != b"+ idling":
            pass
        assert await client.line() == b"* OK Still here"


async def test_mail_told_in_a_reply_and_not_looked_at_is_told_again_in_idle(
    autojump_clock: object,
) -> None:
    world = World()
    async with world.session() as client:
        world.deliver()
        await client.send(b"n NOOP\r\n")
        assert await client.line() == b"* 1 EXISTS"
        assert (await client.line()).startswith(b"n OK")
        began = trio.current_time()
        await client.send(b"i IDLE\r\n")
        assert await client.line() == b"+ idling"
        assert await client.line() == b"* 1 EXISTS"
        assert trio.current_time() - began == AGAIN_S


async def test_sessions_do_not_all_keep_alive_in_one_instant(autojump_clock: object) -> None:
    times = set()
    for _ in range(5):
        await trio.sleep(0.37)
        async with idling(World()) as client:
            started = trio.current_time()
            await client.line()
            times.add(round(trio.current_time() - started, 3))
    assert len(times) > 1
    # Never much earlier than asked for: each line costs a phone its sleep.
    assert all(216 <= seconds <= 240 for seconds in times)


@pytest.mark.parametrize("done", [b"DONE\r\n", b"done\n", b"Done\r\n"])
async def test_done_in_any_spelling(done: bytes) -> None:
    async with idling(World()) as client:
        await client.send(done)
        assert await client.line() == b"i OK Idle completed"
        await client.ok(b"NOOP")


async def test_done_in_the_same_segment_still_gets_the_plus_first() -> None:
    world = World()
    async with world.session() as client:
        world.deliver()
        await client.send(b"i IDLE\r\nDONE\r\n")
        assert await client.until(b"i") == [b"+ idling", b"* 1 EXISTS", b"i OK Idle completed"]


async def test_anything_else_ends_idle_with_bad() -> None:
    async with idling(World()) as client:
        await client.send(b"x NOOP\r\n")
        assert (await client.line()).startswith(b"i BAD ")
        await client.ok(b"NOOP")


async def test_news_that_waited_is_told_before_the_tagged_ok(autojump_clock: object) -> None:
    world = World()
    world.deliver()
    async with idling(world) as client, world.session() as other:
        await other.ok(b"UID STORE 1 +FLAGS.SILENT (\\Seen)")
        await trio.testing.wait_all_tasks_blocked()
        await client.send(b"DONE\r\n")
        assert await client.until(b"i") == [
            b"* 1 FETCH (UID 1 FLAGS (\\Seen))",
            b"i OK Idle completed",
        ]


async def test_idle_without_a_mailbox_only_keeps_alive(autojump_clock: object) -> None:
    world = World()
    async with world.connect() as client:
        await client.login()
        await client.send(b"i IDLE\r\n")
        assert await client.line() == b"+ idling"
        world.deliver()
        assert await client.line() == b"* OK Still here"
        await client.send(b"DONE\r\n")
        assert await client.line() == b"i OK Idle completed"


async def test_an_idle_session_outlives_the_inactivity_limit(autojump_clock: object) -> None:
    async with idling(World()) as client:
        started = trio.current_time()
        while trio.current_time() - started < 4000:
            assert await client.line() == b"* OK Still here"


async def test_a_session_that_stays_counts_as_a_login_of_the_day(autojump_clock: object) -> None:
    world = World()
    async with idling(world) as client:
        before = world.authenticate.touched
        assert before == 1  # SELECT
        assert await client.line() == b"* OK Still here"
        assert world.authenticate.touched == before + 1


async def test_a_deleted_mailbox_ends_idle() -> None:
    world = World()
    async with idling(world) as client:
        world.state.delete_account(world.account.id)
        assert await client.line() == b"* BYE Mailbox deleted"
        assert await client.line() == b""


async def test_an_idle_session_is_woken_by_its_own_mailbox_only() -> None:
    world = World()
    async with idling(world) as client:
        box = world.state.add_mailbox(world.account.id, "other", None, 1)
        world.deliver(mailbox=box.id)
        assert await client.quiet()


async def test_delivery_between_select_and_idle_is_never_late() -> None:
    world = World()
    async with world.session() as client:
        for number in range(1, 101):
            await client.send(b"i IDLE\r\n")
            if number % 2:
                world.deliver()
                assert await client.line() == b"+ idling"
            else:
                assert await client.line() == b"+ idling"
                world.deliver()
            assert await client.line() == b"* %d EXISTS" % number
            await client.send(b"DONE\r\n")
            assert await client.line() == b"i OK Idle completed"
