"""Accounts and owed reports in dictionaries; mailboxes are those of `fakes.mailstate`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import attrs
import trio

from chatmail.domain.model.account import Account, AccountId, NewAccount
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.queue import NewReport, QueueEntry, QueueId
from chatmail.domain.ports.accounts import Tombstone
from tests.unit.fakes.mailstate import MemoryState
from tests.unit.fakes.tokens import MemoryDeviceTokens


class MemoryAccountStore:
    """`AccountStore` in dictionaries."""

    def __init__(
        self, state: MemoryState | None = None, tokens: MemoryDeviceTokens | None = None
    ) -> None:
        self.state = state if state is not None else MemoryState()
        self._tokens = tokens if tokens is not None else MemoryDeviceTokens()
        self._accounts: dict[EmailAddress, Account] = {}
        self._tombstones: dict[EmailAddress, Tombstone] = {}
        self._barred: dict[EmailAddress, str] = {}
        self._ids = itertools.count(1)
        self.created_s: dict[AccountId, int] = {}
        self.imported: set[AccountId] = set()

    def all(self) -> list[Account]:
        """Return every account."""
        return list(self._accounts.values())

    async def get(self, address: EmailAddress) -> Account | None:
        return (await self.resolve((address,)))[0]

    async def resolve(self, addresses: Sequence[EmailAddress]) -> list[Account | None]:
        await self._begin()
        found = []
        for address in addresses:
            account = self._accounts.get(address)
            if account is not None:
                account = attrs.evolve(
                    account,
                    used_bytes=self.state.usage(account.id),
                    used_messages=self.state.held(account.id),
                )
            found.append(account)
        return found

    async def create(self, new: NewAccount) -> tuple[Account, bool]:
        await self._begin()
        known = self._accounts.get(new.address)
        if known is not None:
            return known, False
        id = AccountId(next(self._ids))
        account = Account(
            id=id,
            address=new.address,
            inbox=self.state.add_account(id, new.created_s),
            secret=new.secret,
            last_login_day=new.first_login_day,
        )
        self._accounts[new.address] = account
        self.created_s[id] = new.created_s
        if new.is_imported:
            self.imported.add(id)
        self._tombstones.pop(new.address, None)
        return account, True

    async def set_secret(self, account: AccountId, secret: str) -> None:
        await self._begin()
        self._update(account, secret=secret)

    async def touch(self, account: AccountId, day_s: int) -> None:
        await self._begin()
        self._update(account, last_login_day=day_s)

    async def set_blocked(self, account: AccountId, blocked: bool) -> None:
        await self._begin()
        self._update(account, is_blocked=blocked)

    async def bar(self, address: EmailAddress, reason: str, day_s: int) -> None:
        await self._begin()
        self._barred[address] = reason

    async def unbar(self, address: EmailAddress) -> None:
        await self._begin()
        self._barred.pop(address, None)

    async def is_barred(self, address: EmailAddress) -> bool:
        await self._begin()
        return address in self._barred

    async def tombstone(self, address: EmailAddress, now_s: float) -> Tombstone | None:
        await self._begin()
        found = self._tombstones.get(address)
        return found if found is not None and found.expires_s > now_s else None

    async def delete(
        self,
        account: AccountId,
        tombstone_until_s: int | None,
        *,
        barred_for: str | None = None,
        unless_used_since_s: int | None = None,
    ) -> bool:
        await self._begin()
        for address, known in list(self._accounts.items()):
            if known.id == account:
                day = known.last_login_day
                if None not in (day, unless_used_since_s) and day >= unless_used_since_s:
                    return False
                if barred_for is not None:
                    self._barred[address] = barred_for
                del self._accounts[address]
                self.state.delete_account(account)
                self.state.reports[:] = [
                    report for report in self.state.reports if report.sender != address
                ]
                self.state.drop_queued(address)
                self._tokens._tokens.pop(account, None)
                if tombstone_until_s is not None:
                    self._tombstones[address] = Tombstone(
                        secret=known.secret, expires_s=tombstone_until_s
                    )
                return True
        return False

    async def count(self) -> int:
        await self._begin()
        return len(self._accounts)

    async def _begin(self) -> None:
        await trio.lowlevel.checkpoint()
        self.state.check()

    def _update(self, account: AccountId, **changes: object) -> None:
        for address, known in self._accounts.items():
            if known.id == account:
                self._accounts[address] = attrs.evolve(known, **changes)


@attrs.define(kw_only=True)
class _Owed:
    report: NewReport
    due_s: float
    leased_until_s: float = 0.0
    attempts: int = 0


class MemoryReportQueue:
    """`ReportQueue` over the reports that the memory intake has taken in."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state
        self._owed: dict[QueueId, _Owed] = {}
        self._ids = itertools.count(1)
        self._seen: list[NewReport] = []

    async def claim(self, now_s: float, limit: int, lease_s: float) -> list[QueueEntry]:
        await trio.lowlevel.checkpoint()
        self._sync()
        free = [
            (owed.due_s, id)
            for id, owed in self._owed.items()
            if owed.due_s <= now_s and owed.leased_until_s <= now_s
        ]
        claimed = []
        for _, id in sorted(free)[:limit]:
            owed = self._owed[id]
            claimed.append(QueueEntry(id=id, report=owed.report, attempts=owed.attempts))
            owed.attempts += 1
            owed.leased_until_s = now_s + lease_s
        return claimed

    async def settle(self, entry: QueueId) -> None:
        await trio.lowlevel.checkpoint()
        self._sync()
        self._state.settle(entry)
        self._sync()

    async def postpone(self, entry: QueueId, due_s: float) -> None:
        await trio.lowlevel.checkpoint()
        self._sync()
        if entry in self._owed:
            self._owed[entry].due_s = due_s
            self._owed[entry].leased_until_s = 0.0

    async def next_due_s(self) -> float | None:
        await trio.lowlevel.checkpoint()
        self._sync()
        return min(
            (max(owed.due_s, owed.leased_until_s) for owed in self._owed.values()), default=None
        )

    async def wait_for_more(self) -> None:
        while all(any(report is seen for seen in self._seen) for report in self._state.reports):
            await trio.lowlevel.checkpoint()
        self._seen = list(self._state.reports)

    def _sync(self) -> None:
        """Take in what was added, drop what went with its account."""
        reports = self._state.reports
        known = {id(owed.report) for owed in self._owed.values()}
        for report in reports:
            if id(report) not in known:
                entry = QueueId(next(self._ids))
                self._owed[entry] = _Owed(report=report, due_s=report.due_s)
                self._state.entries[entry] = report
        present = {id(report) for report in reports}
        for entry in [key for key, owed in self._owed.items() if id(owed.report) not in present]:
            del self._owed[entry]
