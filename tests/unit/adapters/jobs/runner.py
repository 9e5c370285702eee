"""A runner of the queue under the mock clock, with peers that do as they are told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs
import trio
import trio.testing

from chatmail.adapters.jobs.outbound import LEASE_S, OutboundRunner
from chatmail.domain.model.outbound import QueueFilter
from chatmail.domain.ports.remote import QueuedLetter
from tests.unit.domain.usecases.abroad import ALICE, RelayAbroad
from tests.unit.domain.usecases.relay import NOW_S

DEAD = "dead.test"
SLOW = "slow.test"


class LoopClock:
    """Both times follow the loop's clock."""

    def __init__(self) -> None:
        self.wall_offset_s = NOW_S - trio.current_time()

    def now_s(self) -> float:
        return trio.current_time() + self.wall_offset_s

    def monotonic_s(self) -> float:
        return trio.current_time()


@attrs.define
class Running:
    """A relay whose runner runs."""

    relay: RelayAbroad
    runner: OutboundRunner
    stop: Callable[[], None]
    stopped: trio.Event

    async def letter(self, *recipients: str, sender: str = ALICE) -> QueuedLetter:
        """Commit a message under a lease, as a submission does."""
        number = self.relay.enqueue(*recipients, sender=sender, lease_s=LEASE_S)
        mine = tuple(await self.relay.queue.page(QueueFilter(message=number), None, 100))

        async def read(offset: int, length: int) -> bytes:
            return await self.relay.queue.read(number, offset, length)

        return QueuedLetter(entries=mine, read=read)


def make() -> tuple[RelayAbroad, OutboundRunner]:
    relay = RelayAbroad()
    relay.clock = LoopClock()  # type: ignore[assignment]
    relay.wire()
    relay.schedule(start_delay_s=0.0)
    runner = OutboundRunner(
        attempt=relay.attempt,
        queue=relay.queue,
        memory=relay.memory,
        ledger=relay.ledger,
        clock=relay.clock,
        entropy=relay.entropy,
        settings=lambda: relay.settings,
        log=relay.log,
    )
    return relay, runner


@asynccontextmanager
async def running(relay: RelayAbroad, runner: OutboundRunner) -> AsyncIterator[Running]:
    async with trio.open_nursery() as nursery:
        stopped = trio.Event()

        async def run() -> None:
            try:
                await runner.run()
            finally:
                stopped.set()

        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        yield Running(relay, runner, nursery.cancel_scope.cancel, stopped)
        nursery.cancel_scope.cancel()
