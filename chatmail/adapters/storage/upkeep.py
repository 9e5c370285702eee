"""Periodic work: erase dead content, compact, forget old expunges, recount counters.

All in bounded pieces, so that deliveries wait for none of it long; what has to be looked through is
looked through in the reader's thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

import trio
from sqlalchemy import Connection, Select, bindparam, exists, select

from chatmail.adapters.storage.compaction import Compactor
from chatmail.adapters.storage.departure import drain_all
from chatmail.adapters.storage.errors import StorageFault, syncing, writing
from chatmail.adapters.storage.files import Files
from chatmail.adapters.storage.flags import DELETED_BIT, SEEN_BIT
from chatmail.adapters.storage.forgetting import (
    EXPUNGED_KEPT_S,
    ForgetExpunges,
    forget_expired,
)
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.reader import Reader
from chatmail.adapters.storage.schema import blobs, dead_blobs, expunged, mailboxes, segments
from chatmail.adapters.storage.segment_reader import SegmentReader
from chatmail.adapters.storage.segments import (
    RECORD_HEADER_BYTES,
    SegmentLog,
    segment_path,
)
from chatmail.adapters.storage.statements import RECOUNT
from chatmail.adapters.storage.transaction import Transaction
from chatmail.adapters.storage.writer import Job, Log, Writer
from chatmail.adapters.system.redaction import Public
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.mailbox import MailboxId
from chatmail.domain.ports.system import Clock

ERASE_BATCH: Final = 500
RECOUNT_BATCH: Final = 200
RECOUNT_ROWS: Final = 5_000
RECOUNT_PAUSE_S: Final = 0.01
EXPUNGES_AT_ONCE: Final = 5_000
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


class _Recount(Job):
    """Put the rows' truth in the place of counters that seem wrong."""

    __slots__ = ("_mailbox", "is_corrected")

    def __init__(self, mailbox: MailboxId) -> None:
        self._mailbox = mailbox
        self.is_corrected = False

    def plan(self, tx: Transaction) -> None:
        self.is_corrected = False
        tx.flush()
        head = tx.find(self._mailbox)
        row = tx.sql.recount.one(SEEN_BIT, DELETED_BIT, self._mailbox, self._mailbox)
        if head is None or row is None:
            return
        found = tuple(row[1:5])
        if found != (head.messages, head.octets, head.unseen, head.deleted):
            head.messages, head.octets, head.unseen, head.deleted = found
            head.highest_modseq += 1
            self.is_corrected = True


class Upkeep:
    """What is called now and then. One clean-up at a time."""

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
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._index = index
        self._segments = segments
        self._content = content
        self._files = files
        self._clock = clock
        self._log = log
        self._compactor = Compactor(writer, reader, segments, files, log)
        self._limiter = trio.CapacityLimiter(1)
        self._lock = trio.Lock()
        self._touched: set[int] = set()

    def close(self) -> None:
        """Close what compaction holds open."""
        self._compactor.close()

    async def vacuum(self) -> int:
        """Sweep, then give back the space of segments that are mostly dead.

        Returns:  how many records were erased.
        Raises:  TransientFailure: the store or the disk failed; the next one goes on.
        """
        async with self._lock:
            erased = await self._sweep()
            touched, self._touched = self._touched, set()
            if await self._compactor.run(touched):
                erased += await self._erase_dead()
                await self._remove_empty()
            return erased

    async def sweep(self) -> int:
        """Overwrite dead content that nobody reads any more; remove segments that became empty.

        Also finishes deletions that were begun, forgets expunges and tombstones whose time is over,
        and folds the database's log.
        Returns:  how many records were erased.
        Raises:  TransientFailure: the store or the disk failed; the next sweep goes on.
        """
        async with self._lock:
            return await self._sweep()

    async def _sweep(self) -> int:
        await drain_all(self._writer, self._reader)
        erased = await self._erase_dead()
        await self._remove_empty()
        await self._forget_expired()
        await self._writer.fold()
        return erased

    async def recount(self) -> int:
        """Recount every mailbox from its rows; returns how many were wrong.

        Cost:  all rows once, a few thousand at a time with pauses between; only what seems wrong
            is counted in the writer's thread.
        """
        after = 0
        corrected = 0
        while page := await self._reader.query(partial(_counted_after, after)):
            after = page[-1][0]
            for mailbox, *numbers in page:
                if numbers[:4] != numbers[4:]:
                    job = await self._writer.do(_Recount(MailboxId(mailbox)))
                    corrected += job.is_corrected
            await trio.sleep(RECOUNT_PAUSE_S)
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
                await self._writer.do(_Forget([row[0] for row in free], ()))
                self._touched.update(row[1] for row in free)
                erased += len(free)
        return erased

    async def _erase(self, rows: Sequence[Any]) -> None:
        segments = {row[1] for row in rows}
        live = await self._reader.query(partial(_live_among, segments))
        live |= {self._segments.active, self._compactor.segment}
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

    async def _remove_empty(self) -> None:
        """Remove segments on the list that no row points into, and those that were never used."""
        empty = await self._reader.query(_empty_segments)
        growing = {self._segments.active, self._compactor.segment}
        candidates = (empty | self._segments.closed) - growing
        for batch in _batches(sorted(candidates)):
            job = await self._writer.do(_Forget((), batch))
            for segment in job.unused:
                self._content.forget(segment)
                path = segment_path(self._segments.directory, segment)
                await trio.to_thread.run_sync(self._files.unlink, path, limiter=self._limiter)
            if job.unused:
                await self._writer.do(_ForgetSegments(job.unused))
            self._segments.closed.difference_update(batch)

    async def _forget_expired(self) -> None:
        now_s = int(self._clock.now_s())
        before_s = now_s - EXPUNGED_KEPT_S
        while found := await self._reader.query(partial(_old_expunges, before_s)):
            await self._writer.do(ForgetExpunges(found))
        await forget_expired(self._writer, now_s)


def _dead_after(after: int, connection: Connection) -> Sequence[Any]:
    query = select(dead_blobs).where(dead_blobs.c.id > after).order_by(dead_blobs.c.id)
    return connection.execute(query.limit(ERASE_BATCH)).fetchall()


def _live_among(segments: set[int], connection: Connection) -> set[int | None]:
    query = select(exists().where(blobs.c.segment == bindparam("segment")))
    return {one for one in segments if connection.execute(query, {"segment": one}).scalar()}


def empty_query() -> Select[Any]:
    """Return the query of segments on the list that no row points into."""
    number = segments.c.number
    return select(number).where(
        ~exists().where(blobs.c.segment == number), ~exists().where(dead_blobs.c.segment == number)
    )


def _empty_segments(connection: Connection) -> set[int]:
    return set(connection.execute(empty_query()).scalars())


def old_expunges_query() -> Select[Any]:
    """Return the query of expunges by age."""
    return (
        select(expunged.c.mailbox, expunged.c.modseq)
        .where(expunged.c.at_s < bindparam("before"))
        .order_by(expunged.c.at_s)
        .limit(EXPUNGES_AT_ONCE)
    )


def _old_expunges(before_s: int, connection: Connection) -> list[tuple[MailboxId, int]]:
    """Return mailboxes with the modseq up to which some of their expunges are too old."""
    floors: dict[MailboxId, int] = {}
    for mailbox, modseq in connection.execute(old_expunges_query(), {"before": before_s}):
        floors[mailbox] = max(modseq, floors.get(mailbox, 0))
    return list(floors.items())


def _counted_after(after: int, connection: Connection) -> list[tuple[int, ...]]:
    """Return (mailbox, four counters, the same four as counted) of the next mailboxes."""
    box = mailboxes.c
    counters = (box.messages, box.octets, box.unseen, box.deleted)
    query = select(box.id, *counters).where(box.id > after).order_by(box.id).limit(RECOUNT_BATCH)
    page = []
    rows = 0
    for head in connection.execute(query):
        page.append(tuple(head))
        rows += head.messages
        if rows > RECOUNT_ROWS:
            break
    if not page:
        return []
    values = {"seen": SEEN_BIT, "deleted": DELETED_BIT, "first": page[0][0], "last": page[-1][0]}
    counted = {row[0]: tuple(row[1:5]) for row in connection.execute(RECOUNT, values)}
    return [(*head, *counted[head[0]]) for head in page]


def _batches(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(numbers), ERASE_BATCH):
        yield numbers[start : start + ERASE_BATCH]
