"""Small messages are durable by the database's log alone; their segment has them for good later."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trio
from sqlalchemy import Connection, func, select

from chatmail.adapters.storage import journal
from chatmail.adapters.storage.errors import StoreFailed
from chatmail.adapters.storage.schema import unsynced
from chatmail.domain.model.account import Account
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.ports.mailstore import FlagOperation
from tests.unit.adapters.storage.conftest import Opener
from tests.unit.adapters.storage.faults import BROKEN, FaultyFiles
from tests.unit.ports.world import ListLog, Stores, sqlite_stores

SMALL = b"x" * 1000 + b"\r\n"
LARGE = b"y" * journal.MAX_BATCH_OCTETS + b"\r\n"


async def waiting(stores: Stores) -> int:
    """How many records wait for the sync of their segment."""

    def count(connection: Connection) -> int:
        return connection.execute(select(func.count()).select_from(unsynced)).scalar() or 0

    return int(await stores.mail._reader.query(count))


async def contents(stores: Stores, account: Account) -> dict[int, bytes]:
    mailbox = await stores.mail.open(account.id, "INBOX")
    assert mailbox is not None
    uids, count = mailbox.uids()
    entries = [mailbox.entry(uid) for uid in uids[:count]]
    found = {int(one.uid): await stores.mail.read(one, 0, one.size) for one in entries if one}
    mailbox.close()
    return found


def lose_unsynced(state_dir: Path, copy: Path, *, keep: int = 0) -> Path:
    """What a power cut leaves: the database's log was synced, the segments were not."""
    shutil.copytree(state_dir, copy)
    for path in (copy / "mail").glob("*.seg"):
        with path.open("r+b") as file:
            file.truncate(keep)
    return copy


async def test_a_small_message_waits_for_no_sync_of_its_segment(
    opener: Opener,
) -> None:
    files = FaultyFiles()
    async with opener(files=files) as stores:
        ann = await stores.account()
        await stores.deliver(ann.inbox)  # makes the segment
        files.calls.clear()
        await stores.deliver(ann.inbox, content=SMALL)
        assert "sync" not in files.calls
        assert await waiting(stores) == 2
        assert len(await contents(stores, ann)) == 2


@pytest.mark.parametrize("keep", [0, 500])
async def test_what_a_power_cut_took_from_a_segment_is_written_again(
    opener: Opener, tmp_path: Path, keep: int
) -> None:
    copy = tmp_path.with_name(tmp_path.name + "-copy")
    async with opener() as stores:
        ann = await stores.account()
        for number in range(5):
            await stores.deliver(ann.inbox, content=b"%d" % number + SMALL)
        promised = await contents(stores, ann)
        lose_unsynced(tmp_path, copy, keep=keep)
    log = ListLog()
    async with sqlite_stores(copy, None, log) as again:
        assert await contents(again, ann) == promised
        assert await waiting(again) == 0
    assert log.events == ["content_settled"]


async def test_a_segment_whose_file_is_gone_is_made_again(opener: Opener, tmp_path: Path) -> None:
    copy = tmp_path.with_name(tmp_path.name + "-copy")
    async with opener() as stores:
        ann = await stores.account()
        await stores.deliver(ann.inbox, content=SMALL)
        promised = await contents(stores, ann)
        lose_unsynced(tmp_path, copy)
    for path in (copy / "mail").glob("*.seg"):
        path.unlink()
    async with sqlite_stores(copy) as again:
        assert await contents(again, ann) == promised


async def test_what_was_deleted_does_not_come_back(opener: Opener, tmp_path: Path) -> None:
    copy = tmp_path.with_name(tmp_path.name + "-copy")
    async with opener() as stores:
        ann = await stores.account()
        await stores.deliver(ann.inbox, content=b"secret" + SMALL)
        receipts = await stores.deliver(ann.inbox, content=SMALL)
        assert receipts[0] is not None
        deleted = frozenset({"\\Deleted"})
        await stores.mail.set_flags(ann.inbox, [1], FlagOperation.ADD, deleted)
        await stores.mail.expunge(ann.inbox, None)
        promised = await contents(stores, ann)
        lose_unsynced(tmp_path, copy)
    async with sqlite_stores(copy) as again:
        assert await contents(again, ann) == promised
        assert await waiting(again) == 0
    assert all(b"secret" not in path.read_bytes() for path in (copy / "mail").glob("*.seg"))


async def test_a_large_message_is_synced_at_once_and_settles_the_small_ones(
    opener: Opener,
) -> None:
    files = FaultyFiles()
    async with opener(files=files) as stores:
        ann = await stores.account()
        await stores.deliver(ann.inbox, content=SMALL)
        assert await waiting(stores) == 1
        files.calls.clear()
        await stores.deliver(ann.inbox, content=LARGE)
        assert files.calls.count("sync") == 1
        assert await waiting(stores) == 0


async def test_only_so_much_waits(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MAX_OCTETS", 5000)
    async with opener() as stores:
        ann = await stores.account()
        seen = []
        for _ in range(12):
            await stores.deliver(ann.inbox, content=SMALL)
            seen.append(await waiting(stores))
    assert max(seen) <= 4
    assert seen.count(0) >= 2


async def test_a_segment_that_is_closed_is_synced(opener: Opener, tmp_path: Path) -> None:
    files = FaultyFiles()
    async with opener(files=files, segment_limit_bytes=1500) as stores:
        ann = await stores.account()
        for _ in range(4):
            await stores.deliver(ann.inbox, content=SMALL)
        assert files.calls.count("sync") >= 1
        promised = await contents(stores, ann)
    async with opener() as again:
        assert await contents(again, ann) == promised


async def test_a_sweep_and_the_end_leave_nothing_waiting(opener: Opener) -> None:
    async with opener() as stores:
        ann = await stores.account()
        await stores.deliver(ann.inbox, content=SMALL)
        await stores.store.sweep()
        await stores.store.sweep()  # the log is folded behind the first
        assert await waiting(stores) == 0
        await stores.deliver(ann.inbox, content=SMALL)
    log = ListLog()
    async with opener(log=log) as again:
        assert await waiting(again) == 0
        assert len(await contents(again, ann)) == 2
    assert log.events == []


async def test_a_sync_that_fails_later_ends_the_store_and_loses_nothing(
    opener: Opener,
) -> None:
    files = FaultyFiles()
    promised: dict[int, bytes] = {}
    ann: Account | None = None
    with pytest.RaisesGroup(pytest.RaisesExc(StoreFailed)):
        async with opener(files=files) as stores:
            ann = await stores.account()
            await stores.deliver(ann.inbox, content=SMALL)
            promised = await contents(stores, ann)
            files.fail["sync"] = BROKEN
            with pytest.raises(TransientFailure):
                await stores.deliver(ann.inbox, content=LARGE)
            await trio.sleep_forever()
    assert ann is not None
    async with opener() as again:
        assert await contents(again, ann) == promised
