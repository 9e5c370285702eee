"""Removal by rule: found by index in the reader's thread, removed in the writer's.

The finder pages through blobs by date; what it found is checked again in the transaction that
removes it, because flags, and the messages themselves, may have changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final

from chatmail.adapters.storage.flags import SEEN_BIT
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.notices import tokens_changed
from chatmail.adapters.storage.reader import Reader
from chatmail.adapters.storage.retention_queries import (
    Cursor,
    Found,
    candidates,
    count_old_tokens,
    expired,
    inactive_query,
    old_tokens,
    oldest,
    unused_query,
    usages,
)
from chatmail.adapters.storage.tokens import TokenCache
from chatmail.adapters.storage.transaction import StoredMessage, Transaction
from chatmail.adapters.storage.writer import Job, Touches, Writer
from chatmail.domain.model.account import AccountId
from chatmail.domain.model.mailbox import MailboxId
from chatmail.domain.model.retention import AccountUsage, ExpiredAccount, MessageRule, TrimGoal
from chatmail.domain.ports.retention import MAX_DELETIONS, PruneStep

MAX_MAILBOXES: Final = 50
"""In one transaction. 500 took 0.1 s of the writer's thread, and deliveries wait behind it."""

_BATCH: Final = 500


class _PruneJob(Job):
    """Expunge messages that still meet a rule."""

    __slots__ = ("_found", "_gone", "_rule", "removed")

    def __init__(self, rule: MessageRule, found: Sequence[Found]) -> None:
        self._rule = rule
        self._found = found
        self._gone: list[tuple[MailboxId, list[int], int]] = []
        self.removed = 0

    @property
    def touches(self) -> Touches:
        return Touches(mailboxes=tuple({mailbox for mailbox, _ in self._found}))

    def plan(self, tx: Transaction) -> None:
        self._gone = []
        self.removed = 0
        for mailbox, uids in _by_mailbox(self._found):
            head = tx.find(mailbox)
            if head is None:
                continue
            doomed = [one for one in tx.messages(mailbox, uids) if _meets(self._rule, one)]
            if doomed:
                head.highest_modseq += 1
                tx.remove(head, doomed)
                self.removed += len(doomed)
                self._gone.append((mailbox, [one.uid for one in doomed], head.highest_modseq))

    def publish(self, index: StoreIndex) -> None:
        for mailbox, uids, modseq in self._gone:
            index.remove(mailbox, uids, modseq)


def _meets(rule: MessageRule, message: StoredMessage) -> bool:
    """Say whether a message meets a rule. That it was shown is for ever, so nobody asks again."""
    if rule.is_seen is not None and bool(message.flags & SEEN_BIT) != rule.is_seen:
        return False
    date_s: int = message.internal_date_s
    return date_s < rule.before_s


class _TrimJob(Job):
    """Expunge messages in the order given until the account meets its goal."""

    __slots__ = ("_account", "_found", "_goal", "_gone", "removed", "used_bytes")

    def __init__(self, account: AccountId, goal: TrimGoal, found: Sequence[Found]) -> None:
        self._account = account
        self._goal = goal
        self._found = found
        self._gone: list[tuple[MailboxId, list[int], int]] = []
        self.removed = 0
        self.used_bytes = 0

    @property
    def touches(self) -> Touches:
        return Touches(households=(self._account,))

    def plan(self, tx: Transaction) -> None:
        self._gone = []
        self.removed = 0
        heads = {head.id: head for head in tx.heads_of(self._account).values()}
        octets = sum(head.octets for head in heads.values())
        held = sum(head.messages for head in heads.values())
        there = {
            (mailbox, one.uid): one
            for mailbox, uids in _by_mailbox(self._found)
            if mailbox in heads
            for one in tx.messages(mailbox, uids)
        }
        doomed: dict[MailboxId, list[StoredMessage]] = {}
        for mailbox, uid in self._found:
            if octets <= self._goal.octets and held <= self._goal.messages:
                break
            message = there.get((mailbox, uid))
            if message is not None:
                octets -= message.size
                held -= 1
                doomed.setdefault(mailbox, []).append(message)
        for mailbox, found in doomed.items():
            head = heads[mailbox]
            head.highest_modseq += 1
            tx.strike(head, sorted(found, key=lambda one: one.uid))
            self._gone.append((mailbox, [one.uid for one in found], head.highest_modseq))
        tx.release([one for found in doomed.values() for one in found])
        self.removed = sum(map(len, doomed.values()))
        self.used_bytes = octets

    def publish(self, index: StoreIndex) -> None:
        for mailbox, uids, modseq in self._gone:
            index.remove(mailbox, uids, modseq)


class _SaveShown(Job):
    __slots__ = ("_marks",)

    def __init__(self, marks: list[tuple[MailboxId, int]]) -> None:
        self._marks = marks

    @property
    def touches(self) -> Touches:
        return Touches(tuple(mailbox for mailbox, _ in self._marks))

    def plan(self, tx: Transaction) -> None:
        # In one order, so that two processes that save the same marks wait and do not collide.
        rows = sorted((mailbox, uid_next) for mailbox, uid_next in self._marks)
        tx.sql.retention.save_shown.run_many([(uid_next, mailbox) for mailbox, uid_next in rows])

    def publish(self, index: StoreIndex) -> None:
        index.shown.forget(self._marks)


class _RemoveTokens(Job):
    __slots__ = ("_before_s", "_cache", "_found", "removed")

    def __init__(self, found: Sequence[tuple[int, int]], before_s: int, cache: TokenCache) -> None:
        self._found = found
        self._before_s = before_s
        self._cache = cache
        self.removed = 0

    @property
    def touches(self) -> Touches:
        return Touches(accounts=tuple({AccountId(account) for account, _ in self._found}))

    def plan(self, tx: Transaction) -> None:
        remove = tx.sql.retention.remove_old_token
        self.removed = sum(
            remove.run(account, position, self._before_s).rowcount
            for account, position in self._found
        )
        for account, _ in self._found:
            tx.tell(tokens_changed(account))

    def publish(self, index: StoreIndex) -> None:
        for account, _ in self._found:
            self._cache.forget(AccountId(account))


class _Remember(Job):
    __slots__ = ("_name", "_value")

    def __init__(self, name: str, value: int) -> None:
        self._name = name
        self._value = value

    def plan(self, tx: Transaction) -> None:
        tx.sql.save_fact.run(self._name, self._value)


class _Recall(Job):
    __slots__ = ("_name", "value")

    is_read = True

    def __init__(self, name: str) -> None:
        self._name = name
        self.value: int | None = None

    def plan(self, tx: Transaction) -> None:
        row = tx.sql.fact.one(self._name)
        self.value = None if row is None else row[0]


class Trimmer:
    """Oldest messages of an account first, any mailbox, seen or not."""

    def __init__(self, writer: Writer, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader

    async def __call__(
        self, account: AccountId, goal: TrimGoal, *, is_dry_run: bool = False
    ) -> tuple[int, int]:
        """Trim; returns (octets in use afterwards, messages removed)."""
        used, found = await self._reader.query(partial(oldest, account, goal))
        if is_dry_run:
            return used, len(found)
        removed = 0
        for batch in _batches(found):
            job = await self._writer.do(_TrimJob(account, goal, batch))
            used = job.used_bytes
            removed += job.removed
        return used, removed


class SqlRetention:
    """`Retention` over the tables."""

    def __init__(
        self, writer: Writer, reader: Reader, index: StoreIndex, tokens: TokenCache
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._index = index
        self._tokens = tokens
        self._trim = Trimmer(writer, reader)

    async def prune(
        self, rule: MessageRule, after: Cursor | None = None, *, is_dry_run: bool = False
    ) -> PruneStep:
        """Remove the messages of the next page of blobs, as far as they meet the rule."""
        found, cursor = await self._reader.query(partial(candidates, rule, after))
        if is_dry_run:
            return PruneStep(len(found), cursor)
        removed = 0
        for batch in _scattered(found):
            removed += (await self._writer.do(_PruneJob(rule, batch))).removed
        return PruneStep(removed, cursor)

    async def save_shown(self) -> None:
        """Write down which messages were shown since the last call."""
        for _ in range(len(self._index.shown) // _BATCH + 1):
            marks = self._index.shown.some(_BATCH)
            if marks:
                await self._writer.do(_SaveShown(marks))

    async def unused_accounts(
        self,
        created_before_s: int,
        imported_before_s: int,
        after: tuple[int, AccountId] | None,
        limit: int,
    ) -> Sequence[ExpiredAccount]:
        """Return accounts nobody ever logged in to."""
        query = unused_query(imported_before_s)
        return await self._reader.query(partial(expired, query, created_before_s, after, limit))

    async def inactive_accounts(
        self, last_login_before_s: int, after: tuple[int, AccountId] | None, limit: int
    ) -> Sequence[ExpiredAccount]:
        """Return accounts whose last login day is earlier."""
        return await self._reader.query(
            partial(expired, inactive_query(), last_login_before_s, after, limit)
        )

    async def usages(self, after: AccountId | None, limit: int) -> Sequence[AccountUsage]:
        """Return what accounts hold, from the counters."""
        return await self._reader.query(partial(usages, after or 0, limit))

    async def trim(self, account: AccountId, goal: TrimGoal, *, is_dry_run: bool = False) -> int:
        """Remove oldest messages until the goal is met; returns how many."""
        return (await self._trim(account, goal, is_dry_run=is_dry_run))[1]

    async def prune_tokens(self, before_s: int, *, is_dry_run: bool = False) -> int:
        """Forget push tokens nobody refreshed; returns how many."""
        if is_dry_run:
            return await self._reader.query(partial(count_old_tokens, before_s))
        removed = 0
        while found := await self._reader.query(partial(old_tokens, before_s)):
            job = await self._writer.do(_RemoveTokens(found, before_s, self._tokens))
            removed += job.removed
        return removed

    async def recall(self, name: str) -> int | None:
        """Return a number that was remembered under this name."""
        return (await self._writer.do(_Recall(name))).value

    async def remember(self, name: str, value: int) -> None:
        """Remember a number, durably."""
        await self._writer.do(_Remember(name, value))


def _batches(found: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(found), MAX_DELETIONS):
        yield found[start : start + MAX_DELETIONS]


def _scattered(found: Sequence[Found]) -> Iterator[list[Found]]:
    """Give batches of bounded cost: what is old lies in many mailboxes, and each has its price."""
    batch: list[Found] = []
    touched: set[MailboxId] = set()
    for one in found:
        is_one_more = len(touched) == MAX_MAILBOXES and one[0] not in touched
        if len(batch) == MAX_DELETIONS or is_one_more:
            yield batch
            batch, touched = [], set()
        batch.append(one)
        touched.add(one[0])
    if batch:
        yield batch


def _by_mailbox(found: Iterable[Found]) -> Iterable[tuple[MailboxId, list[int]]]:
    grouped: dict[MailboxId, list[int]] = {}
    for mailbox, uid in found:
        grouped.setdefault(mailbox, []).append(uid)
    return grouped.items()
