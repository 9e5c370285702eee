"""A relay of memory ports: enough of one to run the intake use cases."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from chatmail.domain.model.account import Account, AccountId
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.message import Door
from chatmail.domain.model.settings import (
    IdentitySettings,
    LimitSettings,
    SettingsSnapshot,
)
from chatmail.domain.ports.intake import IntakeBatch
from chatmail.domain.usecases.collect import Collect, Collector
from chatmail.domain.usecases.intake import TakeIn
from tests.unit.fakes.intake import MemoryBlobStore, MemoryIntake
from tests.unit.fakes.mailstate import MemoryState
from tests.unit.fakes.mailstore import MemoryMailStore

DOMAIN = "relay.test"
NOW_S = 1_760_000_000.0
SETTINGS = SettingsSnapshot(
    identity=IdentitySettings(
        mail_domain=DOMAIN, local_domains=frozenset({DOMAIN}), hostname="mx.relay.test"
    )
)


class FixedClock:
    """Time that tests set."""

    def __init__(self) -> None:
        self.now = NOW_S

    def now_s(self) -> float:
        return self.now

    def monotonic_s(self) -> float:
        return self.now


class CountingEntropy:
    """Unique, foreseeable values."""

    def __init__(self) -> None:
        self.count = 0

    def octets(self, count: int) -> bytes:
        self.count += 1
        return self.count.to_bytes(count, "big")

    def text(self, alphabet: str, length: int) -> str:
        self.count += 1
        return str(self.count).rjust(length, alphabet[0])


class FewBudgets:
    """`left` tokens for everybody."""

    def __init__(self, left: int = 1000) -> None:
        self.left = left
        self.asked: list[tuple[str, str, float, float]] = []

    def take(self, kind: str, key: str, *, per_s: float, burst: float, cost: float = 1.0) -> bool:
        self.asked.append((kind, key, per_s, burst))
        self.left -= 1
        return self.left >= 0


class FewAccounts:
    """Accounts in a dictionary; only reading, as the intake needs it."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state
        self._by_address: dict[EmailAddress, Account] = {}

    def add(self, text: str, **details: bool) -> Account:
        number = AccountId(len(self._by_address) + 1)
        inbox = self._state.add_account(number)
        account = Account(
            id=number, address=EmailAddress.parse(text), inbox=inbox, secret="x", **details
        )
        self._by_address[account.address] = account
        return account

    async def resolve(self, addresses: Sequence[EmailAddress]) -> list[Account | None]:
        found = (self._by_address.get(address) for address in addresses)
        state = self._state
        return [
            a and attrs.evolve(a, used_bytes=state.usage(a.id), used_messages=state.held(a.id))
            for a in found
        ]


class KeepingIntake(MemoryIntake):
    """Remembers the batches."""

    def __init__(self, state: MemoryState) -> None:
        super().__init__(state)
        self.committed: list[IntakeBatch] = []

    async def commit(self, batch: IntakeBatch):  # type: ignore[no-untyped-def]
        self.committed.append(batch)
        return await super().commit(batch)

    async def commit_all(self, batches: Sequence[IntakeBatch]):  # type: ignore[no-untyped-def]
        self.committed.extend(batches)
        return await super().commit_all(batches)


class MemoryRelay:
    """The ports and the intake over them."""

    def __init__(self, settings: SettingsSnapshot = SETTINGS) -> None:
        self.state = MemoryState()
        self.settings = settings
        self.clock = FixedClock()
        self.accounts = FewAccounts(self.state)
        self.intake = KeepingIntake(self.state)
        self.mail = MemoryMailStore(self.state)
        self.collect = Collect(MemoryBlobStore(self.state))
        self.take_in = TakeIn(
            accounts=self.accounts,  # type: ignore[arg-type]
            intake=self.intake,
            mail=self.mail,
            clock=self.clock,
            settings=lambda: self.settings,
        )

    def limit(self, **limits: int) -> None:
        """Change limits."""
        changed = attrs.evolve(self.settings.limits, **limits)
        assert isinstance(changed, LimitSettings)
        self.settings = attrs.evolve(self.settings, limits=changed)

    async def collected(self, octets: bytes, door: Door = Door.SUBMISSION) -> Collector:
        """A collector that was fed the whole message in chunks."""
        collector = self.collect(door, self.settings.limits.max_message_bytes)
        for at in range(0, len(octets), 65536):
            await collector.feed(octets[at : at + 65536])
        return collector

    async def inbox(self, account: Account) -> list[bytes]:
        """The messages of an account, oldest first."""
        mailbox = await self.mail.open(account.id, "INBOX")
        assert mailbox is not None
        uids, count = mailbox.uids()
        entries = [mailbox.entry(uid) for uid in uids[:count]]
        return [await self.mail.read(entry, 0, entry.size) for entry in entries if entry]
