"""The writer of one process among several: catches up before it shows its own commits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from chatmail.adapters.storage.accounts import LookUpAccount
from chatmail.adapters.storage.errors import Busy, StorageFault, Unavailable
from chatmail.adapters.storage.head import MailboxHead
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.postgresql.committer import SharedCommitter
from chatmail.adapters.storage.postgresql.contents import RecentContents
from chatmail.adapters.storage.postgresql.index import SharedIndex
from chatmail.adapters.storage.postgresql.transaction import SharedTransaction
from chatmail.adapters.storage.transaction import Transaction
from chatmail.adapters.storage.writer import Job, Log, Writer, wake
from chatmail.adapters.system.redaction import Public
from chatmail.domain.model.account import AccountId
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.mailbox import MailboxHint, MailboxId, Modseq
from chatmail.domain.ports.hints import MailboxHints

GONE_MODSEQ: Final = 1 << 62
"""In the hint about a mailbox that is gone: later than anything a session has seen."""


PART: Final = "writer"


class Availability:
    """Whether the server answers all parts of the store; told once per change."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._cut_off: set[str] = set()

    @property
    def is_down(self) -> bool:
        """Say whether somebody is cut off."""
        return bool(self._cut_off)

    def lost(self, part: str) -> None:
        """Note that the server does not answer this part."""
        if not self._cut_off:
            self._log.warning("database_lost")
        self._cut_off.add(part)

    def found(self, part: str) -> None:
        """Note that it does."""
        if self._cut_off == {part}:
            self._log.info("database_back")
        self._cut_off.discard(part)


class SharedWriter(Writer):
    """`Writer` over a `SharedCommitter`."""

    def __init__(
        self,
        committer: SharedCommitter,
        index: SharedIndex,
        hints: MailboxHints,
        log: Log,
        availability: Availability,
        recent: RecentContents,
        *,
        max_jobs: int,
        max_octets: int,
    ) -> None:
        super().__init__(committer, index, hints, log, max_jobs=max_jobs, max_octets=max_octets)
        self._shared_committer = committer
        self._shared_index = index
        self._availability = availability
        self._recent = recent

    def _hold_off(self, jobs: list[Job], fault: Busy) -> None:
        if isinstance(fault, Unavailable):
            self._availability.lost(PART)
            self._fail(jobs, "the database is away")
        else:
            super()._hold_off(jobs, fault)

    async def _show(self, jobs: list[Job], tx: Transaction) -> None:
        """Publish what was looked up, catch up with others, publish what was changed."""
        self._availability.found(PART)
        looks = [job for job in jobs if job.is_read]
        for job in looks:
            if job.error is None:
                job.publish(self._index)
        drafts = [draft for draft in tx.drafts.values() if draft is not None]
        if not await self._catch_up(drafts):
            for job in looks:
                job.error = job.error or TransientFailure("the database is away")
        if isinstance(tx, SharedTransaction):
            for blob, body in tx.bodies.items():
                self._recent.add(blob, body)
        self._publish([job for job in jobs if not job.is_read], tx)
        for job in looks:
            wake(job)

    async def _catch_up(self, drafts: Sequence[MailboxHead]) -> bool:
        """Bring all mailboxes in memory up to what is known; False: the server is away.

        Then own commits are not shown in those that miss something: they are durable all the
        same, and shown after the next look at the server.
        """
        index = self._shared_index
        is_complete = True
        while behind := index.find_behind(drafts):
            try:
                found = await self._in_thread(self._shared_committer.read_missed, behind)
            except StorageFault as fault:
                self._log.warning("catch_up_failed", reason=Public(str(fault)))
                is_complete = False
                break
            for missed in found:
                if index.catch_up(missed) and missed.head is not None:
                    modseq = missed.head.highest_modseq
                    self._hints.publish(MailboxHint(missed.mailbox, Modseq(modseq)))
        lost, index.lost = index.lost, []
        for mailbox in lost:
            self._hints.publish(MailboxHint(mailbox, Modseq(GONE_MODSEQ)))
        return is_complete


class Refresh(LookUpAccount):
    """Read an account and the heads of its mailboxes, whatever is cached."""

    __slots__ = ()

    def publish(self, index: StoreIndex) -> None:
        """Cache it, or take note that it is gone."""
        super().publish(index)
        if self.record is None and isinstance(index, SharedIndex):
            index.lose_account(self._account)


class LookAtMailboxes(Job):
    """Compare the heads of some mailboxes with the database."""

    __slots__ = ("_heads", "_mailboxes")

    is_read = True

    def __init__(self, mailboxes: Iterable[MailboxId]) -> None:
        self._mailboxes = list(mailboxes)
        self._heads: list[MailboxHead] = []

    def plan(self, tx: Transaction) -> None:
        """Read them."""
        self._heads = tx.look(self._mailboxes) if isinstance(tx, SharedTransaction) else []

    def publish(self, index: StoreIndex) -> None:
        """Mark those that are behind."""
        if isinstance(index, SharedIndex):
            there = {head.id for head in self._heads}
            for head in self._heads:
                index.see(head)
            for mailbox in self._mailboxes:
                if mailbox not in there:
                    index.lose(mailbox)


class ForgetAccounts(Job):
    """Drop accounts from memory: in the writer's order, so that no look-up brings them back."""

    __slots__ = ("_accounts",)

    is_read = True

    def __init__(self, accounts: Iterable[AccountId] | None) -> None:
        """Args:  accounts: None for all of them."""
        self._accounts = None if accounts is None else list(accounts)

    def plan(self, tx: Transaction) -> None:
        """Nothing is to be read."""

    def publish(self, index: StoreIndex) -> None:
        """Drop them."""
        if self._accounts is None:
            if isinstance(index, SharedIndex):
                index.forget_records()
        else:
            for account in self._accounts:
                index.drop_record(account)
