"""Periodic work: erase dead content, forget old expunges, recount counters.

All in bounded pieces, so that deliveries wait for none of it long.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final

import trio
from sqlalchemy import Connection, func, select

from chatmail.adapters.storage.errors import StorageFault, syncing, writing
from chatmail.adapters.storage.files import Files
from chatmail.adapters.storage.flags import DELETED_BIT, SEEN_BIT
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.reader import Reader
from chatmail.adapters.storage.schema import blobs, dead_blobs, expunged
from chatmail.adapters.storage.segment_reader import SegmentReader
from chatmail.adapters.storage.segments import (
    RECORD_HEADER_BYTES,
    SegmentLog,
    segment_path,
)
from chatmail.adapters.storage.transaction import Transaction
from chatmail.adapters.storage.writer import Job, Log, Writer
from chatmail.adapters.system.redaction import Public
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.mailbox import MailboxId
from chatmail.domain.ports.system import Clock

ERASE_BATCH: Final = 500
RECOUNT_BATCH: Final = 200
EXPUNGED_KEPT_S: Final = 30 * 86400  # spec mail 4.4, QRESYNC
ZEROS: Final = bytes(64 * 1024)


class _Forget(Job):
    """Take erased records off the books; a segment without any record left is removed."""

    __slots__ = ("_dead", "_segments", "unused")

    def __init__(self, dead: Sequence[int], segments: Sequence[int]) -> None:
        self._dead = dead
        self._segments = segments
        self.unused: list[int] = []

    def plan(self, tx: Transaction) -> None:
        tx.flush()
        tx.sql.remove_dead.run_many([(blob,) for blob in self._dead])
        self.unused = [
            segment
            for segment in self._segments
            if not any(query.all(segment)[0][0] for query in tx.sql.in_segment)
        ]


class _ForgetSegments(Job):
    """Take segments off the list, after their files went: what is not on it is never removed."""

    __slots__ = ("_segments",)

    def __init__(self, segments: Sequence[int]) -> None:
        self._segments = segments

    def plan(self, tx: Transaction) -> None:
        tx.sql.remove_segment.run_many([(segment,) for segment in self._segments])


class _ForgetExpunges(Job):
    __slots__ = ("_mailboxes",)

    def __init__(self, found: Sequence[tuple[MailboxId, int]]) -> None:
        self._mailboxes = found

    def plan(self, tx: Transaction) -> None:
        tx.sql.save_floor.run_many([(floor, mailbox) for mailbox, floor in self._mailboxes])
        tx.sql.forget_expunged.run_many([(mailbox, floor) for mailbox, floor in self._mailboxes])


class _ForgetTombstones(Job):
    __slots__ = ("_now_s",)

    def __init__(self, now_s: int) -> None:
        self._now_s = now_s

    def plan(self, tx: Transaction) -> None:
        tx.sql.forget_tombstones.run(self._now_s)


class _Recount(Job):
    """Compare the counters of some mailboxes with their rows, and put the rows' truth in place."""

    __slots__ = ("_after", "corrected", "last")

    def __init__(self, after: int) -> None:
        self._after = after
        self.last: int | None = None
        self.corrected = 0

    def plan(self, tx: Transaction) -> None:
        tx.flush()
        rows = tx.sql.recount.all(SEEN_BIT, DELETED_BIT, self._after, RECOUNT_BATCH)
        self.last = rows[-1][0] if rows else None
        self.corrected = 0
        for mailbox, messages, octets, unseen, deleted in rows:
            head = tx.find(mailbox)
            if head is None:
                continue
            found = (messages, octets, unseen, deleted)
            if found != (head.messages, head.octets, head.unseen, head.deleted):
                head.messages, head.octets, head.unseen, head.deleted = found
                head.highest_modseq += 1
                self.corrected += 1


class Upkeep:
    """What the application calls now and then."""

    def __init__(
        self,
        writer: Writer,
        reader: Reader,
        index: StoreIndex,
        segments: SegmentLog,
        content: SegmentReader,
        files: Files,
        clock: Clock,
        log: Log,
        known_segments: Iterable[int] = (),
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._index = index
        self._segments = segments
        self._content = content
        self._files = files
        self._clock = clock
        self._log = log
        self._candidates = set(known_segments)
        self._limiter = trio.CapacityLimiter(1)

    async def sweep(self) -> int:
        """Overwrite dead content that nobody reads any more; remove segments that became empty.

        Also forgets expunges and tombstones whose time is over, and folds the database's log.
        Returns:  how many records were erased.
        Raises:  TransientFailure: the store or the disk failed; the next sweep goes on.
        """
        erased = await self._erase_dead()
        self._candidates |= self._segments.closed
        await self._forget((), self._candidates)
        await self._forget_expired()
        await self._writer.fold()
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

    async def _erase_dead(self) -> int:
        erased = 0
        after = 0
        while rows := await self._reader.query(partial(_dead_after, after)):
            after = rows[-1][0]
            free = [row for row in rows if not self._index.places.is_held(row[0])]
            if free:
                await self._erase(free)
                await self._forget([row[0] for row in free], {row[1] for row in free})
                erased += len(free)
        return erased

    async def _erase(self, rows: Sequence[Any]) -> None:
        segments = {row[1] for row in rows}
        live = await self._reader.query(lambda connection: _live_among(connection, segments))
        live.add(self._segments.active)
        # A segment without living records is about to be removed as a whole.
        doomed = [row for row in rows if row[1] in live]
        try:
            # Left to itself at shutdown: zeros may take longer than a stop, and are written again.
            await trio.to_thread.run_sync(
                self._overwrite, doomed, limiter=self._limiter, abandon_on_cancel=True
            )
        except StorageFault as fault:
            self._log.warning("erase_failed", reason=Public(str(fault)))
            raise TransientFailure("dead content could not be erased") from fault

    def _overwrite(self, rows: Sequence[Any]) -> None:
        for segment in sorted({row[1] for row in rows}):
            path = segment_path(self._segments.directory, segment)
            with writing():
                try:
                    fd = self._files.open(path, writable=True)
                except FileNotFoundError:
                    continue
            try:
                for _, number, place, size in rows:
                    if number == segment:
                        self._zero(fd, place, size + RECORD_HEADER_BYTES)
                with syncing():
                    self._files.sync(fd)
            finally:
                self._files.close(fd)

    def _zero(self, fd: int, offset: int, length: int) -> None:
        end = offset + length
        with writing():
            while offset < end:
                offset = self._files.write_at(fd, (ZEROS[: end - offset],), offset)

    async def _forget(self, dead: Sequence[int], segments: set[int]) -> None:
        active = self._segments.active
        job = await self._writer.do(_Forget(dead, sorted(segments - {active})))
        for segment in job.unused:
            self._content.forget(segment)
            path = segment_path(self._segments.directory, segment)
            await trio.to_thread.run_sync(self._files.unlink, path, limiter=self._limiter)
            self._candidates.discard(segment)
            self._segments.closed.discard(segment)
        if job.unused:
            await self._writer.do(_ForgetSegments(job.unused))

    async def _forget_expired(self) -> None:
        now_s = int(self._clock.now_s())
        before_s = now_s - EXPUNGED_KEPT_S
        found = await self._reader.query(lambda connection: _old_expunges(connection, before_s))
        if found:
            await self._writer.do(_ForgetExpunges(found))
        await self._writer.do(_ForgetTombstones(now_s))


def _dead_after(after: int, connection: Connection) -> Sequence[Any]:
    query = select(dead_blobs).where(dead_blobs.c.id > after).order_by(dead_blobs.c.id)
    return connection.execute(query.limit(ERASE_BATCH)).fetchall()


def _live_among(connection: Connection, segments: set[int]) -> set[int | None]:
    query = select(blobs.c.segment).where(blobs.c.segment.in_(segments)).distinct()
    return set(connection.execute(query).scalars())


def _old_expunges(connection: Connection, before_s: int) -> list[tuple[MailboxId, int]]:
    query = (
        select(expunged.c.mailbox, func.max(expunged.c.modseq))
        .where(expunged.c.at_s < before_s)
        .group_by(expunged.c.mailbox)
    )
    return [(mailbox, modseq) for mailbox, modseq in connection.execute(query)]
