"""Gives back the space of segments that are mostly dead: living records move to another segment.

    copied and checked → synced → one transaction moves the places → index        piece by piece

so at any instant every row points at octets that are durable, and a crash leaves at most a copy
that nobody points at, in a file that is on the list. The emptied segment is removed by the sweep,
like any other without a living record. Whoever reads from it meanwhile has it open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs
import trio
from sqlalchemy import Connection, Select, bindparam, func, select

from chatmail.adapters.storage.errors import DiskFull, StorageFault
from chatmail.adapters.storage.files import Files
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.reader import Reader
from chatmail.adapters.storage.schema import blobs, segments
from chatmail.adapters.storage.segment_reader import Damaged, checked_record
from chatmail.adapters.storage.segments import (
    RECORD_HEADER_BYTES,
    Place,
    SegmentLog,
    segment_path,
)
from chatmail.adapters.storage.transaction import Transaction
from chatmail.adapters.storage.writer import Job, Log, Writer
from chatmail.adapters.system.redaction import Public
from chatmail.domain.model.message import Body

LIVE_PERCENT: Final = 50
"""A segment with more living octets than this stays: moving them costs more than it gives back."""

PIECE_BYTES: Final = 4 * 1024 * 1024
PIECE_RECORDS: Final = 500
PAUSE_S: Final = 0.05
"""Between two pieces, so that deliveries get the disk: at most some 80 MB are moved in a second."""

LOOKS_PER_RUN: Final = 256
BLOCK_BYTES: Final = 512

T = TypeVar("T")


@attrs.frozen
class _Record:
    """A living record and where it lies."""

    blob: int
    segment: int
    offset: int
    size: int
    header_size: int


class _Begin(Job):
    """Put the number of a segment on the list before there is such a file."""

    __slots__ = ("_log", "number")

    def __init__(self, log: SegmentLog) -> None:
        self._log = log
        self.number = 0

    def plan(self, tx: Transaction) -> None:
        self.number = self._log.new_number()
        tx.sql.add_segment.run(self.number)


class _Move(Job):
    """Point rows at the copies. The copy of a message that went meanwhile is dead."""

    __slots__ = ("_moved", "_moves")

    def __init__(self, moves: Sequence[tuple[_Record, Place]]) -> None:
        self._moves = moves
        self._moved: list[Place] = []

    def plan(self, tx: Transaction) -> None:
        self._moved = []
        tx.flush()
        for old, new in self._moves:
            done = tx.sql.retention.move_blob.run(
                new.segment, new.offset, old.blob, old.segment, old.offset
            )
            if done.rowcount:
                self._moved.append(new)
            else:
                # Under an id of its own: the dead original has that of the message.
                tx.sql.add_dead.run(tx.new_id(), new.segment, new.offset, old.size)

    def publish(self, index: StoreIndex) -> None:
        for place in self._moved:
            index.places.move(place)


class Compactor:
    """Looks at some segments per run, those first in which something has died."""

    def __init__(
        self,
        writer: Writer,
        reader: Reader,
        active: SegmentLog,
        files: Files,
        log: Log,
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._active = active
        self._out = active.sibling()
        self._files = files
        self._log = log
        self._limiter = trio.CapacityLimiter(1)
        self._looked_at = 0
        self._damaged: set[int] = set()

    @property
    def segment(self) -> int | None:
        """Return the number of the segment that copies go to."""
        return self._out.active

    def close(self) -> None:
        """Close the segment of copies."""
        self._out.close()

    async def run(self, touched: Iterable[int] = ()) -> int:
        """Empty segments that are mostly dead; returns how many.

        Args:  touched: where records have died lately.
        Raises:  TransientFailure: the store could not; the next run goes on.
        Cancellation:  safe anywhere; what was moved stays moved.
        """
        numbers = await self._reader.query(partial(_known_after, self._looked_at))
        self._looked_at = numbers[-1] if len(numbers) == LOOKS_PER_RUN else 0
        emptied = 0
        for number in sorted({*touched, *numbers} - self._damaged):
            if number not in (self._active.active, self.segment) and await self._is_poor(number):
                emptied += await self._empty(number)
        return emptied

    async def _is_poor(self, number: int) -> bool:
        """Say whether a segment is mostly dead, and not all dead."""
        count, octets = await self._reader.query(partial(_living, number))
        if not count:
            return False
        path = segment_path(self._active.directory, number)
        taken = await trio.to_thread.run_sync(_taken_bytes, path, limiter=self._limiter)
        return (octets + count * RECORD_HEADER_BYTES) * 100 < taken * LIVE_PERCENT

    async def _empty(self, number: int) -> bool:
        """Move everything out of a segment; False: it could not be done now."""
        after = -1
        while records := await self._reader.query(partial(_records, number, after)):
            after = records[-1].offset
            if not self._out.has_room:
                begun = await self._writer.do(_Begin(self._out))
                if not await self._tried(partial(self._out.begin, begun.number)):
                    return False
            places = await self._tried(partial(self._copy, number, records))
            if places is None:
                return False
            await self._writer.do(_Move(list(zip(records, places, strict=True))))
            await trio.sleep(PAUSE_S)
        return True

    async def _tried(self, step: Callable[[], T]) -> T | None:
        """Do a step in the thread; None: the disk or a record did not allow it."""
        try:
            return await trio.to_thread.run_sync(step, limiter=self._limiter)
        except Damaged as damage:
            self._log.warning("content_damaged", reason=Public(str(damage)))
        except DiskFull:
            # Deliveries are told by their own writes; here it only means: not now.
            self._out.abandon()
        except StorageFault as fault:
            self._out.abandon()
            self._log.warning("compaction_failed", reason=Public(str(fault)))
        except OSError as error:
            self._log.warning("content_unreadable", errno=error.errno)
        return None

    def _copy(self, number: int, records: Sequence[_Record]) -> list[Place]:
        """Copy records behind the others, durably. Blocks."""
        contents = []
        fd = self._files.open(segment_path(self._active.directory, number))
        try:
            for one in records:
                raw = self._files.read(fd, RECORD_HEADER_BYTES + one.size, one.offset)
                try:
                    checked_record(raw, one.blob, one.header_size, one.size)
                except Damaged:
                    # It stays where it is, for whoever can mend it.
                    self._damaged.add(number)
                    raise
                view = memoryview(raw)[RECORD_HEADER_BYTES:]
                header, content = view[: one.header_size], view[one.header_size :]
                contents.append((one.blob, Body(bytes(header), (content,), len(content))))
        finally:
            self._files.close(fd)
        return self._out.append(contents)


def _taken_bytes(path: Path) -> int:
    """Return what a file takes on the disk; holes are free."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0
    return min(int(status.st_size), int(status.st_blocks) * BLOCK_BYTES)


def _known_after(after: int, connection: Connection) -> list[int]:
    query = (
        select(segments.c.number)
        .where(segments.c.number > after)
        .order_by(segments.c.number)
        .limit(LOOKS_PER_RUN)
    )
    return list(connection.execute(query).scalars())


def living_query() -> Select[Any]:
    """Return the query of how many records live in a segment, and their octets."""
    return select(func.count(), func.coalesce(func.sum(blobs.c.size), 0)).where(
        blobs.c.segment == bindparam("segment")
    )


def _living(number: int, connection: Connection) -> tuple[int, int]:
    count, octets = connection.execute(living_query(), {"segment": number}).one()
    return int(count), int(octets)


def records_query() -> Select[Any]:
    """Return the query of the living records of a segment behind an offset."""
    return (
        select(blobs.c.id, blobs.c.segment, blobs.c.place, blobs.c.size, blobs.c.header_size)
        .where(blobs.c.segment == bindparam("segment"))
        .where(blobs.c.place > bindparam("after"))
        .order_by(blobs.c.place)
        .limit(PIECE_RECORDS)
    )


def _records(number: int, after: int, connection: Connection) -> list[_Record]:
    """Return the next piece: as many records as are moved at once."""
    piece: list[_Record] = []
    octets = 0
    for row in connection.execute(records_query(), {"segment": number, "after": after}):
        octets += row.size
        if piece and octets > PIECE_BYTES:
            break
        piece.append(_Record(*row))
    return piece
