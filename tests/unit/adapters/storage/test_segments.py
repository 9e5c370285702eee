"""Records and the log they lie in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chatmail.adapters.storage.files import Files, _behind
from chatmail.adapters.storage.segment_reader import SegmentReader, Wanted
from chatmail.adapters.storage.segments import (
    RECORD_HEADER_BYTES,
    Place,
    RecordHeader,
    SegmentLog,
    crc_of,
    segment_numbers,
    segment_path,
)
from chatmail.domain.model.mailbox import MailboxEntry
from chatmail.domain.model.message import Body

BODY = Body(b"A: b\r\n\r\n", (b"hello ", memoryview(b"world\r\n")), 13)


def entry_of(place: Place, body: Body) -> MailboxEntry:
    return MailboxEntry(1, 1, frozenset(), body.size, len(body.header), 0, place)


def test_a_record_header_survives_the_round_trip() -> None:
    header = RecordHeader(2**40, 70_000, 2**33, 1, 2**32 - 1)
    assert len(header.encode()) == RECORD_HEADER_BYTES
    assert RecordHeader.decode(header.encode()) == header


@pytest.mark.parametrize("place", range(RECORD_HEADER_BYTES))
def test_a_changed_octet_anywhere_in_a_record_header_is_noticed(place: int) -> None:
    octets = bytearray(RecordHeader(1, 2, 3, 4, 5).encode())
    octets[place] ^= 1
    assert RecordHeader.decode(octets) is None


def test_a_short_record_header_is_none() -> None:
    assert RecordHeader.decode(b"CMsg") is None


def test_records_lie_one_behind_the_other(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path, Files(), 7)
    first, second = log.append([(1, BODY), (2, BODY)])
    (third,) = log.append([(3, BODY)])
    length = RECORD_HEADER_BYTES + BODY.size
    assert [first.offset, second.offset, third.offset] == [0, length, 2 * length]
    assert {first.segment, second.segment, third.segment} == {7}
    raw = segment_path(tmp_path, 7).read_bytes()
    header = RecordHeader.decode(raw[length:])
    assert header == RecordHeader(2, 8, 13, crc_of([BODY.header]), crc_of(BODY.chunks))
    log.close()


def test_a_full_segment_is_closed_and_the_next_one_begun(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path, Files(), 1, limit_bytes=10)
    places = [log.append([(number, BODY)])[0] for number in range(3)]
    assert [place.segment for place in places] == [1, 2, 3]
    assert log.closed == {1, 2}
    assert segment_numbers(tmp_path) == [1, 2, 3]
    log.close()


def test_files_are_for_the_owner_only(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path, Files(), 1)
    log.append([(1, BODY)])
    assert segment_path(tmp_path, 1).stat().st_mode & 0o777 == 0o600
    log.close()


def test_undo_cuts_the_last_append(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path, Files(), 1)
    log.append([(1, BODY)])
    log.append([(2, BODY), (3, BODY)])
    log.undo()
    (place,) = log.append([(4, BODY)])
    assert place.offset == RECORD_HEADER_BYTES + BODY.size
    log.close()


def test_short_writes_go_on_where_they_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwritev
    monkeypatch.setattr(
        os, "pwritev", lambda fd, pieces, offset: real(fd, [b"".join(pieces)[:5]], offset)
    )
    files = Files()
    fd = files.create(tmp_path / "file")
    pieces = [b"%d-" % number for number in range(1500)]
    assert files.write_at(fd, pieces, 0) == len(b"".join(pieces))
    assert (tmp_path / "file").read_bytes() == b"".join(pieces)
    files.close(fd)


def test_what_a_short_write_leaves() -> None:
    assert _behind([b"abc", b"de"], 5) == []
    assert [bytes(piece) for piece in _behind([b"abc", b"de"], 4)] == [b"e"]
    assert [bytes(piece) for piece in _behind([b"abc", b"de"], 1)] == [b"bc", b"de"]


def test_open_segments_are_bounded_and_a_held_one_stays_open(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path, Files(), 1, limit_bytes=1)
    places = [log.append([(number, BODY)])[0] for number in range(5)]
    reader = SegmentReader(tmp_path, Files(), max_open=2)
    held = Wanted(entry_of(places[0], BODY), 0, 99)
    reader.hold(held)
    for place in places[1:]:
        assert reader.read_now(Wanted(entry_of(place, BODY), 0, 99)) is not None
    assert len(reader) == 2
    assert reader.checked(reader.read_held(held), held).endswith(b"hello world\r\n")
    reader.release(held)
    reader.forget(places[4].segment)
    assert len(reader) == 1
    reader.close()
    log.close()
