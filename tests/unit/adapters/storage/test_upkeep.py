"""Erasing, forgetting, recounting."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from sqlalchemy import text

from chatmail.adapters.storage.files import Files, Octets
from chatmail.adapters.storage.upkeep import EXPUNGED_KEPT_S
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.ports.intake import Delivery, IntakeBatch
from chatmail.domain.ports.mailstore import FlagOperation
from tests.patience import PATIENCE_S
from tests.unit.adapters.storage.conftest import Opener
from tests.unit.adapters.storage.faults import BROKEN, FaultyFiles
from tests.unit.adapters.storage.invariants import check_index_equals_database
from tests.unit.ports.world import HEADER, NOW_S, Stores

DELETED = frozenset({"\\Deleted"})


async def remove(stores: Stores, mailbox: int, *uids: int) -> None:
    await stores.mail.set_flags(mailbox, uids, FlagOperation.ADD, DELETED)
    await stores.mail.expunge(mailbox, uids)


def on_disk(state_dir: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted((state_dir / "mail").iterdir()))


async def test_the_last_reference_makes_a_record_dead_and_a_sweep_erases_it(
    opener: Opener, tmp_path: Path
) -> None:
    async with opener() as stores:
        ann, bob = await stores.account("ann"), await stores.account("bob")
        await stores.deliver(ann.inbox, bob.inbox, content=b"secret text\r\n")
        await stores.deliver(ann.inbox, content=b"other text\r\n")
        await remove(stores, ann.inbox, 1)
        assert await stores.store.sweep() == 0
        assert b"secret text" in on_disk(tmp_path)
        await remove(stores, bob.inbox, 1)
        assert await stores.store.sweep() == 1
        assert b"secret text" not in on_disk(tmp_path)
        assert HEADER in on_disk(tmp_path)
        opened = await stores.mail.open(ann.id, "INBOX")
        entry = opened.entry(2)
        assert (await stores.mail.read(entry, 0, entry.size)).endswith(b"other text\r\n")
        assert await stores.store.sweep() == 0


async def test_content_somebody_still_holds_is_not_erased(opener: Opener) -> None:
    async with opener() as stores:
        account = await stores.account()
        await stores.deliver(account.inbox)
        opened = await stores.mail.open(account.id, "INBOX")
        entry = opened.entry(1)
        await remove(stores, account.inbox, 1)
        assert await stores.store.sweep() == 0
        assert (await stores.mail.read(entry, 0, entry.size)).endswith(b"hello\r\n")
        del entry
        assert await stores.store.sweep() == 1


async def test_segments_without_living_records_go_away(opener: Opener, tmp_path: Path) -> None:
    async with opener(segment_limit_bytes=1) as stores:
        account = await stores.account()
        for _ in range(3):
            await stores.deliver(account.inbox)
        await remove(stores, account.inbox, 1, 3)
        await stores.store.sweep()
        numbers = [path.name for path in sorted((tmp_path / "mail").iterdir())]
        assert numbers == ["00000002.seg", "00000003.seg"]  # the last one still grows
        await stores.deliver(account.inbox)
        await stores.store.sweep()
        numbers = [path.name for path in sorted((tmp_path / "mail").iterdir())]
        assert numbers == ["00000002.seg", "00000004.seg"]
        await check_index_equals_database(stores)


async def test_a_spooled_message_goes_away_as_a_file(opener: Opener, tmp_path: Path) -> None:
    async with opener() as stores:
        account = await stores.account()
        async with stores.blobs.spool() as spool:
            await spool.write(b"y" * 1000)
            body = await spool.seal(HEADER)
            deliveries = (Delivery(account.inbox),)
            batch = IntakeBatch(body=body, internal_date_s=NOW_S, deliveries=deliveries)
            await stores.intake.commit(batch)
        del spool, body, batch
        await remove(stores, account.inbox, 1)
        await stores.store.sweep()
        assert list((tmp_path / "mail").iterdir()) == []


async def test_deleting_an_account_makes_its_content_dead(opener: Opener, tmp_path: Path) -> None:
    async with opener() as stores:
        account = await stores.account()
        for _ in range(3):
            await stores.deliver(account.inbox, content=b"secret text\r\n")
        await stores.accounts.delete(account.id, None)
        assert await stores.store.sweep() == 3
        assert b"secret text" not in on_disk(tmp_path)


async def test_content_of_a_message_that_found_no_mailbox_is_dead(
    opener: Opener, tmp_path: Path
) -> None:
    async with opener() as stores:
        account = await stores.account()
        other = await stores.mail.create(account.id, "Other", None, NOW_S)
        await stores.mail.delete(account.id, "Other")
        await stores.deliver(other.id, content=b"secret text\r\n")
        assert await stores.store.sweep() == 1
        assert b"secret text" not in on_disk(tmp_path)


async def test_segments_this_database_never_knew_are_told_of_and_stay(
    opener: Opener, tmp_path: Path
) -> None:
    async with opener() as stores:
        account = await stores.account()
        await stores.deliver(account.inbox)
    (tmp_path / "mail" / "00000007.seg").write_bytes(b"")
    (tmp_path / "mail" / "00000009.seg").write_bytes(b"somebody's mail")
    (tmp_path / "mail" / "11.seg").write_bytes(b"no name of ours")
    for _ in range(2):
        async with opener() as stores:
            assert stores.log.events == ["segments_unknown"]
            await stores.store.sweep()
    assert sorted(os.listdir(tmp_path / "mail")) == ["00000001.seg", "00000009.seg", "11.seg"]


async def test_segments_that_lost_their_rows_in_an_earlier_run_are_removed(
    opener: Opener, tmp_path: Path
) -> None:
    async with opener() as stores:
        account = await stores.account()
        await stores.deliver(account.inbox)
        await remove(stores, account.inbox, 1)
        await stores.store.sweep()
        assert os.listdir(tmp_path / "mail") == ["00000001.seg"]  # it could have grown
    async with opener() as stores:
        assert stores.log.events == []
        await stores.store.sweep()
        assert os.listdir(tmp_path / "mail") == []
    async with opener() as stores:
        assert stores.log.events == []
        await stores.deliver(account.inbox)


async def test_a_crash_between_removing_a_segment_and_forgetting_it_is_harmless(
    opener: Opener, tmp_path: Path
) -> None:
    async with opener() as stores:
        account = await stores.account()
        await stores.deliver(account.inbox)
        await remove(stores, account.inbox, 1)
        await stores.store.sweep()
    (tmp_path / "mail" / "00000001.seg").unlink()
    async with opener() as stores:
        assert stores.log.events == []
        await stores.deliver(account.inbox)
        await stores.store.sweep()
    assert os.listdir(tmp_path / "mail") == ["00000002.seg"]


@pytest.mark.parametrize("what", ["lost", "put back"])
async def test_segments_of_another_database_are_never_swept_away(
    opener: Opener, tmp_path: Path, what: str
) -> None:
    async with opener() as stores:
        account = await stores.account()
        await stores.deliver(account.inbox)
    old = (tmp_path / "chatmail.db").read_bytes()
    async with opener() as stores:
        await stores.deliver(account.inbox, content=b"acknowledged mail\r\n")
    if what == "lost":
        (tmp_path / "chatmail.db").unlink()
    else:
        (tmp_path / "chatmail.db").write_bytes(old)
    for _ in range(3):
        async with opener() as stores:
            assert stores.log.events == ["segments_unknown"]
            account = await stores.account()
            await stores.deliver(account.inbox)
            await stores.mail.set_flags(account.inbox, [1, 2, 3], FlagOperation.ADD, DELETED)
            await stores.mail.expunge(account.inbox, None)
            await stores.store.sweep()
            assert b"acknowledged mail" in on_disk(tmp_path)


async def test_a_failed_erase_is_tried_again(opener: Opener, tmp_path: Path) -> None:
    files = FaultyFiles()
    async with opener(files=files) as stores:
        account = await stores.account()
        await stores.deliver(account.inbox, content=b"secret text\r\n")
        await stores.deliver(account.inbox)
        await remove(stores, account.inbox, 1)
        files.fail["sync"] = BROKEN
        with pytest.raises(TransientFailure):
            await stores.store.sweep()
        files.fail.clear()
        assert stores.store.failed is None
        assert await stores.store.sweep() == 1
        assert b"secret text" not in on_disk(tmp_path)


async def test_old_expunges_are_forgotten_and_every_gap_is_told(opener: Opener) -> None:
    async with opener() as stores:
        account = await stores.account()
        for _ in range(4):
            await stores.deliver(account.inbox)
        await remove(stores, account.inbox, 2)
        stores.clock.time_s += EXPUNGED_KEPT_S + 1
        await remove(stores, account.inbox, 3)
        await stores.store.sweep()
    async with opener() as stores:
        account = await stores.account()
        opened = await stores.mail.open(account.id, "INBOX")
        modseq = opened.info().highest_modseq
        changes = await opened.changes_since(modseq - 1, opened.info().uid_next)
        assert list(changes.expunged) == [3]
        changes = await opened.changes_since(1, opened.info().uid_next)
        assert list(changes.expunged) == [2, 3]
        rows = await stores.store.upkeep._reader.query(
            lambda connection: connection.execute(text("SELECT uid FROM expunged")).fetchall()
        )
        assert [row.uid for row in rows] == [3]


async def test_expired_tombstones_are_forgotten(opener: Opener) -> None:
    async with opener() as stores:
        account = await stores.account()
        await stores.accounts.delete(account.id, NOW_S + 10)
        stores.clock.time_s = NOW_S + 20
        await stores.store.sweep()
        assert await stores.accounts.tombstone(account.address, NOW_S) is None


async def test_recount_puts_the_rows_truth_in_place(opener: Opener) -> None:
    async with opener() as stores:
        ann, bob = await stores.account("ann"), await stores.account("bob")
        await stores.deliver(ann.inbox, bob.inbox, flags=frozenset({"\\Seen", "\\Deleted"}))
        assert await stores.store.recount() == 0
        connection = stores.store._writer._committer._database.writer
        connection.exec_driver_sql(
            f"UPDATE mailboxes SET octets = 7, unseen = 9, messages = 3 WHERE id = {ann.inbox}"
        )
        stores.store.index.drop_record(ann.id)
        assert await stores.mail.usage(ann.id) == 7
        assert await stores.store.recount() == 1
        info = await stores.mail.info(ann.id, "INBOX")
        assert (info.messages, info.unseen, info.deleted) == (1, 0, 1)
        assert await stores.mail.usage(ann.id) == await stores.mail.usage(bob.id)
        assert "counters_corrected" in stores.log.events
        await check_index_equals_database(stores)


async def test_a_stop_does_not_wait_for_zeros(opener: Opener) -> None:
    goes_on = threading.Event()

    class Slow(Files):
        is_slow = False

        def write_at(self, fd: int, pieces: Sequence[Octets], offset: int) -> int:
            if self.is_slow:
                goes_on.wait(PATIENCE_S)
            return super().write_at(fd, pieces, offset)

    files = Slow()
    async with opener(files=files) as stores:
        account = await stores.account()
        await stores.deliver(account.inbox)
        await stores.deliver(account.inbox)
        await remove(stores, account.inbox, 1)
        files.is_slow = True
        began = trio.current_time()
        with trio.move_on_after(0.1) as scope:
            await stores.store.sweep()
        assert scope.cancelled_caught
        assert trio.current_time() - began < PATIENCE_S / 2
        goes_on.set()
        files.is_slow = False
        assert await stores.store.sweep() == 1
