"""Spools: large messages go to disk as they arrive and become a segment of their own.

The header block is known only at the end (doors edit it), so the content is written behind a
reserved hole; sealing puts record header and header block right before the content. The hole is
sparse and costs nothing. A record is contiguous like any other.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import trio

from chatmail.adapters.storage.errors import StorageFault, writing
from chatmail.adapters.storage.files import Files
from chatmail.adapters.storage.segments import (
    RECORD_HEADER_BYTES,
    Place,
    RecordHeader,
    SegmentLog,
    segment_path,
)
from chatmail.domain.model.errors import LocalProtocolError, PermanentFailure, TransientFailure
from chatmail.domain.model.message import Body

RESERVED_BYTES: Final = 128 * 1024
"""Twice the largest header block any door lets in (spec policy P-04)."""

CHUNK_BYTES: Final = 64 * 1024


class SegmentSpool:
    """One message on its way to disk."""

    def __init__(self, path: Path, fd: int, files: Files, new_blob: Callable[[], int]) -> None:
        self._path = path
        self._files = files
        self._new_blob = new_blob
        self._end = RESERVED_BYTES
        self._crc = 0
        self.fd = fd
        self.blob: int | None = None
        self.place: Place | None = None
        self.is_committed = False
        self._may_have_row = False
        self._start = RESERVED_BYTES

    @property
    def content_size(self) -> int:
        """Octets written so far."""
        return self._end - RESERVED_BYTES

    async def write(self, chunk: bytes | memoryview) -> None:
        """Append octets: into the page cache, 64 KiB between checkpoints.

        Raises:  TransientFailure: the disk is full or failed.
        """
        view = memoryview(chunk)
        while True:
            await trio.lowlevel.checkpoint()
            self._write(view[:CHUNK_BYTES])
            view = view[CHUNK_BYTES:]
            if not view:
                return

    async def seal(self, header: bytes) -> Body:
        """Put record header and header block in front of the content.

        Raises:  TransientFailure: the disk is full or failed. PermanentFailure: the header block
            does not fit into its room.
        """
        await trio.lowlevel.checkpoint()
        if self.place is not None:
            raise LocalProtocolError("the spool was committed")
        self._start = RESERVED_BYTES - len(header) - RECORD_HEADER_BYTES
        if self._start < 0:
            raise PermanentFailure("header block is too large")
        self.blob = self._new_blob()
        record = RecordHeader(
            self.blob, len(header), self.content_size, zlib.crc32(header), self._crc
        )
        with _told():
            self._files.write_at(self.fd, (record.encode(), header), self._start)
        return Body(header, (), self.content_size, spooled=self)

    def place_in(self, log: SegmentLog) -> Place:
        """Make the sealed file a durable segment (writer's thread); once, however often asked.

        Raises:  DiskFull, StoreFailed.
        """
        if self.blob is None:
            raise LocalProtocolError("the spool was not sealed")
        if self.place is None:
            segment = log.adopt(self.fd, self._path)
            self._path = segment_path(log.directory, segment)
            self.place = Place(self.blob, segment, self._start)
        self._may_have_row = True
        return self.place

    def withdraw(self) -> None:
        """Take note that no row points here: the commit is known to have failed."""
        self._may_have_row = False

    def discard(self) -> None:
        """Close, and remove what no row can point at.

        A commit that ended in an I/O error may be durable all the same: then the file stays.
        """
        self._files.close(self.fd)
        if not self._may_have_row:
            self._files.unlink(self._path)

    def _write(self, piece: memoryview) -> None:
        with _told():
            end = self._files.write_at(self.fd, (piece,), self._end)
        self._crc = zlib.crc32(piece, self._crc)
        self._end = end


class SegmentBlobStore:
    """`BlobStore` in `spool/`."""

    def __init__(self, directory: Path, files: Files, new_blob: Callable[[], int]) -> None:
        self._directory = directory
        self._files = files
        self._new_blob = new_blob
        self._numbers = itertools.count(1)

    @asynccontextmanager
    async def spool(self) -> AsyncIterator[SegmentSpool]:
        """Open a spool; leaving removes whatever was not committed."""
        path = self._directory / f"{next(self._numbers):08d}.part"
        with _told():
            fd = self._files.create(path)
        spool = SegmentSpool(path, fd, self._files, self._new_blob)
        try:
            yield spool
        finally:
            spool.discard()


@contextmanager
def _told() -> Iterator[None]:
    """Tell the domain about faults of spool writes: nothing of it was promised to anybody."""
    try:
        with writing():
            yield
    except StorageFault as fault:
        raise TransientFailure("the message could not be written down") from fault
