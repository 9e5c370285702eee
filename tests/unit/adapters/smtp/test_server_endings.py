"""Every way a session can end: silence, drain, cancellation, a store that hangs, errors."""

from __future__ import annotations

import pytest
import trio

from chatmail.domain.model.verdict import RefusalReason
from chatmail.domain.wire.smtp.sequence import Role
from tests.unit.adapters.smtp.dialogue import CONTENT, ENVELOPE
from tests.unit.adapters.smtp.fakes import AUTH, LoginRefusal, World, connect


async def test_silence_ends_after_five_minutes(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    connection = connect(nursery, World())
    await connection.log_in()
    start = trio.current_time()
    assert await connection.client.rest() == b"421 4.4.2 Idle for too long\r\n"
    assert 300 <= trio.current_time() - start <= 311  # never early
    assert connection.world.sessions.open == {}


async def test_silence_inside_content_discards(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    connection = connect(nursery, World())
    await connection.log_in()
    await connection.client.ask(ENVELOPE, 3)
    await connection.client.say(b"half")
    assert await connection.client.rest() == b"421 4.4.2 Idle for too long\r\n"
    assert connection.world.sinks == ["opened", "left"]


async def test_a_drip_of_octets_without_progress_ends_after_a_quarter_hour(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    connection = connect(nursery, World(), Role.INBOUND)
    client = connection.client
    await client.reply()
    start = trio.current_time()
    with trio.move_on_after(5000):
        while not connection.done.is_set():
            await client.say(b"N")
            await trio.sleep(20)
    assert await client.rest() == b"421 4.4.2 Idle for too long\r\n"
    assert trio.current_time() - start == pytest.approx(900, abs=20)


async def test_draining_ends_an_idle_session_at_once(nursery: trio.Nursery) -> None:
    connection = connect(nursery, World())
    await connection.log_in()
    connection.world.drain.set()
    assert await connection.client.rest() == b"421 4.3.2 Service shutting down\r\n"


async def test_draining_lets_a_message_finish_and_then_ends(nursery: trio.Nursery) -> None:
    connection = connect(nursery, World())
    await connection.log_in()
    await connection.client.ask(ENVELOPE, 3)
    await connection.client.say(CONTENT[:10])
    await trio.testing.wait_all_tasks_blocked()
    connection.world.drain.set()
    await connection.client.say(CONTENT[10:])
    assert await connection.client.rest() == (
        b"250 2.0.0 Ok: queued as 7x\r\n421 4.3.2 Service shutting down\r\n"
    )
    assert len(connection.world.messages) == 1


async def test_draining_while_a_message_is_stored_refuses_the_next_one(
    nursery: trio.Nursery,
) -> None:
    world = World()

    async def drain_now() -> None:
        world.drain.set()

    world.before_commit = drain_now
    connection = connect(nursery, world)
    await connection.log_in()
    await connection.client.ask(ENVELOPE, 3)
    await connection.client.say(CONTENT + ENVELOPE + CONTENT)
    assert await connection.client.rest() == (
        b"250 2.0.0 Ok: queued as 7x\r\n421 4.3.2 Service shutting down\r\n"
    )
    assert len(world.messages) == 1


async def test_draining_just_as_commands_come_refuses_them(nursery: trio.Nursery) -> None:
    connection = connect(nursery, World())
    await connection.log_in()
    await trio.testing.wait_all_tasks_blocked()
    await connection.client.say(ENVELOPE + CONTENT)
    connection.world.drain.set()
    out = await connection.client.rest()
    assert out.endswith(b"421 4.3.2 Service shutting down\r\n")
    assert connection.world.messages == []


async def test_draining_interrupts_the_wait_after_a_refused_login(nursery: trio.Nursery) -> None:
    refusal = LoginRefusal(RefusalReason.BAD_CREDENTIALS, 30.0)
    connection = connect(nursery, World(login=lambda _: refusal))
    await connection.client.ask(b"EHLO x\r\n", 2)
    await connection.client.say(AUTH)
    await trio.testing.wait_all_tasks_blocked()
    connection.world.drain.set()
    assert (await connection.client.rest()).startswith(b"421 4.3.2")


async def test_a_new_connection_while_draining_is_told_so(nursery: trio.Nursery) -> None:
    world = World()
    world.drain.set()
    connection = connect(nursery, world)
    assert await connection.client.rest() == b"421 4.3.2 Service shutting down\r\n"


async def test_cancellation_from_outside_still_says_421(nursery: trio.Nursery) -> None:
    connection = connect(nursery, World())
    await connection.log_in()
    connection.cancel.cancel()
    assert await connection.client.rest() == b"421 4.3.2 Service shutting down\r\n"
    assert connection.world.sessions.open == {}


async def test_a_commit_that_outlives_the_cancellation_is_still_acknowledged(
    nursery: trio.Nursery,
) -> None:
    world = World()
    connection = connect(nursery, world)

    async def cancelled_meanwhile() -> None:
        connection.cancel.cancel()

    world.before_commit = cancelled_meanwhile
    await connection.log_in()
    await connection.client.ask(ENVELOPE, 3)
    await connection.client.say(CONTENT)
    out = await connection.client.rest()
    assert len(world.messages) == 1
    assert out.endswith(b"421 4.3.2 Service shutting down\r\n")
    assert out.startswith(b"250 2.0.0 Ok: queued as 7x\r\n")


async def test_a_store_that_hangs_is_451_before_core_gives_up(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(before_commit=trio.sleep_forever)
    connection = connect(nursery, world)
    await connection.log_in()
    await connection.client.ask(ENVELOPE, 3)
    start = trio.current_time()
    await connection.client.say(CONTENT)
    assert await connection.client.rest() == b"451 4.3.0 Temporary failure\r\n"
    assert trio.current_time() - start == pytest.approx(45)
    assert world.messages == []


async def test_a_commit_that_ends_after_the_deadline_is_a_250(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def slow() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(50)

    world = World(before_commit=slow)
    connection = connect(nursery, world)
    await connection.log_in()
    await connection.client.ask(ENVELOPE, 3)
    await connection.client.say(CONTENT)
    out = await connection.client.rest()
    assert out == b"250 2.0.0 Ok: queued as 7x\r\n421 4.4.2 Idle for too long\r\n"


async def test_nothing_is_said_behind_a_write_that_was_broken_off(nursery: trio.Nursery) -> None:
    connection = connect(nursery, World())
    await connection.log_in()
    connection.stream.writes.clear()
    connection.stream.is_stalled = True
    await connection.client.say(b"NOOP\r\n")
    await trio.testing.wait_all_tasks_blocked()
    connection.cancel.cancel()
    await connection.done.wait()
    assert connection.stream.writes == [b"250 2.0.0 Ok\r\n"]


async def test_too_many_errors_close(nursery: trio.Nursery) -> None:
    connection = connect(nursery, World())
    await connection.client.reply()
    await connection.client.say(b"BOGUS\r\n" * 30)
    out = await connection.client.rest()
    assert out.count(b"500 5.5.2") == 20
    assert out.endswith(b"421 4.7.0 Too many errors\r\n")
