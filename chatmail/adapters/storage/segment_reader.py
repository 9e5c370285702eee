"""Reads records: in the loop while their pages are in memory, else for a thread to do.

What was read whole is checked against the record's CRC before anybody sees it. Before the first
piece of a body is shown the whole record is proven, once per process.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Final

from chatmail.adapters.storage.files import Files
from chatmail.adapters.storage.segments import (
    RECORD_HEADER_BYTES,
    Place,
    RecordHeader,
    segment_path,
)
from chatmail.domain.model.errors import LocalProtocolError
from chatmail.domain.model.mailbox import MailboxEntry

MAX_OPEN_SEGMENTS: Final = 256
PROOF_BYTES: Final = 1024 * 1024


class Damaged(Exception):
    """The octets on disk are not those that were written."""


class _Handle:
    """An open segment; `users` are threads that read from it now."""

    __slots__ = ("fd", "is_doomed", "users")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.users = 0
        self.is_doomed = False


class Wanted:
    """A part of one message, as a span of its segment."""

    __slots__ = ("entry", "handle", "length", "needs_proof", "offset", "place", "skip", "start")

    def __init__(self, entry: MailboxEntry, start: int, length: int) -> None:
        self.entry = entry
        self.place: Place = entry.blob
        self.start = max(0, start)
        self.length = max(0, min(length, entry.size - self.start))
        # Whoever reads the whole header block gets it checked, so the record header comes along.
        is_checked = self.start == 0 and self.length >= entry.header_size
        self.skip = RECORD_HEADER_BYTES if is_checked else 0
        self.offset = self.place.offset + RECORD_HEADER_BYTES + self.start - self.skip
        self.handle: _Handle | None = None
        is_checked_whole = is_checked and self.length in (entry.header_size, entry.size)
        self.needs_proof = self.length > 0 and not (is_checked_whole or self.place.is_proven)


class Proof:
    """Reads a held record from end to end, in steps, and compares it with its checksums."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._offset = wanted.place.offset  # in the segment that is held next, whatever moves
        self._header: RecordHeader | None = None
        self._crc = 0
        self._done = 0

    @property
    def is_done(self) -> bool:
        """Say whether the last step was the last."""
        return self._header is not None and self._done == self._header.body_size

    def step(self, files: Files) -> None:
        """Check the next piece; blocks.

        Raises:  Damaged; OSError.
        """
        wanted = self._wanted
        if wanted.handle is None:
            raise LocalProtocolError("the segment is not held")
        fd, entry = wanted.handle.fd, wanted.entry
        if self._header is None:
            length = RECORD_HEADER_BYTES + entry.header_size
            raw = files.read(fd, length, self._offset)
            self._header = _record_header(raw, wanted.place.blob, entry.header_size, entry.size)
            if not self._header.body_size:
                return
        at = self._offset + RECORD_HEADER_BYTES + entry.header_size + self._done
        piece = files.read(fd, min(PROOF_BYTES, self._header.body_size - self._done), at)
        self._crc = zlib.crc32(piece, self._crc)
        self._done += len(piece)
        if not piece or (self.is_done and self._crc != self._header.body_crc):
            raise Damaged("the body has changed")


class SegmentReader:
    """Open segments by number, least recently used ones closed first."""

    def __init__(self, directory: Path, files: Files, max_open: int = MAX_OPEN_SEGMENTS) -> None:
        self._directory = directory
        self._files = files
        self._max_open = max_open
        self._handles: OrderedDict[int, _Handle] = OrderedDict()

    def __len__(self) -> int:
        return len(self._handles)

    def read_now(self, wanted: Wanted) -> bytes | None:
        """Return the octets if they are in memory; None: take it to a thread.

        Raises:  Damaged; OSError: the segment is missing.
        """
        if wanted.length == 0:
            return b""
        handle = self._open(wanted.place.segment)
        raw = self._files.read_resident(handle.fd, wanted.length + wanted.skip, wanted.offset)
        return None if raw is None else _checked(raw, wanted)

    def hold(self, wanted: Wanted) -> None:
        """Keep the segment open until `read_held` is done."""
        wanted.handle = self._open(wanted.place.segment)
        wanted.handle.users += 1

    def read_held(self, wanted: Wanted) -> bytes:
        """Read from a held segment; blocks.

        Raises:  OSError.
        """
        if wanted.handle is None:
            raise LocalProtocolError("the segment is not held")
        return self._files.read(wanted.handle.fd, wanted.length + wanted.skip, wanted.offset)

    def prove(self, proof: Proof) -> None:
        """Do the next step of a proof; blocks. Raises:  Damaged; OSError."""
        proof.step(self._files)

    def release(self, wanted: Wanted) -> None:
        """End `hold`."""
        handle, wanted.handle = wanted.handle, None
        if handle is not None:
            handle.users -= 1
            if handle.is_doomed and handle.users == 0:
                self._files.close(handle.fd)

    def forget(self, segment: int) -> None:
        """Close a segment that is going away."""
        handle = self._handles.pop(segment, None)
        if handle is not None:
            self._drop(handle)

    def close(self) -> None:
        """Close everything."""
        while self._handles:
            self._drop(self._handles.popitem()[1])

    @staticmethod
    def checked(raw: bytes, wanted: Wanted) -> bytes:
        """Check what `read_held` returned. Raises:  Damaged."""
        return _checked(raw, wanted)

    def _open(self, segment: int) -> _Handle:
        handle = self._handles.get(segment)
        if handle is not None:
            self._handles.move_to_end(segment)
            return handle
        handle = _Handle(self._files.open(segment_path(self._directory, segment)))
        self._handles[segment] = handle
        if len(self._handles) > self._max_open:
            self._drop(self._handles.popitem(last=False)[1])
        return handle

    def _drop(self, handle: _Handle) -> None:
        handle.is_doomed = True
        if handle.users == 0:
            self._files.close(handle.fd)


def checked_record(raw: bytes, blob: int, header_size: int, size: int) -> None:
    """Check a whole record. Raises:  Damaged."""
    if len(raw) != RECORD_HEADER_BYTES + size:
        raise Damaged("the segment ends too early")
    record = _record_header(raw, blob, header_size, size)
    if zlib.crc32(memoryview(raw)[RECORD_HEADER_BYTES + header_size :]) != record.body_crc:
        raise Damaged("the body has changed")


def _record_header(raw: bytes, blob: int, header_size: int, size: int) -> RecordHeader:
    """Check the beginning of a record, header block included. Raises:  Damaged."""
    record = RecordHeader.decode(raw)
    if (
        record is None
        or record.blob != blob
        or record.header_size != header_size
        or record.header_size + record.body_size != size
    ):
        raise Damaged("the record is not the one that was written")
    header = memoryview(raw)[RECORD_HEADER_BYTES : RECORD_HEADER_BYTES + header_size]
    if zlib.crc32(header) != record.header_crc:
        raise Damaged("the header block has changed")
    return record


def _checked(raw: bytes, wanted: Wanted) -> bytes:
    if len(raw) != wanted.length + wanted.skip:
        raise Damaged("the segment ends too early")
    if not wanted.skip:
        return raw
    entry = wanted.entry
    if wanted.length == entry.size:
        checked_record(raw, wanted.place.blob, entry.header_size, entry.size)
        wanted.place.is_proven = True
    else:
        _record_header(raw, wanted.place.blob, entry.header_size, entry.size)
    return raw[RECORD_HEADER_BYTES:]
