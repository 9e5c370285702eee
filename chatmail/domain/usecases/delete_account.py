"""Taking an account away: for good, or for as long as it is blocked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from chatmail.domain.model.account import Account, day_of
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.policy.retention import DeletionReason, tombstone_until_s
from chatmail.domain.ports.accounts import AccountStore
from chatmail.domain.ports.system import Clock, LiveSessions, Log, PasswordHasher

DELETED_BY_OPERATOR: Final = "account deleted via CLI"
BLOCKED_BY_OPERATOR: Final = "manually blocked"


@attrs.frozen(kw_only=True)
class DeleteAccount:
    """Deletes one account with all it holds (spec policy 2.7)."""

    accounts: AccountStore
    hasher: PasswordHasher
    sessions: LiveSessions
    clock: Clock
    settings: Callable[[], SettingsSnapshot]
    log: Log

    async def __call__(
        self,
        account: Account,
        reason: DeletionReason,
        *,
        words: str = DELETED_BY_OPERATOR,
        unless_used_since_s: int | None = None,
    ) -> bool:
        """Delete an account; what it was worth is gone for its sessions at once.

        Args:  words: what the block list says about an operator's deletion. unless_used_since_s:
            do nothing when a login on or after this day is known.
        Returns:  whether it was deleted.
        Raises:  TransientFailure: not deleted, or not to its end; the store finishes what it began.
        """
        now_s = self.clock.now_s()
        settings = self.settings().retention
        is_operators = reason is DeletionReason.OPERATOR
        # A password that was verified a moment ago opens nothing from here on. Whoever logs in
        # while the messages go is met by the second round below.
        self.hasher.forget(account.id)
        if is_operators:
            self.sessions.close_all(account.id)
        is_gone = await self.accounts.delete(
            account.id,
            tombstone_until_s(reason, settings, now_s),
            barred_for=words if is_operators else None,
            unless_used_since_s=unless_used_since_s,
        )
        if is_gone:
            self.hasher.forget(account.id)
            self.sessions.close_all(account.id)
            self.log.info("account_deleted", account=account.address, way=reason)
        elif is_operators:
            await self.accounts.bar(account.address, words, day_of(now_s))
        return is_gone


@attrs.frozen(kw_only=True)
class BlockAccount:
    """Bans an address and lifts the ban (spec policy 2.7)."""

    accounts: AccountStore
    hasher: PasswordHasher
    sessions: LiveSessions
    clock: Clock
    log: Log

    async def __call__(self, address: EmailAddress, reason: str = BLOCKED_BY_OPERATOR) -> bool:
        """Ban an address: no login, no mail to it, no new account; its sessions end now.

        Returns:  whether there is an account of this address.
        """
        await self.accounts.bar(address, reason, day_of(self.clock.now_s()))
        account = await self.accounts.get(address)
        if account is None:
            return False
        await self.accounts.set_blocked(account.id, True)
        self.hasher.forget(account.id)
        self.sessions.close_all(account.id)
        self.log.info("account_blocked", account=address)
        return True

    async def lift(self, address: EmailAddress) -> bool:
        """Lift the ban; an account that is still there works again.

        Returns:  whether there is an account of this address.
        """
        await self.accounts.unbar(address)
        account = await self.accounts.get(address)
        if account is None:
            return False
        await self.accounts.set_blocked(account.id, False)
        self.log.info("account_unblocked", account=address)
        return True
