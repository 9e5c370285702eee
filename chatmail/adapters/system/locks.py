"""Locks by name inside this process, bounded in number."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from chatmail.domain.model.errors import Overloaded

MAX_NAMES: Final = 1024
MAX_WAITING: Final = 128
"""Per name: twice the sessions one account may have, IMAP and SMTP together."""


class LockTable:
    """A lock lives while somebody holds it or waits for it."""

    def __init__(self, max_names: int = MAX_NAMES, max_waiting: int = MAX_WAITING) -> None:
        self._max_names = max_names
        self._max_waiting = max_waiting
        self._locks: dict[str, trio.Lock] = {}

    def __len__(self) -> int:
        return len(self._locks)

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[None]:
        """Hold the lock of `name`; others wait in order.

        Raises:  Overloaded: too many names are held, or too many tasks wait for this one.
        """
        lock = self._locks.get(name)
        if lock is None:
            if len(self._locks) >= self._max_names:
                raise Overloaded("too many names are locked")
            lock = self._locks[name] = trio.Lock()
        elif lock.statistics().tasks_waiting >= self._max_waiting:
            raise Overloaded("too many tasks wait for one name")
        try:
            async with lock:
                yield
        finally:
            # A released lock is handed to the next waiter at once, so unlocked means unused;
            # one that a cancelled waiter leaves behind is still locked by its holder.
            if not lock.locked() and self._locks.get(name) is lock:
                del self._locks[name]
