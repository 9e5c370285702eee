"""Exchangers are asked when they are due, and when the operator says so."""

from __future__ import annotations

import attrs
import trio

from chatmail.adapters.jobs.exchangers import RETRY_S, run_exchangers
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.exchanger import Exchanger
from tests.unit.adapters.jobs.runner import LoopClock
from tests.unit.fakes.exchangers import MemoryExchangerStore


async def test_each_is_asked_in_its_interval(autojump_clock: trio.abc.Clock) -> None:
    store, asked, fails = MemoryExchangerStore(), [], False

    async def poll(exchanger: Exchanger) -> None:
        await trio.sleep(1)
        if fails:
            raise TransientFailure("full")
        asked.append(exchanger.name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_exchangers, poll, store, LoopClock())  # type: ignore[arg-type]
        await trio.sleep(1000)
        assert asked == []
        hub = Exchanger(name="hub", url="https://hub.test", interval_s=60)
        await store.put(hub)
        await store.put(attrs.evolve(hub, name="slow", interval_s=600))
        await store.put(attrs.evolve(hub, name="off", is_enabled=False))
        await trio.sleep(5)
        assert asked == ["hub", "slow"]
        await trio.sleep(595)
        assert 9 <= asked.count("hub") <= 11
        assert "off" not in asked
        fails, asked[:] = True, []
        await trio.sleep(300)
        fails = False
        await trio.sleep(RETRY_S + 70)
        assert "hub" in asked
        nursery.cancel_scope.cancel()
