"""Connections that are kept for the next message, by what they were opened for.

Bounded per key, in all, and in time. Nobody waits here: whoever finds none opens one.
"""

from __future__ import annotations

import select
from collections.abc import Hashable
from typing import Final, Generic, Protocol, TypeVar

import attrs
import trio

MAX_KEPT: Final = 256


class Kept(Protocol):
    """A connection that can be kept."""

    def is_usable(self) -> bool:
        """Say whether the peer has neither closed nor spoken meanwhile. Sync."""

    def abort(self) -> None:
        """Close at once. Sync; never raises."""


Connection = TypeVar("Connection", bound=Kept)


@attrs.frozen
class _Idle(Generic[Connection]):
    connection: Connection
    until: float


class ConnectionPool(Generic[Connection]):
    """Idle connections; the last one kept is the first one taken."""

    def __init__(self, *, idle_s: float, per_key: int) -> None:
        self._idle_s = idle_s
        self._per_key = per_key
        self._kept: dict[Hashable, list[_Idle[Connection]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def take(self, key: Hashable) -> Connection | None:
        """Take a usable connection; None: there is none."""
        while kept := self._kept.get(key):
            idle = kept.pop()
            self._count -= 1
            if not kept:
                del self._kept[key]
            if idle.until > trio.current_time() and idle.connection.is_usable():
                return idle.connection
            idle.connection.abort()
        return None

    def put(self, key: Hashable, connection: Connection) -> None:
        """Keep a connection, or close it where there are enough."""
        kept = self._kept.setdefault(key, [])
        if len(kept) >= self._per_key or self._count >= MAX_KEPT:
            self.sweep()
            kept = self._kept.setdefault(key, [])
        if len(kept) >= self._per_key or self._count >= MAX_KEPT:
            if not kept:
                del self._kept[key]
            connection.abort()
            return
        kept.append(_Idle(connection, trio.current_time() + self._idle_s))
        self._count += 1

    def sweep(self) -> None:
        """Close what was idle for too long, and what the peer closed."""
        now = trio.current_time()
        for key, kept in list(self._kept.items()):
            living = []
            for idle in kept:
                if idle.until > now and idle.connection.is_usable():
                    living.append(idle)
                else:
                    idle.connection.abort()
            self._count -= len(kept) - len(living)
            if living:
                self._kept[key] = living
            else:
                del self._kept[key]

    def close(self) -> None:
        """Close everything."""
        for kept in self._kept.values():
            for idle in kept:
                idle.connection.abort()
        self._kept.clear()
        self._count = 0


def has_input(stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> bool:
    """Say whether an idle stream has octets or an end to read, or is broken. One system call.

    An idle peer has nothing to say: octets are a goodbye, or an answer that nobody asked for.
    """
    transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    descriptor = transport.socket.fileno()
    if descriptor < 0:
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def close_now(stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
    """Close the socket under a stream. Sync; never raises."""
    transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    transport.socket.close()
