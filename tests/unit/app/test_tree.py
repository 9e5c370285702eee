"""Signals: what is heard when."""

from __future__ import annotations

import os
import signal

import trio
import trio.testing

from chatmail.app.tree import _Signals
from tests.unit.ports.world import ListLog


async def test_a_hangup_while_stopping_is_not_followed() -> None:
    signals = _Signals(ListLog())  # type: ignore[arg-type]
    heard: list[str] = []

    async def on_hangup() -> None:
        heard.append("hangup")

    async with trio.open_nursery() as nursery:
        await nursery.start(signals.listen)
        os.kill(os.getpid(), signal.SIGHUP)  # before the start is done: nothing to be reloaded
        await trio.testing.wait_all_tasks_blocked(0.01)
        signals.on_hangup = on_hangup
        os.kill(os.getpid(), signal.SIGHUP)
        with trio.fail_after(60):
            while not heard:
                await trio.testing.wait_all_tasks_blocked(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        with trio.fail_after(60):
            await signals.stop.wait()
        os.kill(os.getpid(), signal.SIGHUP)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert heard == ["hangup"]
        nursery.cancel_scope.cancel()
