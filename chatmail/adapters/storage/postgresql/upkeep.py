"""Periodic work on a database that several processes share; each of them does it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, func, select

from chatmail.adapters.storage.departure import drain_all
from chatmail.adapters.storage.flags import DELETED_BIT, SEEN_BIT
from chatmail.adapters.storage.forgetting import (
    EXPUNGED_KEPT_S,
    ForgetExpunges,
    forget_expired,
)
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.postgresql.transaction import SharedTransaction
from chatmail.adapters.storage.reader import Reader
from chatmail.adapters.storage.schema import dead_blobs, expunged
from chatmail.adapters.storage.transaction import Transaction
from chatmail.adapters.storage.writer import Job, Log, Writer
from chatmail.domain.model.mailbox import MailboxId
from chatmail.domain.ports.system import Clock

ERASE_BATCH: Final = 500
RECOUNT_BATCH: Final = 200
FORGET_BATCH: Final = 200


class _Erase(Job):
    __slots__ = ("_dead",)

    def __init__(self, dead: Sequence[int]) -> None:
        self._dead = dead

    def plan(self, tx: Transaction) -> None:
        if isinstance(tx, SharedTransaction):
            tx.erase(self._dead)


class _Recount(Job):
    """Compare the counters of some mailboxes with their rows, and put the rows' truth in place."""

    __slots__ = ("_after", "corrected", "last")

    def __init__(self, after: int) -> None:
        self._after = after
        self.last: int | None = None
        self.corrected = 0

    def plan(self, tx: Transaction) -> None:
        self.last, self.corrected = None, 0
        if not isinstance(tx, SharedTransaction):
            return
        for head, found in tx.count_after(self._after, RECOUNT_BATCH, SEEN_BIT, DELETED_BIT):
            self.last = head.id
            if found != (head.messages, head.octets, head.unseen, head.deleted):
                head.messages, head.octets, head.unseen, head.deleted = found
                head.highest_modseq += 1
                self.corrected += 1


class SharedUpkeep:
    """What the application calls now and then.

    A dead content goes with the second sweep that sees it: until then sessions of any process
    that were not told of the expunge yet may read it.
    """

    def __init__(
        self, writer: Writer, reader: Reader, index: StoreIndex, clock: Clock, log: Log
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._index = index
        self._clock = clock
        self._log = log
        self._seen_dead: set[int] = set()

    async def vacuum(self) -> int:
        """Sweep; the space itself is given back by the database's own vacuum.

        Returns:  how many contents were deleted.
        Raises:  TransientFailure: the database is away; the next one goes on.
        """
        return await self.sweep()

    async def sweep(self) -> int:
        """Finish begun deletions, delete dead content, forget what is over.

        Returns:  how many contents were deleted.
        Raises:  TransientFailure: the database is away; the next sweep goes on.
        """
        await drain_all(self._writer, self._reader)
        erased, after = 0, 0
        seen: set[int] = set()
        while blobs := await self._reader.query(partial(_dead_after, after)):
            after = blobs[-1]
            free = [
                blob
                for blob in blobs
                if blob in self._seen_dead and not self._index.places.is_held(blob)
            ]
            seen.update(blobs)
            if free:
                await self._writer.do(_Erase(free))
                seen.difference_update(free)
                erased += len(free)
        self._seen_dead = seen
        await self._forget_expired()
        return erased

    async def recount(self) -> int:
        """Recount every mailbox from its rows; returns how many were wrong."""
        after: int | None = 0
        corrected = 0
        while after is not None:
            job = await self._writer.do(_Recount(after))
            corrected += job.corrected
            after = job.last
        if corrected:
            self._log.warning("counters_corrected", mailboxes=corrected)
        return corrected

    async def _forget_expired(self) -> None:
        now_s = int(self._clock.now_s())
        before_s = now_s - EXPUNGED_KEPT_S
        # Each batch locks its mailboxes, so it is a small one.
        while found := await self._reader.query(partial(_old_expunges, before_s)):
            await self._writer.do(ForgetExpunges(found))
        await forget_expired(self._writer, now_s)


def _dead_after(after: int, connection: Connection) -> list[int]:
    query = select(dead_blobs.c.id).where(dead_blobs.c.id > after).order_by(dead_blobs.c.id)
    return list(connection.execute(query.limit(ERASE_BATCH)).scalars())


def _old_expunges(before_s: int, connection: Connection) -> list[tuple[MailboxId, int]]:
    query = (
        select(expunged.c.mailbox, func.max(expunged.c.modseq))
        .where(expunged.c.at_s < before_s)
        .group_by(expunged.c.mailbox)
        .limit(FORGET_BATCH)
    )
    rows: Sequence[Any] = connection.execute(query).fetchall()
    return [(mailbox, modseq) for mailbox, modseq in rows]
