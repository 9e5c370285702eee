"""Of those that work long, one runs per batch of the event loop, in order."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from chatmail.adapters.imap.turns import Turns
from tests.unit.adapters.imap.world import World


async def test_one_passes_between_two_looks_at_others() -> None:
    turns = Turns()
    slices: list[str] = []
    batches: list[int] = []

    async def work(name: str) -> None:
        for _ in range(5):
            await turns.take()
            slices.append(name)

    async def look() -> None:
        while len(slices) < 20:
            before = len(slices)
            await trio.lowlevel.checkpoint()
            batches.append(len(slices) - before)

    async with trio.open_nursery() as nursery:
        for name in "abcd":
            nursery.start_soon(work, name)
        nursery.start_soon(look)
    # Trio shuffles each batch, so between two looks lies one slice, or none, or two.
    assert max(batches) <= 2
    assert len(batches) >= 19
    assert all(set(slices[at : at + 4]) == set("abcd") for at in range(0, 20, 4)), slices


async def test_a_turn_of_somebody_who_is_cancelled_is_not_lost() -> None:
    turns = Turns()
    done: list[int] = []

    async def work(number: int, scope: trio.CancelScope) -> None:
        with scope:
            for _ in range(3):
                await turns.take()
            done.append(number)

    scopes = [trio.CancelScope() for _ in range(6)]
    async with trio.open_nursery() as nursery:
        for number, scope in enumerate(scopes):
            nursery.start_soon(work, number, scope)
        scopes[5].cancel()
        await trio.lowlevel.checkpoint()
        for number in (0, 2):
            scopes[number].cancel()
            await trio.lowlevel.checkpoint()
    assert {1, 3, 4} <= set(done)
    with trio.fail_after(60):
        await turns.take()


async def test_whoever_waits_for_something_else_holds_no_turn() -> None:
    turns = Turns()

    async def wait() -> None:
        await turns.take()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        with trio.fail_after(60):
            await turns.take()
        nursery.cancel_scope.cancel()


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
