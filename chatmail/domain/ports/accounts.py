"""Accounts at rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import attrs

from chatmail.domain.model.account import Account, AccountId, NewAccount
from chatmail.domain.model.address import EmailAddress


@attrs.frozen(kw_only=True)
class Tombstone:
    """What is kept of a deleted address: its old hash, until `expires_s` (spec policy 2.7)."""

    secret: str
    expires_s: int


class AccountStore(Protocol):
    """Accounts by canonical address. Every write is durable when the call returns."""

    async def get(self, address: EmailAddress) -> Account | None:
        """Return the account, blocked ones included. Cost: none when cached, else one read."""

    async def resolve(self, addresses: Sequence[EmailAddress]) -> list[Account | None]:
        """Return the accounts in the order asked, in at most one read."""

    async def create(self, new: NewAccount) -> tuple[Account, bool]:
        """Create the account with an empty INBOX, or return the one that exists.

        Returns:  the account and whether this call created it. Of concurrent calls for one
            address exactly one creates. A live tombstone of the address is removed.
        Raises:  TransientFailure: nothing was stored.
        """

    async def set_secret(self, account: AccountId, secret: str) -> None:
        """Replace the stored hash."""

    async def touch(self, account: AccountId, day_s: int) -> None:
        """Record the day of a login (first and last). Written only when it changes."""

    async def set_blocked(self, account: AccountId, blocked: bool) -> None:
        """Block or unblock."""

    async def bar(self, address: EmailAddress, reason: str, day_s: int) -> None:
        """Put an address on the block list; one without an account cannot be registered."""

    async def unbar(self, address: EmailAddress) -> None:
        """Take an address off the block list."""

    async def is_barred(self, address: EmailAddress) -> bool:
        """Say whether the address is on the block list."""

    async def tombstone(self, address: EmailAddress, now_s: float) -> Tombstone | None:
        """Return the live tombstone of a deleted address."""

    async def delete(
        self,
        account: AccountId,
        tombstone_until_s: int | None,
        *,
        barred_for: str | None = None,
        unless_used_since_s: int | None = None,
    ) -> bool:
        """Delete the account, its mailboxes, messages, tokens and reports.

        From the first transaction on nobody finds the account any more; messages then go in
        bounded pieces. What a crash leaves of them is removed after the next start.

        Args:  tombstone_until_s: leave a tombstone until then. barred_for: put the address on the
            block list, for this reason, in that first transaction. unless_used_since_s: do
            nothing when a login on or after this day is known.
        Returns:  whether there was an account and it was deleted.
        """

    async def count(self) -> int:
        """Return the number of accounts."""


@attrs.frozen(kw_only=True)
class AccountSummary:
    """One account as an operator sees it; times are unix seconds, None: unknown or never."""

    id: AccountId
    address: EmailAddress
    is_blocked: bool
    used_bytes: int
    used_messages: int
    created_s: int
    first_login_s: int | None
    last_login_s: int | None


@attrs.frozen(kw_only=True)
class BarredAddress:
    """One line of the block list."""

    address: EmailAddress
    reason: str
    barred_s: int


class AccountRoster(Protocol):
    """Accounts and the block list, page by page. Reads only; each raises TransientFailure."""

    async def page(self, after: EmailAddress | None, limit: int) -> list[AccountSummary]:
        """Return accounts by address, behind `after`. Cost: one read."""

    async def summary(self, address: EmailAddress) -> AccountSummary | None:
        """Return one account. Cost: one read."""

    async def barred_page(self, after: EmailAddress | None, limit: int) -> list[BarredAddress]:
        """Return the block list by address, behind `after`. Cost: one read."""

    async def barred_entry(self, address: EmailAddress) -> BarredAddress | None:
        """Return one line of the block list. Cost: one read."""

    async def count_barred(self) -> int:
        """Return how long the block list is. Cost: one read."""
