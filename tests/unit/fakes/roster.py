"""`AccountRoster` over the accounts in dictionaries."""

from __future__ import annotations

from chatmail.domain.model.account import Account
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.ports.accounts import AccountSummary, BarredAddress
from tests.unit.fakes.accounts import MemoryAccountStore


class MemoryRoster:
    """Reads what a `MemoryAccountStore` holds; days of blocks are not kept there."""

    def __init__(self, accounts: MemoryAccountStore) -> None:
        self._accounts = accounts

    async def page(self, after: EmailAddress | None, limit: int) -> list[AccountSummary]:
        found = sorted(self._accounts.all(), key=lambda one: str(one.address))
        behind = [one for one in found if after is None or str(one.address) > str(after)]
        return [await self._summary(one) for one in behind[:limit]]

    async def summary(self, address: EmailAddress) -> AccountSummary | None:
        account = await self._accounts.get(address)
        return None if account is None else await self._summary(account)

    async def barred_page(self, after: EmailAddress | None, limit: int) -> list[BarredAddress]:
        barred = self._accounts._barred
        found = [
            BarredAddress(address=address, reason=reason, barred_s=0)
            for address, reason in sorted(barred.items(), key=lambda one: str(one[0]))
            if after is None or str(address) > str(after)
        ]
        return found[:limit]

    async def barred_entry(self, address: EmailAddress) -> BarredAddress | None:
        reason = self._accounts._barred.get(address)
        if reason is None:
            return None
        return BarredAddress(address=address, reason=reason, barred_s=0)

    async def count_barred(self) -> int:
        return len(self._accounts._barred)

    async def _summary(self, account: Account) -> AccountSummary:
        now = await self._accounts.get(account.address) or account
        return AccountSummary(
            id=now.id,
            address=now.address,
            is_blocked=now.is_blocked,
            used_bytes=now.used_bytes,
            used_messages=now.used_messages,
            created_s=self._accounts.created_s[now.id],
            first_login_s=now.last_login_day,
            last_login_s=now.last_login_day,
        )
