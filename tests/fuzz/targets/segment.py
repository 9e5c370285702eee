"""Records of a segment: what is read back is what was written, or is known to be damaged."""

from __future__ import annotations

from pathlib import Path

from chatmail.adapters.storage.files import Files, Octets
from chatmail.adapters.storage.segment_reader import Damaged, SegmentReader, Wanted
from chatmail.adapters.storage.segments import (
    RECORD_HEADER_BYTES,
    Place,
    RecordHeader,
    SegmentLog,
)
from chatmail.domain.model.mailbox import MailboxEntry, Modseq, Uid
from chatmail.domain.model.message import Body
from tests.fuzz.cutting import read, vector

WORDS = (b"CMsg", b"\x01\x00", b"\r\n\r\n", RecordHeader(7, 3, 4, 5, 6).encode())
BLOB = 7


class MemoryFiles(Files):
    """One file in memory."""

    def __init__(self) -> None:
        self.octets = bytearray()

    def create(self, path: Path) -> int:
        return 3

    def open(self, path: Path, *, writable: bool = False) -> int:
        return 3

    def close(self, fd: int) -> None:
        pass

    def open_directory(self, path: Path) -> int:
        return 4

    def sync_directory(self, fd: int) -> None:
        pass

    def sync(self, fd: int) -> None:
        pass

    def write_at(self, fd: int, pieces: list[Octets], offset: int) -> int:  # type: ignore[override]
        octets = b"".join(map(bytes, pieces))
        self.octets[offset : offset + len(octets)] = octets
        return offset + len(octets)

    def read_resident(self, fd: int, length: int, offset: int) -> bytes | None:
        octets = bytes(self.octets[offset : offset + length])
        return octets if len(octets) == length else None

    def read(self, fd: int, length: int, offset: int) -> bytes:
        return bytes(self.octets[offset : offset + length])


def check(data: bytes) -> None:
    """Any octets are a record header or none; any change of a record read whole is noticed."""
    given = read(data)
    _check_header(given.payload)
    header, gap, body = given.payload.partition(b"\r\n\r\n")
    header += gap
    files = MemoryFiles()
    log = SegmentLog(Path("/nowhere"), files, 1)
    _, place = log.append(
        [(1, Body(b"a\r\n\r\n", (b"b",), 1)), (BLOB, Body(header, (body,), len(body)))]
    )
    entry = MailboxEntry(Uid(1), Modseq(1), frozenset(), len(header + body), len(header), 0, place)
    whole = header + body
    start, length = given.sizes[0] - 1, given.sizes[1]
    assert _read(files, entry, 0, len(whole)) == whole
    assert _read(files, entry, start, length) == whole[start : start + length]
    _check_damage(files, entry, place, whole, given.options, given.more)


def _check_header(octets: bytes) -> None:
    record = RecordHeader.decode(octets)
    if record is not None:
        assert RecordHeader.decode(record.encode()) == record
        assert record.encode()[:6] == octets[:6]


def _check_damage(
    files: MemoryFiles, entry: MailboxEntry, place: Place, whole: bytes, at: int, change: int
) -> None:
    size = RECORD_HEADER_BYTES + len(whole)
    at, is_cut = place.offset + at % size, change == 0
    if is_cut:
        del files.octets[at:]
    else:
        files.octets[at] ^= change
    damaged_header = at < place.offset + RECORD_HEADER_BYTES + entry.header_size
    if whole:
        assert _read(files, entry, 0, len(whole)) is None
    if damaged_header and entry.header_size:
        assert _read(files, entry, 0, entry.header_size) is None


def _read(files: MemoryFiles, entry: MailboxEntry, start: int, length: int) -> bytes | None:
    """Read as the store does: from memory, else held; None: damaged."""
    reader = SegmentReader(Path("/nowhere"), files)
    wanted = Wanted(entry, start, length)
    try:
        octets = reader.read_now(wanted)
        if octets is None:
            reader.hold(wanted)
            octets = reader.checked(reader.read_held(wanted), wanted)
            reader.release(wanted)
    except Damaged:
        return None
    return octets


VECTORS = (
    vector(b"From: a\r\n\r\nbody", 0, 1),
    vector(b"From: a\r\n\r\nbody", 50, 255),
    vector(b"From: a\r\n\r\nbody", RECORD_HEADER_BYTES + 13, 1),  # in the body
    vector(b"From: a\r\n\r\n", 30, 0),
    vector(b"no header", 200, 3, b"\2"),
    vector(RecordHeader(7, 3, 4, 5, 6).encode()),
    vector(b""),
)
