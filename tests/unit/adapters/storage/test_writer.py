"""Group commit: order, isolation, bounds, the log."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from chatmail.adapters.storage.database import SqliteDatabase
from chatmail.adapters.storage.files import Files, Octets
from chatmail.adapters.storage.writer import CHECKPOINT_ROWS, Job
from chatmail.domain.model.errors import Overloaded, TransientFailure
from chatmail.domain.model.mailbox import MailboxHint
from tests.unit.adapters.storage.conftest import Opener
from tests.unit.adapters.storage.invariants import check_index_equals_database
from tests.unit.adapters.storage.writing import Poison, Surrogate, batch_of, stored
from tests.unit.ports.world import Stores


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
