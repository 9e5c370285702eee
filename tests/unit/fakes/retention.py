"""Retention over dictionaries: every step looks at everything."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from chatmail.domain.model.account import AccountId
from chatmail.domain.model.mailbox import SEEN, MailboxEntry, MailboxId, Uid
from chatmail.domain.model.retention import AccountUsage, ExpiredAccount, MessageRule, TrimGoal
from chatmail.domain.ports.retention import PruneStep
from tests.unit.fakes.accounts import MemoryAccountStore
from tests.unit.fakes.mailstate import MemoryState
from tests.unit.fakes.tokens import MemoryDeviceTokens


class MemoryRetention:
    """`Retention` over the other memory stores; pages are short, so that callers must turn them."""

    def __init__(
        self, state: MemoryState, accounts: MemoryAccountStore, tokens: MemoryDeviceTokens
    ) -> None:
        self._state = state
        self._accounts = accounts
        self._tokens = tokens
        self._facts: dict[str, int] = {}
        self.step = 3

    async def prune(
        self, rule: MessageRule, after: object = None, *, is_dry_run: bool = False
    ) -> PruneStep:
        await self._begin()
        found = sorted(
            (entry.internal_date_s, mailbox.id, uid)
            for mailbox in self._state.mailboxes.values()
            for uid, entry in mailbox.entries.items()
            if self._meets(rule, mailbox.id, entry)
        )
        page = [one for one in found if after is None or one > after][: self.step]
        if not is_dry_run:
            self._state.remove([(mailbox, uid) for _, mailbox, uid in page])
        return PruneStep(len(page), page[-1] if len(page) == self.step else None)

    def _meets(self, rule: MessageRule, mailbox: MailboxId, entry: MailboxEntry) -> bool:
        if rule.larger_than_bytes is not None and entry.size <= rule.larger_than_bytes:
            return False
        if rule.is_seen is not None and (SEEN in entry.flags) != rule.is_seen:
            return False
        if rule.was_shown and entry.uid >= self._state.shown.get(mailbox, Uid(0)):
            return False
        return entry.internal_date_s < rule.before_s

    async def save_shown(self) -> None:
        await self._begin()

    async def unused_accounts(
        self,
        created_before_s: int,
        imported_before_s: int,
        after: tuple[int, AccountId] | None,
        limit: int,
    ) -> Sequence[ExpiredAccount]:
        await self._begin()
        created_s, imported = self._accounts.created_s, self._accounts.imported
        found = [
            (created_s[one.id], one.id, one)
            for one in self._accounts.all()
            if one.last_login_day is None
            and created_s[one.id] < created_before_s
            and (one.id not in imported or created_s[one.id] < imported_before_s)
        ]
        return self._page(found, after, limit)

    async def inactive_accounts(
        self, last_login_before_s: int, after: tuple[int, AccountId] | None, limit: int
    ) -> Sequence[ExpiredAccount]:
        await self._begin()
        found = [
            (one.last_login_day, one.id, one)
            for one in self._accounts.all()
            if one.last_login_day is not None and one.last_login_day < last_login_before_s
        ]
        return self._page(found, after, limit)

    def _page(self, found, after, limit):  # type: ignore[no-untyped-def]
        found = sorted(one for one in found if after is None or one[:2] > after)
        return [ExpiredAccount(account=one, since_s=since) for since, _, one in found[:limit]]

    async def usages(self, after: AccountId | None, limit: int) -> Sequence[AccountUsage]:
        await self._begin()
        state = self._state
        accounts = sorted({box.account for box in state.mailboxes.values()})
        wanted = [one for one in accounts if after is None or one > after][:limit]
        return [AccountUsage(one, state.usage(one), state.held(one)) for one in wanted]

    async def trim(self, account: AccountId, goal: TrimGoal, *, is_dry_run: bool = False) -> int:
        await self._begin()
        doomed = self._state.oldest(account, goal)
        if not is_dry_run:
            self._state.remove(doomed)
        return len(doomed)

    async def prune_tokens(self, before_s: int, *, is_dry_run: bool = False) -> int:
        await self._begin()
        old = [
            (account, token)
            for account, tokens in self._tokens._tokens.items()
            for token, updated_s in tokens.items()
            if updated_s < before_s
        ]
        if not is_dry_run:
            for account, token in old:
                del self._tokens._tokens[account][token]
        return len(old)

    async def recall(self, name: str) -> int | None:
        await self._begin()
        return self._facts.get(name)

    async def remember(self, name: str, value: int) -> None:
        await self._begin()
        self._facts[name] = value

    async def _begin(self) -> None:
        await trio.lowlevel.checkpoint()
        self._state.check()
