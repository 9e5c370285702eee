"""Reads records: in the loop while their pages are in memory, else for a thread to do.

What was read whole is checked against the record's CRC before anybody sees it.
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

    __slots__ = ("entry", "handle", "length", "offset", "place", "skip", "start")

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


def _checked(raw: bytes, wanted: Wanted) -> bytes:
    if len(raw) != wanted.length + wanted.skip:
        raise Damaged("the segment ends too early")
    if not wanted.skip:
        return raw
    entry = wanted.entry
    record = RecordHeader.decode(raw)
    if (
        record is None
        or record.blob != wanted.place.blob
        or record.header_size != entry.header_size
        or record.header_size + record.body_size != entry.size
    ):
        raise Damaged("the record is not the one that was written")
    view = memoryview(raw)
    body_at = RECORD_HEADER_BYTES + entry.header_size
    if zlib.crc32(view[RECORD_HEADER_BYTES:body_at]) != record.header_crc:
        raise Damaged("the header block has changed")
    if wanted.length == entry.size and zlib.crc32(view[body_at:]) != record.body_crc:
        raise Damaged("the body has changed")
    return raw[RECORD_HEADER_BYTES:]
