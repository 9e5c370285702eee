"""Room for one more message: by trimming what is old, or none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs

from chatmail.domain.model.account import Account, AccountId
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.policy import quota
from chatmail.domain.ports.accounts import AccountStore
from chatmail.domain.ports.mailstore import MailStore
from chatmail.domain.ports.system import Clock

MAX_RESTING: Final = 10_000


@attrs.frozen(kw_only=True)
class MakeRoom:
    """Decides whether a message fits, from counters in memory; trims where that may help."""

    accounts: AccountStore
    mail: MailStore
    clock: Clock
    # Accounts whose last trim came to nothing, and until when (monotonic) none is tried: it has to
    # look at the whole account, and whoever fills one with young mail could ask for it at will.
    _resting: dict[AccountId, float] = attrs.field(factory=dict, init=False)

    async def before(self, account: Account, size: int, settings: SettingsSnapshot) -> bool:
        """Say whether a message of `size` octets fits, after a trim if need be."""
        limits = settings.limits
        if quota.fits(size, account.used_bytes, account.used_messages, limits):
            return True
        if not settings.quota.trim or size > limits.max_mailbox_bytes:
            return False
        now = await self._trim(account, size, settings)
        return quota.fits(size, now.used_bytes, now.used_messages, limits)

    async def after(self, served: Iterable[Account], size: int, settings: SettingsSnapshot) -> None:
        """Clean up behind a delivery of `size` octets to accounts as they were before it."""
        limits = settings.limits
        for account in served:
            octets, messages = account.used_bytes + size, account.used_messages + 1
            if quota.wants_trim(octets, messages, limits, settings.quota):
                await self._trim(account, 0, settings)

    async def _trim(self, account: Account, size: int, settings: SettingsSnapshot) -> Account:
        """Trim unless it is known to be in vain; return the account as it is then."""
        if self._resting.get(account.id, 0.0) > self.clock.monotonic_s():
            return account
        goal = quota.trim_goal(settings.limits, settings.quota, self.clock.now_s(), size_bytes=size)
        await self.mail.trim(
            account.id, goal.octets, goal.older_than_s, target_messages=goal.messages
        )
        (now,) = await self.accounts.resolve((account.address,))
        if now is None:
            return account
        if now.used_bytes > goal.octets or now.used_messages > goal.messages:
            self._rest(account.id)
        return now

    def _rest(self, account: AccountId) -> None:
        now_s = self.clock.monotonic_s()
        if len(self._resting) >= MAX_RESTING:
            for known in [one for one, until in self._resting.items() if until <= now_s]:
                del self._resting[known]
        if len(self._resting) < MAX_RESTING:
            self._resting[account] = now_s + quota.FRUITLESS_S
