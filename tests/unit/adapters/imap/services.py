"""What the IMAP face uses in these tests: log, sessions, drain, logins, the way in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

from chatmail.domain.model.account import Account, AccountId, Credentials
from chatmail.domain.model.errors import MailboxGone, TransientFailure
from chatmail.domain.model.message import Body, Door
from chatmail.domain.model.verdict import RefusalReason, Refuse
from chatmail.domain.ports.intake import Delivery, IntakeBatch
from chatmail.domain.usecases.authenticate import LoginRefusal
from tests.unit.fakes.intake import MemoryIntake
from tests.unit.fakes.mailstate import MemoryState


class FakeLog:
    def __init__(self) -> None:
        self.events: list[str] = []

    def debug(self, event: str, **fields: object) -> None:
        self.events.append(event)

    info = warning = debug


class FakeSessions:
    def __init__(self) -> None:
        self.closers: dict[int, Callable[[], None]] = {}
        self._next = 0

    def admit(self, account: AccountId, face: str, limit: int, close: Callable[[], None]) -> object:
        if len(self.closers) >= limit:
            return None
        self._next += 1
        self.closers[self._next] = close
        return self._next

    def leave(self, ticket: object) -> None:
        self.closers.pop(ticket, None)  # type: ignore[call-overload]

    def close_all(self, account: AccountId) -> None:
        for close in list(self.closers.values()):
            close()


class FakeDrain:
    def __init__(self) -> None:
        self._is_set = False
        self._callbacks: list[Callable[[], None]] = []

    def is_set(self) -> bool:
        return self._is_set

    @contextmanager
    def subscribe(self, callback: Callable[[], None]) -> Iterator[None]:
        self._callbacks.append(callback)
        if self._is_set:
            callback()
        try:
            yield
        finally:
            self._callbacks.remove(callback)

    def start(self) -> None:
        self._is_set = True
        for callback in list(self._callbacks):
            callback()


class FakeAuthenticate:
    """Knows accounts by login and password; `refusal` answers everything else."""

    def __init__(self) -> None:
        self.accounts: dict[tuple[str, bytes], Account] = {}
        self.refusal = LoginRefusal(RefusalReason.BAD_CREDENTIALS, 2.0)
        self.seen: list[Credentials] = []
        self.touched = 0

    async def __call__(self, credentials: Credentials, source: str) -> Account | LoginRefusal:
        await trio.lowlevel.checkpoint()
        self.seen.append(credentials)
        return self.accounts.get((credentials.login, credentials.password), self.refusal)

    async def touch_daily(self, account: Account) -> Account:
        self.touched += 1
        return account


class FakeCollector:
    def __init__(self, max_bytes: int, held_bytes: int) -> None:
        self.octets = b""
        self.max_bytes = max_bytes
        self.held_bytes = held_bytes
        self.breaks = False

    @property
    def size(self) -> int:
        return len(self.octets)

    @property
    def is_spooled(self) -> bool:
        return self.size > self.held_bytes

    async def feed(self, chunk: bytes) -> None:
        assert len(chunk) <= 64 * 1024
        if self.breaks:
            raise TransientFailure("disk is full")
        self.octets += chunk


class FakeAppend:
    """Collects and stores without a gate; content with `PLAINTEXT` is refused."""

    def __init__(self, state: MemoryState, intake: MemoryIntake) -> None:
        self._state = state
        self._intake = intake
        self.breaks_feed = False
        self.open: list[FakeCollector] = []

    @asynccontextmanager
    async def collect(
        self, door: Door, max_bytes: int, held_bytes: int
    ) -> AsyncIterator[FakeCollector]:
        assert door is Door.APPEND
        collector = FakeCollector(max_bytes, held_bytes)
        collector.breaks = self.breaks_feed
        self.open.append(collector)
        yield collector
        self.open.remove(collector)

    async def __call__(self, account, mailbox, messages):
        batches = []
        for flags, internal_date_s, message in messages:
            if b"PLAINTEXT" in message.octets:
                return Refuse(RefusalReason.ENCRYPTION_NEEDED)
            if message.size > message.max_bytes:
                return Refuse(RefusalReason.TOO_BIG)
            header, _, rest = message.octets.partition(b"\r\n\r\n")
            batches.append(
                IntakeBatch(
                    body=Body(header + b"\r\n\r\n", (rest,), len(rest)),
                    internal_date_s=internal_date_s,
                    deliveries=(Delivery(mailbox.id, flags),),
                )
            )
        receipts = await self._intake.commit_all(batches)
        if (None,) in receipts:
            raise MailboxGone
        return tuple(receipt for (receipt,) in receipts)
