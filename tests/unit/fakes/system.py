"""The machine in memory: time that stands still, chance that repeats, hashes that are quick."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from chatmail.adapters.system.budgets import BucketTable
from chatmail.domain.model.account import AccountId
from chatmail.domain.model.errors import Overloaded

NOON_S = 1_749_988_800.0


class FakeClock:
    """Time moves only by `advance`."""

    def __init__(self, now_s: float = NOON_S) -> None:
        self.time_s = now_s

    def now_s(self) -> float:
        return self.time_s

    def monotonic_s(self) -> float:
        return self.time_s - NOON_S

    def advance(self, seconds: float) -> None:
        self.time_s += seconds


class FakeEntropy:
    """Repeatable chance."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)

    def octets(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def text(self, alphabet: str, length: int) -> str:
        return "".join(self._random.choice(alphabet) for _ in range(length))


def make_budgets(clock: FakeClock) -> BucketTable:
    """The real table: it is in memory anyway."""
    return BucketTable(clock, FakeEntropy())


class FakeHasher:
    """Stores `fake:<hex>`; counts its work. `is_overloaded` makes every slow call refuse."""

    def __init__(self) -> None:
        self.hashed = 0
        self.verified = 0
        self.burnt = 0
        self.is_overloaded = False
        self.known: dict[AccountId, tuple[str, bytes]] = {}

    async def hash(self, password: bytes) -> str:
        await self._work()
        self.hashed += 1
        return f"fake:{password.hex()}"

    async def verify(self, account: AccountId | None, stored: str, password: bytes) -> bool:
        await self._work()
        self.verified += 1
        is_right = stored.rpartition(":")[2] == password.hex()
        if is_right and account is not None:
            self.remember(account, stored, password)
        return is_right

    def is_verified(self, account: AccountId, stored: str, password: bytes) -> bool:
        return self.known.get(account) == (stored, password)

    def remember(self, account: AccountId, stored: str, password: bytes) -> None:
        self.known[account] = (stored, password)

    async def verify_nothing(self, password: bytes) -> None:
        await self._work()
        self.burnt += 1

    def forget(self, account: AccountId) -> None:
        self.known.pop(account, None)

    async def _work(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.is_overloaded:
            raise Overloaded("fake")


class FakeLocks:
    """A lock per name, unbounded."""

    def __init__(self) -> None:
        self._locks: dict[str, trio.Lock] = {}

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[None]:
        async with self._locks.setdefault(name, trio.Lock()):
            yield


class FakeHost:
    """A machine in the state it is told to be in."""

    def __init__(self) -> None:
        self.refusal: str | None = None
        self.free_bytes = 10**12

    def creation_refusal(self) -> str | None:
        return self.refusal

    def free_disk_bytes(self) -> int:
        return self.free_bytes


class FakeLog:
    """Keeps (level, event, fields)."""

    def __init__(self) -> None:
        self.records: list[tuple[str, str, dict[str, object]]] = []

    def debug(self, event: str, **fields: object) -> None:
        self.records.append(("debug", event, fields))

    def info(self, event: str, **fields: object) -> None:
        self.records.append(("info", event, fields))

    def warning(self, event: str, **fields: object) -> None:
        self.records.append(("warning", event, fields))

    def events(self) -> list[str]:
        """The names of what was logged, in order."""
        return [event for _, event, _ in self.records]


class FakeLiveSessions:
    """Counts sessions; `closed` names the accounts whose sessions were ended."""

    def __init__(self) -> None:
        self.tickets: dict[object, tuple[AccountId, str, Callable[[], None]]] = {}
        self.closed: list[AccountId] = []

    def admit(self, account: AccountId, face: str, limit: int, close: Callable[[], None]) -> object:
        if sum(held[:2] == (account, face) for held in self.tickets.values()) >= limit:
            return None
        ticket = object()
        self.tickets[ticket] = (account, face, close)
        return ticket

    def leave(self, ticket: object) -> None:
        self.tickets.pop(ticket, None)

    def close_all(self, account: AccountId) -> None:
        self.closed.append(account)
        for ticket, (owner, _, close) in list(self.tickets.items()):
            if owner == account:
                del self.tickets[ticket]
                close()
