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


async def test_what_is_delivered_in_a_tenth_of_a_second_is_one_transaction(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with running() as (store, settling):
        began = trio.current_time()
        settling.later(delivered(1, 2))
        await trio.sleep(PAUSE_S / 2)
        settling.later(delivered(3))
        await trio.sleep(1)
        assert [numbers for _, numbers in store.settled] == [[1, 2, 3]]
        assert store.settled[0][0] <= began + PAUSE_S + 0.02


async def test_very_many_do_not_wait(autojump_clock: trio.abc.Clock) -> None:
    async with running() as (store, settling):
        began = trio.current_time()
        settling.later(delivered(*range(MOST)))
        await trio.sleep(0.02)
        assert len(store.settled[0][1]) == MOST
        assert store.settled[0][0] < began + PAUSE_S


async def test_what_comes_while_the_store_works_is_next(autojump_clock: trio.abc.Clock) -> None:
    async with running() as (store, settling):
        settling.later(delivered(1))
        await trio.sleep(PAUSE_S + 0.005)
        settling.later(delivered(2))
        await trio.sleep(1)
        assert [numbers for _, numbers in store.settled] == [[1], [2]]


async def test_a_store_that_refuses_is_asked_again(autojump_clock: trio.abc.Clock) -> None:
    async with running() as (store, settling):
        store.failures = 2
        settling.later(delivered(1))
        await trio.sleep(2)
        settling.later(delivered(2))
        await trio.sleep(5)
        assert sorted(number for _, numbers in store.settled for number in numbers) == [1, 2]


async def test_at_the_end_nothing_waits(autojump_clock: trio.abc.Clock) -> None:
    async with running() as (store, settling):
        settling.later(delivered(1))
    await settling.finish()
    await settling.finish()
    assert [numbers for _, numbers in store.settled] == [[1]]


async def test_cut_off_in_the_store_it_is_settled_again(autojump_clock: trio.abc.Clock) -> None:
    async with running() as (store, settling):
        settling.later(delivered(1))
        await trio.sleep(PAUSE_S + 0.005)
    assert store.settled == []
    await settling.finish()
    assert [numbers for _, numbers in store.settled] == [[1]]
