"""The segment log: octets of messages, written once, append-only, in `mail/NNNNNNNN.seg`.

A record is a fixed header and then the message as it is sent. A file is appended to only by the
process that made it, so whatever a crash left at the end of an older file is never built upon.
Rows point at records; a record without a row is garbage.

Everything here runs in the writer's thread. Reading is `segment_reader`.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import attrs

from chatmail.adapters.storage.errors import DiskFull, syncing, writing
from chatmail.adapters.storage.files import Files, Octets
from chatmail.domain.model.message import Body

SEGMENT_LIMIT_BYTES: Final = 128 * 1024 * 1024
MAGIC: Final = b"CMsg"
RECORD_VERSION: Final = 1

# magic, version, reserved, blob id, header length, body length, CRC of header, CRC of body
_FRONT: Final = struct.Struct("<4sHHQIQII")
_CRC: Final = struct.Struct("<I")
RECORD_HEADER_BYTES: Final = _FRONT.size + _CRC.size


class Place:
    """Where a blob's record begins. Shared by all entries of the blob; slotted, there are many.

    `is_proven`: this process has seen that the record's octets are those that were written.
    """

    __slots__ = ("__weakref__", "blob", "is_proven", "offset", "segment")

    def __init__(self, blob: int, segment: int, offset: int) -> None:
        self.blob = blob
        self.segment = segment
        self.offset = offset
        self.is_proven = False

    def __repr__(self) -> str:
        return f"Place({self.blob}, {self.segment}, {self.offset})"


@attrs.frozen
class RecordHeader:
    """The fixed part of a record."""

    blob: int
    header_size: int
    body_size: int
    header_crc: int
    body_crc: int

    def encode(self) -> bytes:
        """Return the octets on disk."""
        front = _FRONT.pack(
            MAGIC,
            RECORD_VERSION,
            0,
            self.blob,
            self.header_size,
            self.body_size,
            self.header_crc,
            self.body_crc,
        )
        return front + _CRC.pack(zlib.crc32(front))

    @staticmethod
    def decode(octets: Octets) -> RecordHeader | None:
        """Return the header, None when the octets are none or damaged."""
        if len(octets) < RECORD_HEADER_BYTES:
            return None
        magic, version, _, *numbers = _FRONT.unpack_from(octets)
        crc = _CRC.unpack_from(octets, _FRONT.size)[0]
        front = memoryview(octets)[: _FRONT.size]
        if magic != MAGIC or version != RECORD_VERSION or crc != zlib.crc32(front):
            return None
        return RecordHeader(*numbers)


def crc_of(pieces: Iterable[Octets]) -> int:
    """Return the CRC-32 over pieces."""
    crc = 0
    for piece in pieces:
        crc = zlib.crc32(piece, crc)
    return crc


def segment_path(directory: Path, number: int) -> Path:
    """Return the file of a segment."""
    return directory / f"{number:08d}.seg"


def segment_numbers(directory: Path) -> list[int]:
    """Return the numbers of all segment files, ascending."""
    stems = (path.stem for path in directory.glob("*.seg"))
    return sorted(int(stem) for stem in stems if stem.isascii() and stem.isdigit())


class SegmentLog:
    """The writing end."""

    def __init__(
        self,
        directory: Path,
        files: Files,
        first_number: int,
        limit_bytes: int = SEGMENT_LIMIT_BYTES,
    ) -> None:
        self.directory = directory
        self._files = files
        self._numbers = itertools.count(first_number)
        self._limit_bytes = limit_bytes
        self.closed: set[int] = set()  # segments of this process that grow no more
        # Held open: once a file has its new name there must be no descriptor left to wait for.
        self._directory_fd = files.open_directory(directory)
        self._fd: int | None = None
        self._number = 0
        self._start = 0  # where the last append began
        self._end = 0
        self._is_dirty = False  # something was laid that no sync has covered

    @property
    def active(self) -> int | None:
        """Return the number of the segment that grows."""
        return None if self._fd is None else self._number

    def append(self, contents: Sequence[tuple[int, Body]]) -> list[Place]:
        """Write one record per (blob id, body) behind the end and make them durable.

        Returns:  the places, in order.
        Raises:  DiskFull: nothing was written. StoreFailed.
        """
        laid = self.lay(contents)
        self.sync()
        return [place for place, _ in laid]

    def lay(self, contents: Sequence[tuple[int, Body]]) -> list[tuple[Place, list[Octets]]]:
        """Write one record per (blob id, body) behind the end; durable only after `sync`.

        Returns:  places and the pieces of the records, in order.
        Raises:  DiskFull: nothing was written. StoreFailed.
        """
        fd = self._room()
        self._start = self._end
        laid: list[tuple[Place, list[Octets]]] = []
        offset = self._end
        for blob, body in contents:
            header = RecordHeader(
                blob,
                len(body.header),
                body.content_size,
                zlib.crc32(body.header),
                crc_of(body.chunks),
            )
            pieces: list[Octets] = [header.encode(), body.header, *body.chunks]
            laid.append((Place(blob, self._number, offset), pieces))
            offset += RECORD_HEADER_BYTES + body.size
        self._is_dirty = True
        try:
            with writing():
                self._files.write_at(fd, [piece for _, some in laid for piece in some], self._start)
        except DiskFull:
            self.undo()
            raise
        self._end = offset
        return laid

    def sync(self) -> None:
        """Make all that was laid durable. Raises:  StoreFailed."""
        if self._fd is not None and self._is_dirty:
            with syncing():
                self._files.sync(self._fd)
        self._is_dirty = False

    def undo(self) -> None:
        """Cut off what the last `append` wrote: no row will ever point there.

        Raises:  StoreFailed: a log that cannot be cut must not be built upon.
        """
        if self._fd is not None:
            with syncing():
                self._files.truncate(self._fd, self._start)
            self._end = self._start

    @property
    def has_room(self) -> bool:
        """Say whether the next append goes to the active segment."""
        return self._fd is not None and self._end < self._limit_bytes

    def sibling(self) -> SegmentLog:
        """Return another log in the same directory; both draw from one row of numbers."""
        other = SegmentLog(self.directory, self._files, 0, self._limit_bytes)
        other._numbers = self._numbers
        return other

    def new_number(self) -> int:
        """Take a segment number; none is ever used twice."""
        return next(self._numbers)  # one step of the interpreter: two threads never get the same

    def adopt(self, fd: int, path: Path) -> int:
        """Make a sealed spool file a segment of its own.

        Returns:  its number, once octets and name are durable.
        Raises:  StoreFailed; DiskFull: the file is where it was.
        """
        with syncing():
            self._files.sync(fd)
        number = self.new_number()
        with writing():
            self._files.rename(path, segment_path(self.directory, number))
        with syncing():
            self._files.sync_directory(self._directory_fd)
        return number

    def abandon(self) -> None:
        """Append no more to the active segment: nobody knows what is at its end."""
        self._close_active()

    def close(self) -> None:
        """Close the active segment and the directory."""
        self._close_active()
        self._files.close(self._directory_fd)

    def _close_active(self) -> None:
        if self._fd is not None:
            self._files.close(self._fd)
            self.closed.add(self._number)
            self._fd = None

    def _room(self) -> int:
        if self._fd is not None and self.has_room:
            return self._fd
        return self.begin(self.new_number())

    def begin(self, number: int) -> int:
        """Begin a new segment; returns its descriptor.

        Raises:  DiskFull; StoreFailed.
        """
        with writing():
            fd = self._files.create(segment_path(self.directory, number))
        # The name must be durable before the first row that needs it.
        with syncing():
            self._files.sync_directory(self._directory_fd)
        self.sync()  # or nobody would ever do it for the old one
        self._close_active()
        self._fd, self._number = fd, number
        self._start = self._end = 0
        return fd
