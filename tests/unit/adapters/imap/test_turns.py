"""Sessions that work for long wait for others, to read as well as to answer."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from chatmail.adapters.imap.waits import SLICE_S
from chatmail.adapters.net.turns import BUSY_S, PATIENCE_S, Turns
from chatmail.domain.model.account import AccountId
from chatmail.domain.model.mailbox import MailboxInfo
from chatmail.domain.ports.mailstore import FlagOutcome
from tests.unit.adapters.imap.world import Client, World


async def test_many_short_commands_share_one_slice() -> None:
    """A thousand commands in one segment, each short: others get their turn in between."""
    world = World()
    for _ in range(40):
        world.deliver()
    async with world.session() as busy, world.session() as other:
        commands = b"".join(b"p%d FETCH 1:* (FLAGS ENVELOPE)\r\n" % n for n in range(300))
        answered: list[str] = []

        async def read() -> None:
            while not (await busy.line()).startswith(b"p299 "):
                pass
            answered.append("busy")

        async with trio.open_nursery() as nursery:
            await busy.send(commands)
            nursery.start_soon(read)
            await trio.lowlevel.checkpoint()
            await other.send(b"a NOOP\r\n")
            assert (await other.line()).startswith(b"a OK")
            answered.append("other")
    assert answered == ["other", "busy"]


async def timed(client: Client, command: bytes) -> float:
    """Run a command; return how long it took by the mock clock."""
    began = trio.current_time()
    await client.ok(command)
    return trio.current_time() - began


def slow_turns() -> World:
    """A store whose threads never rest, so that a turn takes all its patience."""
    world = World()
    world.turns = Turns(lambda: True)
    return world


async def test_who_has_worked_for_long_waits_before_more_is_read(
    autojump_clock: MockClock,
) -> None:
    world = slow_turns()
    async with world.session() as client:
        assert await timed(client, b"NOOP") == 0
        world.turns.note(world.account.id)
        await client.ok(b"NOOP")
        assert await timed(client, b"NOOP") >= PATIENCE_S
        await trio.sleep(2 * BUSY_S)
        await client.ok(b"NOOP")
        assert await timed(client, b"NOOP") == 0


async def test_octets_nobody_asked_for_count_as_work(autojump_clock: MockClock) -> None:
    """A literal that is thrown away makes no event: reading it is all the work there is."""
    world = slow_turns()
    async with world.session() as client:
        await client.send(b"a SELECT {31000000+}\r\n")
        await trio.testing.wait_all_tasks_blocked()
        world.turns.note(world.account.id)
        before = client.server.reads
        for _ in range(100):
            await client.send(bytes(1000))
            await trio.sleep(PATIENCE_S / 10)
        assert 5 <= client.server.reads - before <= 15


async def test_all_sessions_of_an_account_share_its_turns(autojump_clock: MockClock) -> None:
    world = slow_turns()
    async with world.session() as first, world.session() as second:
        world.turns.note(world.account.id)
        for client in (first, second):
            await client.ok(b"NOOP")
            assert await timed(client, b"NOOP") >= PATIENCE_S


@pytest.mark.parametrize(("share", "is_steady"), [(0.01, False), (0.2, True)])
async def test_short_commands_become_long_work_when_they_never_end(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch, share: float, is_steady: bool
) -> None:
    """Slices are regained slowly, so that nobody gets a whole one for each line of a flood."""
    world = World()
    listing = world.store.list

    async def work(account: AccountId) -> list[MailboxInfo]:
        mock_clock.jump(SLICE_S / 4)
        return await listing(account)

    monkeypatch.setattr(world.store, "list", work)
    async with world.session() as client:
        for _ in range(20):
            mock_clock.jump(SLICE_S / 4 / share)
            await client.ok(b'LIST "" "*"')
        assert world.turns.is_steady(world.account.id) is is_steady


async def test_to_wait_for_a_disk_is_no_work(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    world.deliver()
    set_flags = world.store.set_flags

    async def slow(*arguments: Any) -> FlagOutcome:
        await trio.sleep(1)
        return await set_flags(*arguments)

    monkeypatch.setattr(world.store, "set_flags", slow)
    async with world.session() as client:
        for _ in range(3):
            await client.ok(b"STORE 1 +FLAGS (\\Seen)")
        assert not world.turns.is_steady(world.account.id)


async def test_news_in_idle_are_no_long_work(autojump_clock: MockClock) -> None:
    world = World()
    async with world.session() as client:
        await client.send(b"a IDLE\r\n")
        await client.line()
        for number in range(1, 9):
            await trio.sleep(1)
            world.deliver()
            assert await client.line() == b"* %d EXISTS" % number
        await trio.testing.wait_all_tasks_blocked()
        assert not world.turns.is_steady(world.account.id)
