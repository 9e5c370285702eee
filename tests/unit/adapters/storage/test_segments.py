"""Records, the log, spools, and reading them back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from chatmail.adapters.storage.errors import StoreFailed
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
from chatmail.adapters.storage.spool import RESERVED_BYTES
from chatmail.domain.model.errors import (
    LocalProtocolError,
    PermanentFailure,
    TransientFailure,
)
from chatmail.domain.model.mailbox import MailboxEntry
from chatmail.domain.model.message import Body
from chatmail.domain.ports.intake import Delivery, IntakeBatch
from tests.unit.adapters.storage.conftest import Opener
from tests.unit.adapters.storage.faults import (
    BROKEN,
    FULL,
    FaultyDatabase,
    FaultyFiles,
    sqlite_error,
)
from tests.unit.ports.world import HEADER, NOW_S, Stores

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


async def one_message(stores: Stores, content: bytes = b"hello\r\n") -> MailboxEntry:
    account = await stores.account()
    await stores.deliver(account.inbox, content=content)
    opened = await stores.mail.open(account.id, "INBOX")
    assert opened is not None
    entry = opened.entry(opened.info().uid_next - 1)
    assert entry is not None
    return entry


def flip(tmp_path: Path, offset: int) -> None:
    path = next((tmp_path / "mail").iterdir())
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 4
    path.write_bytes(raw)


@pytest.mark.parametrize(
    "offset",
    [
        pytest.param(0, id="magic"),
        pytest.param(9, id="blob id"),
        pytest.param(RECORD_HEADER_BYTES + 3, id="header block"),
        pytest.param(RECORD_HEADER_BYTES + len(HEADER) + 2, id="body"),
    ],
)
async def test_a_flipped_bit_is_never_served(opener: Opener, tmp_path: Path, offset: int) -> None:
    async with opener() as stores:
        entry = await one_message(stores)
        flip(tmp_path, offset)
        with pytest.raises(TransientFailure):
            await stores.mail.read(entry, 0, entry.size)
        assert stores.log.events == ["content_damaged"]
        flip(tmp_path, offset)
        assert await stores.mail.read(entry, 0, entry.size) == HEADER + b"hello\r\n"


async def test_a_damaged_header_block_is_not_served_alone(opener: Opener, tmp_path: Path) -> None:
    async with opener() as stores:
        entry = await one_message(stores)
        flip(tmp_path, RECORD_HEADER_BYTES + 3)
        with pytest.raises(TransientFailure):
            await stores.mail.read(entry, 0, entry.header_size)


async def test_resident_content_takes_no_thread(opener: Opener) -> None:
    files = FaultyFiles()
    async with opener(files=files) as stores:
        entry = await one_message(stores)
        await stores.mail.read(entry, 0, entry.size)
        assert "read" not in files.calls


async def test_cold_content_is_read_in_one_hop(opener: Opener) -> None:
    files = FaultyFiles()
    async with opener(files=files) as stores:
        entry = await one_message(stores, b"x" * 100_000)
        files.fail["cold"] = 0
        wanted = [(entry, 0, entry.header_size), (entry, 0, entry.size)]
        parts = await stores.mail.read_many(wanted)
        assert parts == [HEADER, HEADER + b"x" * 100_000]
        assert files.calls.count("read") == 2


def flip_octet(state_dir: Path, octet: bytes) -> None:
    """Change one octet in the middle of the only segment."""
    (path,) = (state_dir / "mail").iterdir()
    raw = bytearray(path.read_bytes())
    raw[raw.rindex(octet)] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("size", [10, 100_000, 2_500_000])
async def test_a_flipped_bit_is_noticed_before_the_first_piece_is_shown(
    opener: Opener, tmp_path: Path, size: int
) -> None:
    async with opener() as stores:
        entry = await one_message(stores, b"x" * size + b"!")
        flip_octet(tmp_path, b"!")
        for start, length in [(0, 40), (5, 3), (entry.header_size, 5), (entry.size - 1, 1)]:
            with pytest.raises(TransientFailure):
                await stores.mail.read(entry, start, length)
        assert set(stores.log.events) == {"content_damaged"}
        assert await stores.mail.read(entry, 0, entry.header_size) == HEADER


async def test_a_record_is_proven_once_for_all_its_pieces(opener: Opener) -> None:
    files = FaultyFiles()
    async with opener(files=files) as stores:
        entry = await one_message(stores, b"x" * 100_000)
        for start in range(0, entry.size, 30_000):
            piece = await stores.mail.read(entry, start, 30_000)
            assert piece == (HEADER + b"x" * 100_000)[start : start + 30_000]
        assert files.calls.count("read") == 2  # header, body; the pieces came from memory


async def test_what_was_read_whole_needs_no_other_proof(opener: Opener) -> None:
    files = FaultyFiles()
    async with opener(files=files) as stores:
        entry = await one_message(stores, b"x" * 1000)
        await stores.mail.read(entry, 0, entry.size)
        await stores.mail.read(entry, 100, 10)
        assert "read" not in files.calls


async def test_a_message_without_a_body_can_be_proven(opener: Opener) -> None:
    async with opener() as stores:
        entry = await one_message(stores, b"")
        assert await stores.mail.read(entry, 1, 5) == HEADER[1:6]


@pytest.mark.parametrize("operation", ["read", "missing"])
async def test_an_unreadable_segment_is_a_transient_failure(
    opener: Opener, tmp_path: Path, operation: str
) -> None:
    files = FaultyFiles()
    async with opener(files=files) as stores:
        entry = await one_message(stores)
        files.fail["cold"] = 0
        files.fail["read"] = BROKEN
        if operation == "missing":
            next((tmp_path / "mail").iterdir()).unlink()
        with pytest.raises(TransientFailure):
            await stores.mail.read(entry, 0, entry.size)
        assert stores.log.events == ["content_unreadable"]


async def test_a_segment_cut_short_is_damaged(opener: Opener, tmp_path: Path) -> None:
    async with opener() as stores:
        entry = await one_message(stores)
        os.truncate(next((tmp_path / "mail").iterdir()), 60)
        with pytest.raises(TransientFailure):
            await stores.mail.read(entry, entry.size - 5, 5)


async def test_a_sealed_spool_is_one_contiguous_record(opener: Opener, tmp_path: Path) -> None:
    async with opener() as stores:
        account = await stores.account()
        async with stores.blobs.spool() as spool:
            await spool.write(b"y" * 200_000)
            body = await spool.seal(HEADER)
            batch = IntakeBatch(
                body=body, internal_date_s=NOW_S, deliveries=(Delivery(account.inbox),)
            )
            await stores.intake.commit(batch)
            assert list((tmp_path / "spool").iterdir()) == []
        (path,) = (tmp_path / "mail").iterdir()
        raw = path.read_bytes()
        start = RESERVED_BYTES - len(HEADER) - RECORD_HEADER_BYTES
        assert raw[start + RECORD_HEADER_BYTES :] == HEADER + b"y" * 200_000
        header = RecordHeader.decode(raw[start:])
        assert header is not None
        assert header.body_crc == crc_of([b"y" * 200_000])
        assert path.stat().st_mode & 0o777 == 0o600


async def test_leaving_a_spool_removes_what_was_not_committed(
    opener: Opener, tmp_path: Path
) -> None:
    async with opener() as stores:
        async with stores.blobs.spool() as spool:
            await spool.write(b"y" * 1000)
            assert len(list((tmp_path / "spool").iterdir())) == 1
            await spool.seal(HEADER)
        with trio.CancelScope() as scope:
            async with stores.blobs.spool() as spool:
                scope.cancel()
                await spool.write(b"y" * 1000)
        assert list((tmp_path / "spool").iterdir()) == []
        assert list((tmp_path / "mail").iterdir()) == []


async def test_a_spool_whose_commit_failed_leaves_nothing(opener: Opener, tmp_path: Path) -> None:
    files = FaultyFiles()
    async with opener(files=files) as stores:
        account = await stores.account()
        async with stores.blobs.spool() as spool:
            await spool.write(b"y" * 1000)
            body = await spool.seal(HEADER)
            batch = IntakeBatch(
                body=body, internal_date_s=NOW_S, deliveries=(Delivery(account.inbox),)
            )
            files.fail["rename"] = FULL
            with pytest.raises(TransientFailure):
                await stores.intake.commit(batch)
            files.fail.clear()
            await stores.intake.commit(batch)
            with pytest.raises(LocalProtocolError):
                await stores.intake.commit(batch)
        assert (await stores.mail.info(account.id, "INBOX")).messages == 1


async def test_a_spool_of_mailboxes_that_are_gone_leaves_nothing(
    opener: Opener, tmp_path: Path
) -> None:
    async with opener() as stores:
        account = await stores.account()
        other = await stores.mail.create(account.id, "Other", None, NOW_S)
        await stores.mail.delete(account.id, "Other")
        async with stores.blobs.spool() as spool:
            await spool.write(b"y" * 1000)
            body = await spool.seal(HEADER)
            batch = IntakeBatch(body=body, internal_date_s=NOW_S, deliveries=(Delivery(other.id),))
            assert await stores.intake.commit(batch) == (None,)
        assert list((tmp_path / "mail").iterdir()) == []
        await stores.store.sweep()


async def test_a_full_disk_while_spooling_is_a_transient_failure(opener: Opener) -> None:
    files = FaultyFiles()
    async with opener(files=files) as stores, stores.blobs.spool() as spool:
        files.fail["write_at"] = FULL
        with pytest.raises(TransientFailure):
            await spool.write(b"y" * 1000)
        with pytest.raises(TransientFailure):
            await spool.seal(HEADER)
        assert stores.store.failed is None


async def test_a_header_block_beyond_its_room_is_refused(opener: Opener) -> None:
    async with opener() as stores, stores.blobs.spool() as spool:
        with pytest.raises(PermanentFailure):
            await spool.seal(b"x" * RESERVED_BYTES)


async def test_an_unsealed_spool_cannot_be_committed(opener: Opener) -> None:
    async with opener() as stores, stores.blobs.spool() as spool:
        account = await stores.account()
        body = Body(HEADER, (), 0, spooled=spool)
        batch = IntakeBatch(body=body, internal_date_s=NOW_S, deliveries=(Delivery(account.inbox),))
        with pytest.raises(LocalProtocolError):
            await stores.intake.commit(batch)
        await stores.deliver(account.inbox)


async def test_a_spool_whose_commit_is_in_doubt_keeps_its_octets(
    opener: Opener, tmp_path: Path
) -> None:
    class Doubtful(FaultyDatabase):
        def commit(self) -> None:
            error, self.commit_error = self.commit_error, None
            super().commit()
            if error is not None:
                raise error  # the rows are durable, and nobody was told

    with pytest.RaisesGroup(StoreFailed):
        async with opener(new_database=Doubtful) as stores:
            account = await stores.account()
            async with stores.blobs.spool() as spool:
                await spool.write(b"y" * 1000)
                body = await spool.seal(HEADER)
                stores.store._writer._committer._database.commit_error = sqlite_error(10)
                with pytest.raises(TransientFailure):
                    await stores.intake.commit(
                        IntakeBatch(
                            body=body, internal_date_s=NOW_S, deliveries=(Delivery(account.inbox),)
                        )
                    )
    async with opener() as stores:
        assert "content_missing" not in stores.log.events
        opened = await stores.mail.open(account.id, "INBOX")
        entry = opened.entry(1)
        assert await stores.mail.read(entry, 0, entry.size) == HEADER + b"y" * 1000


async def test_a_spool_adopted_for_a_batch_that_failed_leaves_nothing(
    opener: Opener, tmp_path: Path
) -> None:
    async with opener(new_database=FaultyDatabase) as stores:
        account = await stores.account()
        database = stores.store._writer._committer._database
        async with stores.blobs.spool() as spool:
            await spool.write(b"y" * 1000)
            body = await spool.seal(HEADER)
            batch = IntakeBatch(
                body=body, internal_date_s=NOW_S, deliveries=(Delivery(account.inbox),)
            )
            database.commit_error = sqlite_error(13)
            with pytest.raises(TransientFailure):
                await stores.intake.commit(batch)
        assert list((tmp_path / "mail").iterdir()) == []
