"""Of those who work long one runs at a time, when others have nothing to do."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from chatmail.adapters.net.turns import BUSY_S, LOOK_S, PATIENCE_S, THREAD_S, Turns


async def test_one_passes_between_two_looks_at_others() -> None:
    turns = Turns()
    slices: list[str] = []
    batches: list[int] = []

    async def work(name: str) -> None:
        for _ in range(5):
            await turns.take(name)
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
    # Trio shuffles each batch, so between two looks lies one slice, or none.
    assert max(batches) <= 1
    assert len(batches) >= 20
    assert all(set(slices[at : at + 4]) == set("abcd") for at in range(0, 20, 4)), slices


async def test_workers_take_turns_however_many_tasks_each_has() -> None:
    turns = Turns()
    slices: list[str] = []

    async def work(name: str, count: int) -> None:
        for _ in range(count):
            await turns.take(name)
            slices.append(name)

    async with trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(work, "crowd", 4)
        nursery.start_soon(work, "alone", 10)
    last = max(place for place, name in enumerate(slices) if name == "alone")
    assert last < 3 * 10 + 4  # it is not in line while it works


async def test_who_has_not_worked_of_late_goes_first(autojump_clock: MockClock) -> None:
    turns = Turns()
    slices: list[str] = []

    async def work(name: str) -> None:
        await turns.take(name)
        slices.append(name)

    for name in "abcd":
        turns.note(name)
    async with trio.open_nursery() as nursery:
        for name in "abcd":
            nursery.start_soon(work, name)
        nursery.start_soon(work, "new")
    assert slices.index("new") <= 1


async def test_a_turn_of_somebody_who_is_cancelled_is_not_lost() -> None:
    turns = Turns()
    done: list[int] = []

    async def work(number: int, scope: trio.CancelScope) -> None:
        with scope:
            for _ in range(3):
                await turns.take(number)
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
    assert turns.is_free
    with trio.fail_after(60):
        await turns.take("next")


async def test_whoever_waits_for_something_else_holds_no_turn() -> None:
    turns = Turns()

    async def wait(name: str) -> None:
        await turns.take(name)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "a")
        nursery.start_soon(wait, "b")
        await wait_all_tasks_blocked()
        with trio.fail_after(60):
            await turns.take("c")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("steps", "waits"), [(0, 0), (5, 5 * 2 * LOOK_S), (10_000, PATIENCE_S)], ids=str
)
async def test_others_finish_what_they_do_step_by_step_but_not_for_ever(
    mock_clock: MockClock, steps: int, waits: float
) -> None:
    turns = Turns()

    async def others() -> None:
        for _ in range(steps):
            mock_clock.jump(2 * LOOK_S)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        began = trio.current_time()
        await turns.take("long")
        assert trio.current_time() - began == pytest.approx(waits, abs=4 * LOOK_S)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("thread_s", [0.0, 0.0015, 60.0])
async def test_the_threads_of_the_store_go_first_but_not_for_ever(
    autojump_clock: MockClock, thread_s: float
) -> None:
    until = trio.current_time() + thread_s
    turns = Turns(lambda: trio.current_time() < until)
    await turns.take("long")
    waited = trio.current_time() - (until - thread_s)
    assert min(thread_s, PATIENCE_S) <= waited <= min(thread_s, PATIENCE_S) + THREAD_S


async def test_who_works_long_is_known_for_a_tenth_of_a_second(mock_clock: MockClock) -> None:
    turns = Turns()
    assert not turns.is_steady("a")
    turns.note("a")
    mock_clock.jump(0.9 * BUSY_S)
    assert turns.is_steady("a")
    mock_clock.jump(0.2 * BUSY_S)
    assert not turns.is_steady("a")


async def test_what_is_known_of_workers_is_forgotten(mock_clock: MockClock) -> None:
    turns = Turns()
    for number in range(1000):
        turns.note(number)
        mock_clock.jump(BUSY_S / 10)
    assert len(turns) <= 11


async def test_who_goes_first_goes_first_once_and_then_takes_turns(mock_clock: MockClock) -> None:
    is_storing = [True]
    turns = Turns(lambda: is_storing[0])
    order: list[str] = []

    async def work(name: str, goes_first: bool) -> None:
        await turns.take(name, goes_first=goes_first)
        order.append(name)

    async with trio.open_nursery() as nursery:
        turns.note("e")
        for name in "abcde":  # the first one is let through, and waits for the store
            nursery.start_soon(work, name, name in "de")
            await wait_all_tasks_blocked()
        is_storing[0] = False
        mock_clock.jump(THREAD_S)
    assert order == ["a", "d", "b", "c", "e"]
