from __future__ import annotations

import pytest
import trio

from chatmail.adapters.system.locks import LockTable
from chatmail.domain.model.errors import Overloaded


async def test_same_name_takes_turns_and_other_names_do_not_wait() -> None:
    table = LockTable()
    order: list[str] = []

    async def use(name: str, mark: str) -> None:
        async with table.hold(name):
            order.append(f"+{mark}")
            await trio.testing.wait_all_tasks_blocked()
            order.append(f"-{mark}")

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(use, "alice", str(number))
    for index in range(0, 6, 2):
        assert order[index][1:] == order[index + 1][1:]
    async with table.hold("alice"), table.hold("bob"):
        assert len(table) == 2
    assert len(table) == 0


async def test_names_are_bounded() -> None:
    table = LockTable(max_names=1)
    async with table.hold("a"):
        with pytest.raises(Overloaded):
            async with table.hold("b"):
                raise AssertionError
    async with table.hold("b"):
        assert len(table) == 1


async def test_waiters_of_one_name_are_bounded() -> None:
    table = LockTable(max_waiting=1)
    release = trio.Event()

    async def hold() -> None:
        async with table.hold("a"):
            await release.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold)
        nursery.start_soon(hold)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Overloaded):
            async with table.hold("a"):
                raise AssertionError
        release.set()
    assert len(table) == 0


async def test_cancelled_waiter_keeps_the_lock_with_its_holder() -> None:
    table = LockTable()
    async with table.hold("a"):
        with trio.move_on_after(0):
            async with table.hold("a"):
                raise AssertionError
        assert len(table) == 1
    assert len(table) == 0


async def test_error_inside_frees_the_name() -> None:
    table = LockTable()
    with pytest.raises(ValueError, match="inside"):
        async with table.hold("a"):
            raise ValueError("inside")
    assert len(table) == 0
