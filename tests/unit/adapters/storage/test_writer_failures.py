"""Group commit: what follows from each kind of failure."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
from pathlib import Path

import pytest
import trio

from chatmail.adapters.storage.errors import StoreFailed
from chatmail.adapters.storage.files import Files
from chatmail.adapters.storage.transaction import Transaction
from chatmail.adapters.storage.writer import Job
from chatmail.domain.model.errors import Overloaded, TransientFailure
from chatmail.domain.ports.mailstore import FlagOperation
from tests.unit.adapters.storage.conftest import Opener
from tests.unit.adapters.storage.faults import (
    BROKEN,
    FULL,
    FaultyDatabase,
    FaultyFiles,
    sqlite_error,
)
from tests.unit.adapters.storage.invariants import check_index_equals_database
from tests.unit.adapters.storage.writing import batch_of, stored
from tests.unit.ports.world import NOW_S, Stores


async def test_a_full_disk_refuses_and_heals(opener: Opener, tmp_path: Path) -> None:
    files = FaultyFiles()
    async with opener(files=files) as stores:
        account = await stores.account()
        await stores.deliver(account.inbox)
        (segment,) = (tmp_path / "mail").iterdir()
        size = segment.stat().st_size
        files.fail["write_at"] = FULL
        with pytest.raises(Overloaded):
            await stores.deliver(account.inbox)
        assert segment.stat().st_size == size
        await stores.mail.set_flags(account.inbox, [1], FlagOperation.ADD, frozenset({"\\Seen"}))
        assert stores.store.failed is None
        files.fail.clear()
        (receipt,) = await stores.deliver(account.inbox)
        assert receipt.uid == 2
        opened = await stores.mail.open(account.id, "INBOX")
        entry = opened.entry(2)
        assert (await stores.mail.read(entry, 0, entry.size)).endswith(b"hello\r\n")


async def test_a_full_disk_at_a_new_segment_heals(opener: Opener) -> None:
    files = FaultyFiles()
    async with opener(files=files, segment_limit_bytes=10) as stores:
        account = await stores.account()
        await stores.deliver(account.inbox)
        files.fail["create"] = FULL
        with pytest.raises(Overloaded):
            await stores.deliver(account.inbox)
        files.fail.clear()
        await stores.deliver(account.inbox)
        assert await stored(stores) == 2


async def test_a_full_database_refuses_and_heals(opener: Opener, tmp_path: Path) -> None:
    async with opener(new_database=FaultyDatabase) as stores:
        account = await stores.account()
        await stores.deliver(account.inbox)
        (segment,) = (tmp_path / "mail").iterdir()
        size = segment.stat().st_size
        database = stores.store._writer._committer._database
        database.commit_error = sqlite_error(sqlite3.SQLITE_FULL)
        with pytest.raises(Overloaded):
            await stores.deliver(account.inbox)
        with pytest.raises(TransientFailure):
            await stores.mail.create(account.id, "Other", None, NOW_S)
        assert segment.stat().st_size == size
        database.commit_error = None
        await stores.deliver(account.inbox)
        assert await stored(stores) == 2
        await check_index_equals_database(stores)


async def test_a_locked_database_is_a_passing_trouble(opener: Opener) -> None:
    async with opener(new_database=FaultyDatabase) as stores:
        account = await stores.account()
        database = stores.store._writer._committer._database
        database.begin_error = sqlite_error(sqlite3.SQLITE_BUSY)
        with pytest.raises(TransientFailure):
            await stores.deliver(account.inbox)
        database.begin_error = None
        await stores.deliver(account.inbox)
        assert await stored(stores) == 1


async def fails_for_good(opener: Opener, break_it, **options: object) -> None:
    """After the break nothing is acknowledged, `run` raises, and the rest is still there."""
    with pytest.RaisesGroup(StoreFailed, flatten_subgroups=True):
        async with opener(**options) as stores:
            account = await stores.account()
            await stores.deliver(account.inbox)
            break_it(stores)
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as nursery:
                    for _ in range(3):
                        nursery.start_soon(expect_failure, stores, account.inbox)
                with pytest.raises(TransientFailure):
                    await stores.deliver(account.inbox)
            assert stores.store.failed is not None
            await trio.sleep_forever()
    async with opener() as stores:
        assert await stored(stores) == 1
        await stores.deliver((await stores.account()).inbox)


async def expect_failure(stores: Stores, inbox) -> None:
    with pytest.raises(TransientFailure):
        await stores.deliver(inbox)


@pytest.mark.parametrize("code", [BROKEN, FULL])
async def test_a_failed_sync_ends_the_store(opener: Opener, code: int) -> None:
    files = FaultyFiles()

    def break_it(_: Stores) -> None:
        files.fail["sync"] = code

    await fails_for_good(opener, break_it, files=files, journal_batch_octets=0)


async def test_a_failed_write_ends_the_store(opener: Opener) -> None:
    files = FaultyFiles()

    def break_it(_: Stores) -> None:
        files.fail["write_at"] = BROKEN

    await fails_for_good(opener, break_it, files=files)


@pytest.mark.parametrize(
    "code", [sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_READONLY]
)
async def test_a_failed_commit_ends_the_store(opener: Opener, code: int) -> None:
    def break_it(stores: Stores) -> None:
        database = stores.store._writer._committer._database
        database.commit_error = sqlite_error(code)

    await fails_for_good(opener, break_it, new_database=FaultyDatabase)


async def test_a_tail_that_cannot_be_cut_ends_the_store(opener: Opener) -> None:
    files = FaultyFiles()

    def break_it(_: Stores) -> None:
        files.fail["write_at"] = FULL
        files.fail["truncate"] = BROKEN

    await fails_for_good(opener, break_it, files=files)


class Bug(Exception):
    pass


class Buggy(Job):
    __slots__ = ()

    def plan(self, tx: Transaction) -> None:
        raise Bug


async def test_a_bug_in_the_store_ends_it_and_leaves_nobody_waiting(opener: Opener) -> None:
    with pytest.RaisesGroup(Bug, flatten_subgroups=True):
        async with opener() as stores:
            with trio.CancelScope(shield=True), pytest.raises(TransientFailure):
                await stores.store._writer.do(Buggy())
            await trio.sleep_forever()


async def test_closing_leaves_nobody_waiting(opener: Opener) -> None:
    async with opener() as stores:
        account = await stores.account()
    with pytest.raises(TransientFailure):
        await stores.deliver(account.inbox)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
async def test_no_descriptor_for_a_new_segment_refuses_and_heals(opener: Opener, code: int) -> None:
    files = FaultyFiles()
    async with opener(files=files, segment_limit_bytes=1) as stores:
        account = await stores.account()
        files.fail["create"] = code
        with pytest.raises(Overloaded):
            await stores.deliver(account.inbox)
        files.fail.clear()
        await stores.deliver(account.inbox)
        assert stores.store.failed is None


async def test_segments_begin_and_spools_end_without_a_free_descriptor(
    opener: Opener, tmp_path: Path
) -> None:
    spare: list[int] = []

    class Flooded(Files):
        """Connections take every descriptor that is left, as soon as a file was made."""

        def create(self, path: Path) -> int:
            fd = super().create(path)
            self.flood()
            return fd

        def flood(self) -> None:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            spare.extend((soft, hard))
            lowest = os.dup(0)
            os.close(lowest)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))

        def sync_directory(self, fd: int) -> None:
            try:
                super().sync_directory(fd)
            finally:
                soft, hard = spare
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                spare.clear()

    async with opener(files=Flooded()) as stores:
        account = await stores.account()
        await stores.deliver(account.inbox)
        async with stores.blobs.spool() as spool:
            await spool.write(b"spooled")
            await stores.intake.commit(batch_of(await spool.seal(b"A: b\r\n\r\n"), account.inbox))
        assert await stored(stores) == 2
