"""What the domain needs of the machine: time, chance, budgets, hashing, load, live sessions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from chatmail.domain.model.account import AccountId


class Clock(Protocol):
    """Time. Sync."""

    def now_s(self) -> float:
        """Unix time, seconds, UTC."""

    def monotonic_s(self) -> float:
        """Seconds since some fixed point; never jumps."""


class Entropy(Protocol):
    """Unpredictable values. Sync."""

    def octets(self, count: int) -> bytes:
        """Return `count` random octets."""

    def text(self, alphabet: str, length: int) -> str:
        """Return `length` characters, each drawn evenly from `alphabet`."""


class Budgets(Protocol):
    """Keyed token buckets (GCRA) in memory, bounded in number. Sync.

    `kind` is one name of a closed set; `key` is hashed before it is kept.
    """

    def take(self, kind: str, key: str, *, per_s: float, burst: float, cost: float = 1.0) -> bool:
        """Take `cost` tokens of a bucket refilled at `per_s` up to `burst`; False: too few."""

    def peek(self, kind: str, key: str, *, per_s: float, burst: float, cost: float = 1.0) -> bool:
        """Say whether `take` would succeed, without taking."""

    def used(self, kind: str, key: str, *, per_s: float, burst: float) -> float:
        """Return how many tokens are missing now, 0.0 for a full bucket."""

    def reset(self, kind: str, key: str) -> None:
        """Fill the bucket."""


class PasswordHasher(Protocol):
    """Slow password hashes in a bounded pool, behind a cache of verified credentials."""

    async def hash(self, password: bytes) -> str:
        """Return a stored form of the target scheme.

        Raises:  Overloaded: the queue for a hashing thread is full.
        """

    async def verify(self, account: AccountId | None, stored: str, password: bytes) -> bool:
        """Say whether `password` belongs to `stored`; any known scheme, constant time.

        A success with an `account` is remembered (keyed hash, in memory, about an hour).
        Raises:  Overloaded: the queue for a hashing thread is full.
        """

    def is_verified(self, account: AccountId, stored: str, password: bytes) -> bool:
        """Say whether this very password was verified lately. Sync, microseconds."""

    def remember(self, account: AccountId, stored: str, password: bytes) -> None:
        """Remember a password that was just stored. Sync."""

    async def verify_nothing(self, password: bytes) -> None:
        """Take as long as a verification: keeps unknown names indistinguishable."""

    def forget(self, account: AccountId) -> None:
        """Drop what is remembered of this account. Sync."""


class NameLocks(Protocol):
    """Locks by name inside this process, bounded in number."""

    def hold(self, name: str) -> AbstractAsyncContextManager[None]:
        """Hold the lock of `name` while the context is open; others wait in order.

        Raises:  Overloaded: too many names are held or too many tasks wait.
        """


class Log(Protocol):
    """Structured events, redacted at the boundary. Sync, never raises."""

    def debug(self, event: str, **fields: object) -> None:
        """For somebody who looks for a fault."""

    def info(self, event: str, **fields: object) -> None:
        """For the normal course of things."""

    def warning(self, event: str, **fields: object) -> None:
        """For what the operator should look at."""


class Host(Protocol):
    """The state of the machine."""

    def creation_refusal(self) -> str | None:
        """Return why no account may be created now (load, memory, disk, nocreate), else None.

        Sync; cached for about a second. Values: "load", "memory", "disk", "nocreate".
        """

    def free_disk_bytes(self) -> int:
        """Free octets where the state directory lives. Sync, cached."""


class LiveSessions(Protocol):
    """Sessions by account and face. Sync."""

    def admit(self, account: AccountId, face: str, limit: int, close: Callable[[], None]) -> object:
        """Register one session; None when the account already has `limit` of them on this face.

        `close` is called (once, from the event loop) when the account is blocked or deleted.
        """

    def leave(self, ticket: object) -> None:
        """Unregister a session by what `admit` returned."""

    def close_all(self, account: AccountId) -> None:
        """End every session of this account."""
