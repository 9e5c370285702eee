"""Small messages, durable in the database before they are durable in their segment.

A commit has to wait for the database's log anyway. Small records ride in it, so that it is the only
sync: they are written to their segment too, and read from there, but its sync can wait until it
serves many. After a crash of the machine they are written into their segments again, at the very
places their rows name.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select

from chatmail.adapters.storage.database import Prepared
from chatmail.adapters.storage.errors import syncing, writing
from chatmail.adapters.storage.files import Files, Octets
from chatmail.adapters.storage.schema import blobs, unsynced
from chatmail.adapters.storage.segments import Place, SegmentLog, segment_path

MAX_BATCH_OCTETS: Final = 32 * 1024
"""A batch of more is synced by itself: copying it once more would cost as much as the sync."""

MAX_OCTETS: Final = 1024 * 1024
"""So much may wait for the sync of its segment."""


class ContentJournal:
    """The records that wait. Everything runs in the writer's thread.

    Around one batch: `take`, `write` inside its transaction, then `wrote` or `forget`.
    """

    def __init__(
        self, connection: Connection, segments: SegmentLog, batch_octets: int = MAX_BATCH_OCTETS
    ) -> None:
        """Args:  batch_octets: a batch of more than this does not wait; 0: none does."""
        self._segments = segments
        self._batch_octets = batch_octets
        self._waiting_octets = 1  # the last process may have left rows behind, on a full disk
        self._add = Prepared(connection, insert(unsynced), ["blob", "segment", "place", "record"])
        self._clear = Prepared(connection, delete(unsynced))
        self._rows: list[tuple[int, int, int, bytes]] = []
        self._is_settled = False

    @property
    def waits(self) -> bool:
        """Say whether there is a record to be settled."""
        return self._waiting_octets > 0

    def settle(self) -> None:
        """Sync the segment; `write` and `wrote` have to follow. Raises:  StoreFailed."""
        self._rows = []
        self._segments.sync()
        self._is_settled = True

    def take(self, laid: Sequence[tuple[Place, list[Octets]]]) -> None:
        """Take in what a batch has laid; if that is too much, its segment is synced now.

        Raises:  StoreFailed: the sync failed.
        """
        octets = sum(len(piece) for _, pieces in laid for piece in pieces)
        if octets > self._batch_octets or self._waiting_octets + octets > MAX_OCTETS:
            self.settle()
            return
        self._rows = [
            (place.blob, place.segment, place.offset, b"".join(pieces)) for place, pieces in laid
        ]

    def write(self) -> None:
        """Write rows for what was taken, inside the batch's transaction."""
        self._add.run_many(self._rows)
        if self._is_settled:
            self._clear.run()

    def wrote(self) -> None:
        """Take note that the transaction was committed."""
        if self._is_settled:
            self._waiting_octets = 0
        self._waiting_octets += sum(len(row[3]) for row in self._rows)
        self.forget()

    def forget(self) -> None:
        """Take note that the batch is over, or was undone."""
        self._rows = []
        self._is_settled = False


def settle_after_crash(connection: Connection, directory: Path, files: Files) -> int:
    """Write the records that waited into their segments again; returns how many waited.

    A record whose row is gone, or names another place by now, is left out: what was deleted must
    not come back. The rows stay; `clear` removes them.
    Raises:  StoreFailed, DiskFull.
    """
    waited = connection.execute(select(func.count()).select_from(unsynced)).scalar() or 0
    if not waited:
        return 0
    query = (
        select(unsynced)
        .join(blobs, blobs.c.id == unsynced.c.blob)
        .where(blobs.c.segment == unsynced.c.segment)
        .where(blobs.c.place == unsynced.c.place)
        .order_by(unsynced.c.segment, unsynced.c.place)
    )
    with connection.execute(query) as found:
        for segment, rows in groupby(found, key=attrgetter("segment")):
            _write_again(segment_path(directory, segment), list(rows), files)
    return waited


def clear(connection: Connection) -> None:
    """Remove the rows of settled records, inside the caller's transaction."""
    connection.execute(delete(unsynced))


def _write_again(path: Path, rows: Sequence[Any], files: Files) -> None:
    with writing():
        fd = files.open(path, writable=True) if path.exists() else files.create(path)
    try:
        with writing():
            for row in rows:
                files.write_at(fd, (row.record,), row.place)
        with syncing():
            files.sync(fd)
    finally:
        files.close(fd)
