"""Deliveries are settled many at once, and none is lost on the way to the store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from chatmail.adapters.jobs.healing import Healing
from chatmail.adapters.jobs.settling import MOST, PAUSE_S, Settling
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.outbound import OutboundMessageId, Settled, Settlement, SettlementKind
from tests.unit.fakes.system import FakeLog


class Store:
    """The part of the queue that is asked."""

    def __init__(self) -> None:
        self.settled: list[tuple[float, list[int]]] = []
        self.failures = 0

    async def settle(self, settled: Settled) -> None:
        await trio.sleep(0.01)
        if self.failures:
            self.failures -= 1
            raise TransientFailure("full")
        self.settled.append((trio.current_time(), [int(one.message) for one in settled.entries]))


def delivered(*numbers: int) -> Settled:
    recipient = EmailAddress("bob", "peer.test")
    return Settled(
        entries=tuple(
            Settlement(
                message=OutboundMessageId(number),
                recipient=recipient,
                kind=SettlementKind.DELIVERED,
            )
            for number in numbers
        )
    )


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Store, Settling]]:
    store = Store()
    settling = Settling(queue=store, heal=Healing(FakeLog()))  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(settling.run)
        yield store, settling
        nursery.cancel_scope.cancel()


async def test_what_is_delivered_at_about_the_same_time_is_one_transaction(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with running() as (store, settling):
        began = trio.current_time()
        await settling.later(delivered(1, 2))
        await trio.sleep(PAUSE_S / 2)
        await settling.later(delivered(3))
        await trio.sleep(1)
        assert [numbers for _, numbers in store.settled] == [[1, 2, 3]]
        assert store.settled[0][0] <= began + PAUSE_S + 0.02


async def test_as_many_as_may_be_lost_do_not_wait_for_more_of_them(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with running() as (store, settling):
        began = trio.current_time()
        for number in range(MOST):
            await settling.later(delivered(number, 100 + number))
        assert trio.current_time() == began
        await settling.later(delivered(50))
        assert trio.current_time() > began
        assert len(store.settled[0][1]) == 2 * MOST
        await trio.sleep(1)
        assert store.settled[1][1] == [50]


async def test_no_more_than_so_many_are_lost_when_the_store_takes_nothing(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with running() as (store, settling):
        store.failures, done = 1000, 0

        async def deliver(number: int) -> None:
            nonlocal done
            await settling.later(delivered(number))
            done += 1

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(deliver, number)
            await trio.sleep(60)
            assert done == MOST
            store.failures = 0
        assert done == 20
    await settling.finish()
    assert sorted(one for _, numbers in store.settled for one in numbers) == list(range(20))


async def test_what_comes_while_the_store_works_is_next(autojump_clock: trio.abc.Clock) -> None:
    async with running() as (store, settling):
        await settling.later(delivered(1))
        await trio.sleep(PAUSE_S + 0.005)
        await settling.later(delivered(2))
        await trio.sleep(1)
        assert [numbers for _, numbers in store.settled] == [[1], [2]]


async def test_a_store_that_refuses_is_asked_again(autojump_clock: trio.abc.Clock) -> None:
    async with running() as (store, settling):
        store.failures = 2
        await settling.later(delivered(1))
        await trio.sleep(2)
        await settling.later(delivered(2))
        await trio.sleep(5)
        assert sorted(number for _, numbers in store.settled for number in numbers) == [1, 2]


async def test_at_the_end_nothing_waits(autojump_clock: trio.abc.Clock) -> None:
    async with running() as (store, settling):
        await settling.later(delivered(1))
    await settling.finish()
    await settling.finish()
    assert [numbers for _, numbers in store.settled] == [[1]]


async def test_cut_off_in_the_store_it_is_settled_again(autojump_clock: trio.abc.Clock) -> None:
    async with running() as (store, settling):
        await settling.later(delivered(1))
        await trio.sleep(PAUSE_S + 0.005)
    assert store.settled == []
    await settling.finish()
    assert [numbers for _, numbers in store.settled] == [[1]]
