"""A dictionary of accounts and a world around it, for the use cases of this folder."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import trio

from chatmail.adapters.system.budgets import BucketTable
from chatmail.domain.model.account import Account, AccountId, NewAccount
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.mailbox import MailboxId
from chatmail.domain.model.settings import (
    IdentitySettings,
    RegistrationSettings,
    SettingsSnapshot,
)
from chatmail.domain.ports.accounts import Tombstone
from tests.unit.fakes.system import (
    FakeClock,
    FakeEntropy,
    FakeHasher,
    FakeHost,
    FakeLocks,
    FakeLog,
    make_budgets,
)

IDENTITY = IdentitySettings(
    mail_domain="relay.test", local_domains=frozenset({"relay.test"}), hostname="relay.test"
)


class Accounts:
    """The AccountStore port; `broken` names methods that fail, `gate` delays `create`."""

    def __init__(self) -> None:
        self.rows: dict[EmailAddress, Account] = {}
        self.barred: set[EmailAddress] = set()
        self.tombstones: dict[EmailAddress, Tombstone] = {}
        self.created: list[NewAccount] = []
        self.touched: list[int] = []
        self.broken: set[str] = set()
        self.before_create: NewAccount | None = None

    async def _step(self, name: str) -> None:
        await trio.lowlevel.checkpoint()
        if name in self.broken:
            raise TransientFailure(name)

    def add(self, address: str, secret: str, **fields: object) -> Account:
        """Put an account there."""
        parsed = EmailAddress.parse(address)
        number = len(self.rows) + 1
        account = Account(
            id=AccountId(number), address=parsed, inbox=MailboxId(number), secret=secret, **fields
        )
        self.rows[parsed] = account
        return account

    async def get(self, address: EmailAddress) -> Account | None:
        await self._step("get")
        return self.rows.get(address)

    async def resolve(self, addresses: Sequence[EmailAddress]) -> list[Account | None]:
        return [self.rows.get(address) for address in addresses]

    async def create(self, new: NewAccount) -> tuple[Account, bool]:
        await self._step("create")
        if self.before_create is not None:
            rival, self.before_create = self.before_create, None
            self.add(str(rival.address), rival.secret)
        if new.address in self.rows:
            return self.rows[new.address], False
        self.created.append(new)
        self.tombstones.pop(new.address, None)
        return self.add(str(new.address), new.secret), True

    async def set_secret(self, account: AccountId, secret: str) -> None:
        await self._step("set_secret")
        self._change(account, secret=secret)

    async def touch(self, account: AccountId, day_s: int) -> None:
        await self._step("touch")
        self.touched.append(day_s)
        self._change(account, last_login_day=day_s)

    async def set_blocked(self, account: AccountId, blocked: bool) -> None:
        self._change(account, is_blocked=blocked)

    async def bar(self, address: EmailAddress, reason: str, day_s: int) -> None:
        self.barred.add(address)

    async def unbar(self, address: EmailAddress) -> None:
        self.barred.discard(address)

    async def is_barred(self, address: EmailAddress) -> bool:
        await self._step("is_barred")
        return address in self.barred

    async def tombstone(self, address: EmailAddress, now_s: float) -> Tombstone | None:
        await self._step("tombstone")
        found = self.tombstones.get(address)
        return found if found and found.expires_s > now_s else None

    async def delete(
        self, account: AccountId, tombstone_until_s: int | None, **conditions: object
    ) -> bool:
        raise NotImplementedError

    async def count(self) -> int:
        return len(self.rows)

    def _change(self, account: AccountId, **fields: object) -> None:
        for address, row in self.rows.items():
            if row.id == account:
                self.rows[address] = attrs.evolve(row, **fields)


@attrs.define
class World:
    """Everything a use case needs, in memory."""

    registration: RegistrationSettings = attrs.field(factory=RegistrationSettings)
    trusted_proxies: tuple[str, ...] = ()
    accounts: Accounts = attrs.field(factory=Accounts)
    hasher: FakeHasher = attrs.field(factory=FakeHasher)
    clock: FakeClock = attrs.field(factory=FakeClock)
    entropy: FakeEntropy = attrs.field(factory=FakeEntropy)
    host: FakeHost = attrs.field(factory=FakeHost)
    locks: FakeLocks = attrs.field(factory=FakeLocks)
    log: FakeLog = attrs.field(factory=FakeLog)
    budgets: BucketTable = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.budgets = make_budgets(self.clock)

    def settings(self) -> SettingsSnapshot:
        """The snapshot as of now."""
        return SettingsSnapshot(
            identity=IDENTITY,
            registration=self.registration,
            trusted_proxies=self.trusted_proxies,
        )
