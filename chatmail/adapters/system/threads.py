"""Worker threads in named, bounded pools: the door to threads for everything but the store.

What a thread has begun is never abandoned: a cancelled caller waits for its end.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from queue import SimpleQueue
from typing import TypeVar, TypeVarTuple

import outcome
import trio

from chatmail.domain.model.errors import Overloaded

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class ThreadPool:
    """At most `slots` calls at once, at most `max_waiting` tasks in line for them."""

    def __init__(self, name: str, slots: int, max_waiting: int) -> None:
        self.name = name
        self._slots = trio.CapacityLimiter(slots)
        self._threads = trio.CapacityLimiter(slots)
        self._max_waiting = max_waiting

    @property
    def waiting(self) -> int:
        """Return how many tasks stand in line."""
        return self._slots.statistics().tasks_waiting

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold one slot; what the caller wants to look at again before `run_in_slot` goes here.

        Raises:  Overloaded: the line is full.
        """
        if self.waiting >= self._max_waiting:
            raise Overloaded(f"the line for {self.name} threads is full")
        async with self._slots:
            yield

    async def run_in_slot(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Run a function in a thread. Only inside `slot()`."""
        return await trio.to_thread.run_sync(
            function, *args, limiter=self._threads, thread_name=f"chatmail {self.name}"
        )

    async def run(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Run a function in a thread when a slot is free.

        Raises:  Overloaded: the line is full.
        Cancellation:  while waiting, nothing ran; later it takes effect when the thread is done.
        Cost:  one thread hop, about 0.2 ms.
        """
        async with self.slot():
            return await self.run_in_slot(function, *args)


class OneThread:
    """A thread of its own for one caller, who makes one call after the other.

    Half the cost of a thread of Trio's cache: no limiter, no copy of the context, no new name in
    the kernel for each call.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._under_way = 0
        self._calls: SimpleQueue[Callable[[], None] | None] | None = None

    @property
    def is_at_work(self) -> bool:
        """Say whether a call is waited for."""
        return self._under_way > 0

    async def run(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Run a function in the thread, which begins with the first call.

        Cancellation:  has no effect: what was begun is waited for.
        """
        caller, token = trio.lowlevel.current_task(), trio.lowlevel.current_trio_token()

        def call() -> None:
            result = outcome.capture(function, *args)
            token.run_sync_soon(trio.lowlevel.reschedule, caller, result)

        if self._calls is None:
            self._calls = SimpleQueue()
            # A daemon: where nobody closes it, as in a process that is ending, it waits for ever.
            threading.Thread(
                target=_serve, args=(self._calls,), name=self._name, daemon=True
            ).start()
        self._under_way += 1
        self._calls.put(call)
        try:
            result: T = await trio.lowlevel.wait_task_rescheduled(_stay)
        finally:
            self._under_way -= 1
        return result

    def close(self) -> None:
        """Let the thread end; a later call begins another one."""
        if self._calls is not None:
            self._calls.put(None)
            self._calls = None


def _serve(calls: SimpleQueue[Callable[[], None] | None]) -> None:
    while (call := calls.get()) is not None:
        call()
        del call  # what it was given must not live on until the next one


def _stay(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED
