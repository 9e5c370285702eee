"""Async ports for the steps of a state machine, which are plain functions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from typing import Any

import trio


class Loop:
    """A Trio loop in a thread: the machine's steps are plain functions, the ports are not."""

    def __init__(self) -> None:
        self._token: trio.lowlevel.TrioToken
        self._over: trio.Event
        started = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._live, started))
        self._thread.start()
        started.wait()

    async def _live(self, started: threading.Event) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._over = trio.Event()
        started.set()
        await self._over.wait()

    def run(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: object) -> Any:
        return trio.from_thread.run(function, *args, trio_token=self._token)

    def end(self) -> None:
        trio.from_thread.run_sync(self._over.set, trio_token=self._token)
        self._thread.join()
