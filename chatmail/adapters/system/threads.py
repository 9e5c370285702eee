"""Worker threads in named, bounded pools: the door to threads for everything but the store.

What a thread has begun is never abandoned: a cancelled caller waits for its end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, TypeVarTuple

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
