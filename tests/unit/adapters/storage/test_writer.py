"""Group commit: order, isolation, bounds, and what follows from each kind of failure."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
import trio.testing

from chatmail.adapters.storage.database import SqliteDatabase
from chatmail.adapters.storage.errors import StoreFailed
from chatmail.adapters.storage.files import Files, Octets
from chatmail.adapters.storage.transaction import Transaction
from chatmail.adapters.storage.writer import CHECKPOINT_ROWS, Job
from chatmail.domain.model.errors import Overloaded, TransientFailure
from chatmail.domain.model.mailbox import MailboxHint, MailboxId
from chatmail.domain.model.message import Body
from chatmail.domain.ports.intake import Delivery, IntakeBatch
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
from tests.unit.ports.world import NOW_S, Stores

MiB = 1024 * 1024


async def stored(stores: Stores, name: str = "ann") -> int:
    account = await stores.account(name)
    info = await stores.mail.info(account.id, "INBOX")
    assert info is not None
    return info.messages


class OrderedFiles(Files):
    """Knows what a power cut would take."""

    def __init__(self) -> None:
        self.dirty: set[object] = set()

    def create(self, path: Path) -> int:
        if path.suffix == ".seg":
            self.dirty.add(path.parent)
        return super().create(path)

    def write_at(self, fd: int, pieces: Sequence[Octets], offset: int) -> int:
        self.dirty.add(fd)
        return super().write_at(fd, pieces, offset)

    def sync(self, fd: int) -> None:
        super().sync(fd)
        self.dirty.discard(fd)

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self.dirty.add(target.parent)

    def sync_directory(self, fd: int) -> None:
        super().sync_directory(fd)
        self.dirty.discard(Path(os.readlink(f"/proc/self/fd/{fd}")))


async def test_content_and_names_are_durable_before_the_rows(opener: Opener) -> None:
    files = OrderedFiles()
    commits = []

    class WatchingDatabase(SqliteDatabase):
        def commit(self) -> None:
            commits.append(set(files.dirty))
            super().commit()

    async with opener(
        files=files,
        new_database=WatchingDatabase,
        segment_limit_bytes=300,
        journal_batch_octets=0,  # what rides in the database's log is in test_journal
    ) as stores:
        account = await stores.account()
        for _ in range(5):
            await stores.deliver(account.inbox)
        async with stores.blobs.spool() as spool:
            await spool.write(b"spooled")
            body = await spool.seal(b"A: b\r\n\r\n")
            await stores.intake.commit(batch_of(body, account.inbox))
    assert len(commits) >= 7
    assert not any(commits)


def batch_of(body: Body, mailbox: MailboxId) -> IntakeBatch:
    return IntakeBatch(body=body, internal_date_s=NOW_S, deliveries=(Delivery(mailbox),))


async def test_the_store_is_at_work_as_long_as_its_thread_commits(opener: Opener) -> None:
    """Long work in the event loop rests meanwhile (`adapters.net.turns`)."""
    seen: list[bool] = []
    watched: list[Stores] = []

    class WatchingDatabase(SqliteDatabase):
        def commit(self) -> None:
            seen.extend(stores.store.is_at_work() for stores in watched)
            super().commit()

    async with opener(new_database=WatchingDatabase) as stores:
        watched.append(stores)
        account = await stores.account()
        await stores.deliver(account.inbox)
        assert not stores.store.is_at_work()
        watched.clear()  # the last commit, at the end, is nobody's thread
    assert len(seen) >= 2
    assert all(seen)


async def test_the_database_syncs_at_every_commit(opener: Opener) -> None:
    async with opener() as stores:
        connection = stores.store._writer._committer._database.writer
        found = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "secure_delete")
        ]
    assert found == ["wal", 2, 1]


async def test_hints_come_after_the_index_and_before_the_caller(opener: Opener) -> None:
    async with opener() as stores:
        account = await stores.account()
        opened = await stores.mail.open(account.id, "INBOX")
        order = []
        with stores.hints.subscribe(
            account.inbox, lambda: order.append(("hint", opened.info().messages))
        ):
            await stores.deliver(account.inbox)
            order.append(("returned", opened.info().messages))
        assert order == [("hint", 1), ("returned", 1)]


async def test_one_hint_per_mailbox_and_batch(opener: Opener) -> None:
    async with opener() as stores:
        account = await stores.account()
        await stores.deliver(account.inbox, account.inbox)
        (hint,) = stores.hints.published[-1:]
        assert hint == MailboxHint(account.inbox, 2)


async def test_what_queues_while_a_batch_runs_is_one_batch(opener: Opener) -> None:
    async with opener() as stores:
        account = await stores.account()
        before = stores.store._writer.batches
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(stores.deliver, account.inbox)
        assert stores.store._writer.batches - before <= 3
        assert await stored(stores) == 50


async def test_a_cancelled_caller_still_commits(opener: Opener) -> None:
    async with opener() as stores:
        account = await stores.account()
        returned = []

        async def call(scope: trio.CancelScope) -> None:
            with scope:
                returned.append(await stores.deliver(account.inbox))
                await trio.lowlevel.checkpoint()
                returned.append("not cancelled")

        scope = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, scope)
            while not stores.store._writer._in_hand and not stores.store._writer._queue:
                await trio.lowlevel.checkpoint()
            scope.cancel()
        assert scope.cancelled_caught
        assert len(returned) == 1
        assert returned[0][0].uid == 1
        assert await stored(stores) == 1


async def test_a_full_queue_is_overloaded(opener: Opener) -> None:
    async with opener(max_queued_jobs=5) as stores:
        account = await stores.account()
        results = []

        async def call() -> None:
            try:
                await stores.deliver(account.inbox)
                results.append("stored")
            except Overloaded:
                results.append("overloaded")

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(call)
        assert results.count("overloaded") == 15
        assert await stored(stores) == 5


async def test_the_queue_is_bounded_in_octets_too(opener: Opener) -> None:
    async with opener(max_queued_bytes=11_000) as stores:
        account = await stores.account()
        results = []

        async def call() -> None:
            try:
                await stores.deliver(account.inbox, content=b"x" * 4000)
                results.append("stored")
            except Overloaded:
                results.append("overloaded")

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(call)
        assert sorted(results) == ["overloaded", "overloaded", "stored", "stored"]
        await stores.deliver(account.inbox, content=b"x" * 50_000)


class Poison(Job):
    __slots__ = ()

    def plan(self, tx: Transaction) -> None:
        tx.sql.bar.run("a@relay.test", None, 1)  # NOT NULL


class Surrogate(Job):
    __slots__ = ()

    def plan(self, tx: Transaction) -> None:
        tx.sql.bar.run("\ud800", "text", 2**70)


@pytest.mark.parametrize("poison", [Poison, Surrogate])
async def test_a_poisoned_job_fails_alone(opener: Opener, poison: type[Job]) -> None:
    async with opener() as stores:
        account = await stores.account()
        failed = []

        async def bad() -> None:
            with pytest.raises(TransientFailure):
                await stores.store._writer.do(poison())
            failed.append(1)

        async with trio.open_nursery() as nursery:
            for number in range(9):
                nursery.start_soon(
                    bad if number == 4 else stores.deliver, *inbox_of(number, account)
                )
        assert failed == [1]
        assert await stored(stores) == 8
        assert "job_refused" in stores.log.events
        await check_index_equals_database(stores)
    async with opener() as stores:
        assert await stores.store.recount() == 0


def inbox_of(number, account):
    return () if number == 4 else (account.inbox,)


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


async def test_the_log_is_folded_when_nobody_waits(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    folded = trio.Event()
    token = trio.lowlevel.current_trio_token()

    class WatchingDatabase(SqliteDatabase):
        def checkpoint(self, *, truncate: bool = False) -> None:
            super().checkpoint(truncate=truncate)
            trio.from_thread.run_sync(folded.set, trio_token=token)

    async with opener(new_database=WatchingDatabase) as stores:
        account = await stores.account()
        assert not folded.is_set()
        stores.store._writer._committer.rows_since_checkpoint = CHECKPOINT_ROWS
        await stores.deliver(account.inbox)
        with trio.fail_after(60):
            await folded.wait()
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
