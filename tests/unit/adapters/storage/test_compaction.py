"""Mostly dead segments give their space back; nobody who reads meanwhile notices."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio
from sqlalchemy import text

from chatmail.adapters.storage import compaction
from chatmail.adapters.storage.segments import Place
from chatmail.domain.model.mailbox import MailboxEntry
from chatmail.domain.ports.mailstore import FlagOperation
from tests.unit.adapters.storage.conftest import Opener
from tests.unit.adapters.storage.faults import BROKEN, FULL, FaultyFiles
from tests.unit.adapters.storage.invariants import check_index_equals_database
from tests.unit.ports.world import HEADER, Stores

DELETED = frozenset({"\\Deleted"})
SMALL = 20_000


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "PAUSE_S", 0.0)


def body(number: int, size: int = 2000) -> bytes:
    return b"message %04d\r\n" % number + b"x" * size


async def fill(stores: Stores, count: int = 20, keep: int = 5) -> list[MailboxEntry]:
    """Deliver messages into two segments, remove all but every `keep`-th; return the rest."""
    account = await stores.account()
    for number in range(count):
        await stores.deliver(account.inbox, content=body(number))
    doomed = [uid for uid in range(1, count + 1) if uid % keep]
    await stores.mail.set_flags(account.inbox, doomed, FlagOperation.ADD, DELETED)
    await stores.mail.expunge(account.inbox, None)
    return await entries(stores)


async def entries(stores: Stores) -> list[MailboxEntry]:
    account = await stores.account()
    mailbox = await stores.mail.open(account.id, "INBOX")
    uids, count = mailbox.uids()
    found = [mailbox.entry(uid) for uid in uids[:count]]
    mailbox.close()
    return found


async def check_contents(stores: Stores, left: list[MailboxEntry]) -> None:
    for entry in left:
        assert await stores.mail.read(entry, 0, entry.size) == HEADER + body(entry.uid - 1)


def disk_bytes(state_dir: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in (state_dir / "mail").iterdir())


def files_of(state_dir: Path) -> list[str]:
    return sorted(os.listdir(state_dir / "mail"))


async def test_a_mostly_dead_segment_is_emptied_and_removed(opener: Opener, tmp_path: Path) -> None:
    async with opener(segment_limit_bytes=SMALL) as stores:
        left = await fill(stores, 60, keep=10)
        before = disk_bytes(tmp_path)
        assert await stores.store.upkeep.vacuum() == 54
        assert "00000001.seg" not in files_of(tmp_path)
        assert disk_bytes(tmp_path) < before / 2
        await check_contents(stores, left)
        await check_index_equals_database(stores)
        assert await stores.store.upkeep.vacuum() == 0
    async with opener() as stores:
        assert stores.log.events == []
        await check_contents(stores, await entries(stores))
        await check_index_equals_database(stores)


async def test_what_lives_half_and_more_stays_where_it_is(opener: Opener, tmp_path: Path) -> None:
    async with opener(segment_limit_bytes=SMALL) as stores:
        account = await stores.account()
        for number in range(20):
            await stores.deliver(account.inbox, content=body(number))
        await stores.mail.set_flags(account.inbox, [1, 2, 3], FlagOperation.ADD, DELETED)
        await stores.mail.expunge(account.inbox, None)
        before = files_of(tmp_path)
        await stores.store.upkeep.vacuum()
        assert files_of(tmp_path) == before


async def test_the_segment_that_grows_is_left_alone(opener: Opener, tmp_path: Path) -> None:
    async with opener() as stores:
        left = await fill(stores)
        await stores.store.upkeep.vacuum()
        assert files_of(tmp_path) == ["00000001.seg"]
        await check_contents(stores, left)


async def test_a_segment_of_an_earlier_run_is_found_in_turn(opener: Opener, tmp_path: Path) -> None:
    async with opener() as stores:
        await fill(stores)
        await stores.store.sweep()
    async with opener() as stores:
        await stores.store.upkeep.vacuum()
        assert files_of(tmp_path) == ["00000002.seg"]
        await check_contents(stores, await entries(stores))


async def test_compacting_again_and_again_does_not_churn(opener: Opener, tmp_path: Path) -> None:
    async with opener() as stores:
        await fill(stores)
    for _ in range(2):
        async with opener() as stores:
            await stores.store.upkeep.vacuum()
            names = files_of(tmp_path)
    async with opener() as stores:
        await stores.store.upkeep.vacuum()
        assert files_of(tmp_path) == names


async def test_a_reader_in_the_middle_reads_on(
    opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = FaultyFiles()
    async with opener(segment_limit_bytes=SMALL, files=files) as stores:
        left = await fill(stores)
        content = stores.store.mail._content
        read_held = content.read_held
        waits, goes_on = trio.Event(), trio.Event()

        def slow(part: object) -> bytes:
            trio.from_thread.run_sync(waits.set)
            trio.from_thread.run(goes_on.wait)
            return read_held(part)

        monkeypatch.setattr(content, "read_held", slow)
        # A thread of its own: the reader's is needed by the compaction.
        reader = stores.store.mail._reader
        monkeypatch.setattr(reader, "_limiter", trio.CapacityLimiter(2))
        monkeypatch.setattr(reader, "query", own_thread(reader))
        files.fail["cold"] = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(check_contents, stores, left[:1])
            await waits.wait()
            await stores.store.upkeep.vacuum()
            assert "00000001.seg" not in files_of(tmp_path)
            goes_on.set()


def own_thread(reader):
    async def query(function):
        return await trio.to_thread.run_sync(reader._on_snapshot, function)

    return query


async def test_a_place_read_just_before_the_move_is_looked_up_again(opener: Opener) -> None:
    async with opener(segment_limit_bytes=SMALL) as stores:
        left = await fill(stores)
        old = [Place(one.blob.blob, one.blob.segment, one.blob.offset) for one in left]
        await stores.store.upkeep.vacuum()
        moved = [
            (entry, place)
            for entry, place in zip(left, old, strict=True)
            if entry.blob.segment != place.segment
        ]
        assert moved
        for entry, place in moved:
            entry.blob.segment, entry.blob.offset = place.segment, place.offset
        await check_contents(stores, left)
        await check_index_equals_database(stores)
        assert stores.log.events == []


async def test_a_message_removed_while_it_is_copied_leaves_no_copy(
    opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opener(segment_limit_bytes=SMALL) as stores:
        left = await fill(stores)
        account = await stores.account()
        doomed = left[0].uid
        copy = compaction.Compactor._copy

        def copy_and_remove(self, number, records):
            places = copy(self, number, records)
            trio.from_thread.run(remove)
            return places

        async def remove() -> None:
            await stores.mail.set_flags(account.inbox, [doomed], FlagOperation.ADD, DELETED)
            await stores.mail.expunge(account.inbox, [doomed])

        monkeypatch.setattr(compaction.Compactor, "_copy", copy_and_remove)
        del left[0]
        await stores.store.upkeep.vacuum()
        octets = b"".join(path.read_bytes() for path in (tmp_path / "mail").iterdir())
        assert b"message %04d" % (doomed - 1) not in octets
        await check_contents(stores, left)
        await check_index_equals_database(stores)
        rows = await stores.store.upkeep._reader.query(
            lambda connection: connection.execute(text("SELECT * FROM dead_blobs")).fetchall()
        )
        assert rows == []


async def test_a_dead_message_somebody_holds_can_still_be_read(
    opener: Opener, tmp_path: Path
) -> None:
    async with opener(segment_limit_bytes=SMALL) as stores:
        left = await fill(stores)
        account = await stores.account()
        held = left[0]
        await stores.mail.set_flags(account.inbox, [held.uid], FlagOperation.ADD, DELETED)
        await stores.mail.expunge(account.inbox, None)
        await stores.store.upkeep.vacuum()
        await check_contents(stores, [held])
        await check_contents(stores, left[1:])
        del held, left[0]
        await stores.store.upkeep.vacuum()
        assert "00000001.seg" not in files_of(tmp_path)


async def test_a_damaged_record_is_reported_and_stays_where_it_is(
    opener: Opener, tmp_path: Path
) -> None:
    async with opener(segment_limit_bytes=SMALL) as stores:
        left = await fill(stores)
        path = tmp_path / "mail" / "00000001.seg"
        raw = bytearray(path.read_bytes())
        raw[left[0].blob.offset + 500] ^= 1
        path.write_bytes(raw)
        await stores.store.upkeep.vacuum()
        assert stores.log.events == ["content_damaged"]
        assert path.exists()
        await check_contents(stores, left[1:])
        await stores.store.upkeep.vacuum()
        assert stores.log.events == ["content_damaged"]


@pytest.mark.parametrize(("operation", "code"), [("create", FULL), ("write_at", FULL)])
async def test_a_full_disk_only_postpones(
    opener: Opener, tmp_path: Path, operation: str, code: int
) -> None:
    files = FaultyFiles()
    async with opener(segment_limit_bytes=SMALL, files=files) as stores:
        left = await fill(stores)
        await stores.store.sweep()
        files.fail[operation] = code
        await stores.store.upkeep.vacuum()
        files.fail.clear()
        await check_contents(stores, left)
        assert stores.store.failed is None
        await stores.store.upkeep.vacuum()
        assert "00000001.seg" not in files_of(tmp_path)
        await check_contents(stores, left)


async def test_a_failed_sync_of_a_copy_moves_nothing(opener: Opener, tmp_path: Path) -> None:
    files = FaultyFiles()
    async with opener(segment_limit_bytes=SMALL, files=files) as stores:
        left = await fill(stores)
        await stores.store.sweep()
        files.fail["sync"] = BROKEN
        await stores.store.upkeep.vacuum()
        files.fail.clear()
        assert stores.log.events == ["compaction_failed"]
        assert {one.blob.segment for one in left} <= {1, 2}
        await stores.store.upkeep.vacuum()
        await check_contents(stores, left)


async def test_a_cancelled_compaction_leaves_everything_readable(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "PIECE_BYTES", 1)
    async with opener(segment_limit_bytes=SMALL) as stores:
        left = await fill(stores)
        for _ in range(3):
            with trio.CancelScope() as scope:
                sleep = trio.sleep

                async def stop(seconds: float, scope=scope, sleep=sleep) -> None:
                    scope.cancel()
                    await sleep(seconds)

                monkeypatch.setattr(compaction.trio, "sleep", stop)
                await stores.store.upkeep.vacuum()
            monkeypatch.undo()
            monkeypatch.setattr(compaction, "PIECE_BYTES", 1)
            await check_contents(stores, left)
            await check_index_equals_database(stores)
        await stores.store.upkeep.vacuum()
        await check_contents(stores, left)
