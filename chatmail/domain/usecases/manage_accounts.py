"""Accounts in the operator's hands: who is there, who may come, who has to go.

Source:  spec admin 4.2; policy 2.7.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs

from chatmail.domain.model.account import NewAccount
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.policy.registration import draw_name, draw_password, new_address
from chatmail.domain.policy.retention import DeletionReason
from chatmail.domain.ports.accounts import (
    AccountRoster,
    AccountStore,
    AccountSummary,
    BarredAddress,
)
from chatmail.domain.ports.system import Clock, Entropy, Log, PasswordHasher
from chatmail.domain.usecases.delete_account import (
    BLOCKED_BY_OPERATOR,
    DELETED_BY_OPERATOR,
    BlockAccount,
    DeleteAccount,
)

PAGE: Final = 500
MAX_SHOWN: Final = 10_000
NAME_DRAWS: Final = 16
MAX_PASSWORD_OCTETS: Final = 256


class AccountOrder(enum.StrEnum):
    """What accounts are sorted by; most octets, newest, longest unused first."""

    ADDRESS = "address"
    USED = "used"
    CREATED = "created"
    LAST_LOGIN = "last-login"


_SORT_KEYS: Final[Mapping[AccountOrder, Callable[[AccountSummary], tuple[float, str]]]] = {
    AccountOrder.ADDRESS: lambda one: (0, str(one.address)),
    AccountOrder.USED: lambda one: (-one.used_bytes, str(one.address)),
    AccountOrder.CREATED: lambda one: (-one.created_s, str(one.address)),
    AccountOrder.LAST_LOGIN: lambda one: (one.last_login_s or 0, str(one.address)),
}


class CannotCreate(enum.Enum):
    """Why an account was not created; the values are for the operator."""

    FOREIGN = "is not of this relay's domains"
    EXISTS = "exists already"
    BARRED = "is on the block list (see: accounts unban)"
    PASSWORD = "password is too short or too long"  # noqa: S105 - a text
    NO_NAME = "no free name was found"


@attrs.frozen(kw_only=True)
class Created:
    """A new account; the password is shown once."""

    address: EmailAddress
    password: str = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class AccountFacts:
    """What is known of an address; None: no such account, not on the block list."""

    address: EmailAddress
    summary: AccountSummary | None
    barred: BarredAddress | None


@attrs.frozen(kw_only=True)
class AccountTotals:
    """The relay's accounts as a whole."""

    accounts: int
    barred: int


@attrs.frozen(kw_only=True)
class ManageAccounts:
    """All that an operator does with accounts."""

    accounts: AccountStore
    roster: AccountRoster
    delete_account: DeleteAccount
    block_account: BlockAccount
    hasher: PasswordHasher
    clock: Clock
    entropy: Entropy
    settings: Callable[[], SettingsSnapshot]
    log: Log

    async def totals(self) -> AccountTotals:
        """Count. Raises:  TransientFailure."""
        return AccountTotals(
            accounts=await self.accounts.count(), barred=await self.roster.count_barred()
        )

    async def find(
        self,
        part: str = "",
        limit: int = MAX_SHOWN,
        *,
        inactive_s: float = 0.0,
        is_over_quota: bool = False,
        order: AccountOrder = AccountOrder.ADDRESS,
    ) -> Sequence[AccountSummary]:
        """Return accounts.

        Args:  part: what the address has in it. inactive_s: only those nobody used for so long.
            is_over_quota: only those that hold more than they may.
        Raises:  TransientFailure.
        """
        unused_since_s = self.clock.now_s() - inactive_s if inactive_s else None
        maximum = self.settings().limits.max_mailbox_bytes if is_over_quota else -1

        def is_wanted(one: AccountSummary) -> bool:
            used_s = one.last_login_s or one.created_s
            is_idle = unused_since_s is None or used_s < unused_since_s
            return is_idle and one.used_bytes > maximum and part.lower() in str(one.address)

        found: list[AccountSummary] = []
        after: EmailAddress | None = None
        enough = limit if order is AccountOrder.ADDRESS else MAX_SHOWN
        while len(found) < enough:
            page = await self.roster.page(after, PAGE)
            found += filter(is_wanted, page)
            if len(page) < PAGE:
                break
            after = page[-1].address
        return sorted(found, key=_SORT_KEYS[order])[:limit]

    async def facts(self, address: EmailAddress) -> AccountFacts | None:
        """Return what is known of an address; None: nothing. Raises:  TransientFailure."""
        summary = await self.roster.summary(address)
        barred = await self.roster.barred_entry(address)
        if summary is None and barred is None:
            return None
        return AccountFacts(address=address, summary=summary, barred=barred)

    async def block_list(self) -> Sequence[BarredAddress]:
        """Return the block list, at most MAX_SHOWN lines of it. Raises:  TransientFailure."""
        return await self.roster.barred_page(None, MAX_SHOWN)

    async def create(self, address: EmailAddress, password: str = "") -> Created | CannotCreate:
        """Create an account; registration may be closed. Args:  password: empty: one is drawn.

        Raises:  TransientFailure: nothing was stored.
        """
        settings = self.settings()
        if address.domain not in settings.identity.local_domains:
            return CannotCreate.FOREIGN
        if await self.accounts.is_barred(address):
            return CannotCreate.BARRED
        word = password or draw_password(self.entropy.text, settings.registration)
        octets = word.encode()
        if (
            not settings.registration.password_min
            <= len(word)
            <= len(octets)
            <= (MAX_PASSWORD_OCTETS)
        ):
            return CannotCreate.PASSWORD
        if await self.accounts.get(address) is not None:
            return CannotCreate.EXISTS
        new = NewAccount(
            address=address,
            secret=await self.hasher.hash(octets),
            created_s=int(self.clock.now_s()),
            first_login_day=None,
        )
        _, is_ours = await self.accounts.create(new)
        if not is_ours:
            return CannotCreate.EXISTS
        self.log.info("account_created", account=address, way="operator")
        return Created(address=address, password=word)

    async def create_random(self) -> Created | CannotCreate:
        """Create an account with a drawn name. Raises:  TransientFailure."""
        settings = self.settings()
        for _ in range(NAME_DRAWS):
            local = draw_name(self.entropy.text, settings.registration)
            address = new_address(local, settings.identity)
            if await self.accounts.tombstone(address, self.clock.now_s()) is not None:
                continue
            created = await self.create(address)
            if created not in (CannotCreate.EXISTS, CannotCreate.BARRED):
                return created
        return CannotCreate.NO_NAME

    async def delete(self, address: EmailAddress, words: str = "") -> bool:
        """Delete an account with its mail and block its address; False: there is none.

        Raises:  TransientFailure.
        """
        account = await self.accounts.get(address)
        if account is None:
            return False
        reason = DeletionReason.OPERATOR
        await self.delete_account(account, reason, words=words or DELETED_BY_OPERATOR)
        return True

    async def ban(self, address: EmailAddress, words: str = "") -> bool:
        """Block an address; returns whether it has an account. Raises:  TransientFailure."""
        return await self.block_account(address, words or BLOCKED_BY_OPERATOR)

    async def unban(self, address: EmailAddress) -> bool:
        """Lift a block; False: there was none. Raises:  TransientFailure."""
        if not await self.accounts.is_barred(address):
            return False
        await self.block_account.lift(address)
        return True
