"""The drain signal: told once, heard by every session that waits for input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Drain:
    """Sessions register a callback while they wait; `start` calls each once."""

    def __init__(self) -> None:
        self._is_set = False
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._next = 0

    def is_set(self) -> bool:
        """Say whether the server is shutting down."""
        return self._is_set

    @contextmanager
    def subscribe(self, callback: Callable[[], None]) -> Iterator[None]:
        """Have `callback` called when draining starts; at once if it has started."""
        key = self._next
        self._next += 1
        if self._is_set:
            callback()
        else:
            self._callbacks[key] = callback
        try:
            yield
        finally:
            self._callbacks.pop(key, None)

    def start(self) -> None:
        """Start draining. Idempotent."""
        self._is_set = True
        callbacks = list(self._callbacks.values())
        self._callbacks.clear()
        for callback in callbacks:
            callback()
