"""Queued mail over restarts, compaction, damage and deletion."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from chatmail.adapters.storage import compaction
from chatmail.adapters.storage.database import FILE_NAME
from chatmail.adapters.storage.federation import queue_jobs
from chatmail.adapters.storage.federation.queue_rows import QueuedContents
from chatmail.adapters.storage.forgetting import FORGOTTEN_AT_ONCE
from chatmail.adapters.storage.migrations import forward
from chatmail.adapters.storage.store import StoreOptions
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.message import Body
from chatmail.domain.model.outbound import OutboundMessageId, QueueFilter
from chatmail.domain.ports.intake import Delivery, IntakeBatch
from chatmail.domain.ports.mailstore import FlagOperation
from tests.unit.adapters.storage.conftest import Opener
from tests.unit.adapters.storage.faults import FULL, FaultyFiles
from tests.unit.adapters.storage.federation.queued import (
    CONTENT,
    DELETED,
    EVERYTHING,
    FIRST,
    count,
    deliver_all,
    execute,
    whole,
)
from tests.unit.adapters.storage.invariants import check_index_equals_database
from tests.unit.ports.durable import ForgetfulFiles, HastyDatabase
from tests.unit.ports.world import (
    DAY_S,
    HEADER,
    NOW_S,
    Stores,
    make_outbound,
    make_report,
    sqlite_stores,
)


# Over a restart
async def test_entries_and_their_content_outlive_the_process(opener: Opener) -> None:
    async with opener() as stores:
        await stores.deliver(outbound=make_outbound(prefix=b"DKIM-Signature: x\r\n"))
        (before,) = await stores.outbound.page(EVERYTHING, None, 9)
    async with opener() as stores:
        assert await stores.outbound.page(EVERYTHING, None, 9) == [before]
        assert await whole(stores) == HEADER + b"hello\r\n"
        await check_index_equals_database(stores)


async def test_leases_are_returned_at_the_start(opener: Opener) -> None:
    async with opener() as stores:
        await stores.deliver(outbound=make_outbound(1, leased_until_s=NOW_S + 600))
        await stores.deliver(outbound=make_outbound(2))
        assert len(await stores.outbound.claim("peer.test", NOW_S, 600, 9)) == 1
    async with opener() as stores:
        assert len(await stores.outbound.claim("peer.test", NOW_S, 600, 9)) == 2


async def test_a_copy_is_delivered_once_over_a_restart_too(opener: Opener) -> None:
    async def deliver(stores: Stores) -> bool:
        account = await stores.account()
        delivery = Delivery(account.inbox, once=b"key")
        body = Body(HEADER, (CONTENT,), len(CONTENT))
        batch = IntakeBatch(body=body, internal_date_s=NOW_S, deliveries=(delivery,))
        return (await stores.intake.commit(batch))[0] is not None

    async with opener() as stores:
        assert await deliver(stores)
    async with opener() as stores:
        assert not await deliver(stores)
        await check_index_equals_database(stores)


@pytest.mark.parametrize("is_spooled", [False, True])
async def test_a_power_cut_takes_neither_the_copy_nor_the_entry(
    opener: Opener, tmp_path: Path, is_spooled: bool
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    files = ForgetfulFiles()
    async with sqlite_stores(before, StoreOptions(files=files, new_database=HastyDatabase)) as one:
        account = await one.account()
        if is_spooled:
            async with one.blobs.spool() as spool:
                await spool.write(CONTENT)
                batch = IntakeBatch(
                    body=await spool.seal(HEADER),
                    internal_date_s=NOW_S,
                    deliveries=(Delivery(account.inbox),),
                    outbound=make_outbound(),
                )
                await one.intake.commit(batch)
        else:
            await one.deliver(account.inbox, content=CONTENT, outbound=make_outbound())
        files.left_by_a_power_cut(before, after)
    async with sqlite_stores(after) as again:
        assert "content_missing" not in again.log.events
        assert (await again.mail.info(account.id, "INBOX")).messages == 1
        assert await whole(again) == HEADER + CONTENT
        await check_index_equals_database(again)


async def test_what_could_not_be_written_is_neither_delivered_nor_queued(opener: Opener) -> None:
    files = FaultyFiles()
    async with opener(files=files) as stores:
        account = await stores.account()
        await stores.deliver(account.inbox)
        files.fail = {"write_at": FULL}
        with pytest.raises(TransientFailure):
            await stores.deliver(account.inbox, outbound=make_outbound())
        files.fail = {}
        assert (await stores.mail.info(account.id, "INBOX")).messages == 1
        assert await stores.outbound.page(EVERYTHING, None, 9) == []
        await stores.deliver(account.inbox, outbound=make_outbound())
        await check_index_equals_database(stores)


async def test_a_refused_batch_leaves_no_entry_behind(opener: Opener) -> None:
    async with opener() as stores:
        account = await stores.account()
        await stores.deliver(account.inbox, outbound=make_outbound())
        with pytest.raises(TransientFailure):
            await stores.deliver(account.inbox, outbound=make_outbound())  # the number is taken
        assert (await stores.mail.info(account.id, "INBOX")).messages == 1
        await check_index_equals_database(stores)


async def test_a_database_without_a_queue_gets_one(tmp_path: Path, opener: Opener) -> None:
    async with opener() as stores:
        account = await stores.account()
        await stores.deliver(account.inbox, reports=(make_report(due_s=NOW_S),))
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        for (name,) in tables.fetchall():
            if name.startswith(("outbound_", "peer_", "sts_", "delivered_", "exchangers")):
                connection.execute(f"DROP TABLE {name}")
        connection.execute("ALTER TABLE accounts DROP COLUMN is_imported")
        connection.execute("DELETE FROM schema_version WHERE version > 6")
        # As the version of then has written it.
        connection.execute(
            'UPDATE reports SET failed = \'[["nobody@relay.test", "unknown_recipient"]]\''
        )
    connection.close()
    async with opener() as stores:
        (entry,) = await stores.queue.claim(NOW_S, 9, 60)
        assert entry.report == make_report(due_s=NOW_S)
        await stores.deliver(account.inbox, outbound=make_outbound())
        assert await whole(stores) == HEADER + b"hello\r\n"
    assert forward.STEPS[-1].VERSION >= 8


# Clocks
async def test_a_clock_that_was_set_back_keeps_nothing_for_ever(opener: Opener) -> None:
    ahead_s = NOW_S + 400 * DAY_S
    async with opener() as stores:
        await stores.deliver(outbound=make_outbound(created_s=ahead_s, due_s=ahead_s + 60))
        assert await stores.outbound.claim("peer.test", NOW_S, 60, 9) == []
    async with opener() as stores:
        (entry,) = await stores.outbound.claim("peer.test", NOW_S, 60, 9)
        assert (entry.message.created_s, entry.due_s) == (NOW_S, NOW_S)


async def test_what_waits_for_its_time_is_left_alone_at_the_start(opener: Opener) -> None:
    async with opener() as stores:
        await stores.deliver(outbound=make_outbound(due_s=NOW_S + 3600.5))
    async with opener() as stores:
        assert await stores.outbound.next_due_s() == NOW_S + 3600.5


# Content
async def test_the_last_entry_makes_the_record_dead_and_a_sweep_erases_it(
    opener: Opener, tmp_path: Path
) -> None:
    def on_disk() -> bytes:
        return b"".join(path.read_bytes() for path in sorted((tmp_path / "mail").iterdir()))

    async with opener() as stores:
        account = await stores.account()
        await stores.deliver(account.inbox)
        await stores.deliver(content=CONTENT, outbound=make_outbound(1, "a@x.test", "b@y.test"))
        assert await whole(stores) == HEADER + CONTENT
        assert await stores.store.sweep() == 0
        assert await stores.outbound.remove(QueueFilter(domain="x.test")) == 1
        assert await stores.store.sweep() == 0
        await deliver_all(stores)
        assert await stores.store.sweep() == 1
        assert CONTENT not in on_disk()


async def test_content_is_not_erased_while_a_copy_or_an_entry_lives(opener: Opener) -> None:
    async with opener() as stores:
        account = await stores.account()
        await stores.deliver(account.inbox, content=CONTENT, outbound=make_outbound())
        await stores.mail.set_flags(account.inbox, [1], FlagOperation.ADD, DELETED)
        await stores.mail.expunge(account.inbox, None)
        assert await stores.store.sweep() == 0
        assert await whole(stores) == HEADER + CONTENT
        await stores.deliver(account.inbox, content=CONTENT, outbound=make_outbound(2))
        await deliver_all(stores)
        assert await stores.store.sweep() == 1
        mailbox = await stores.mail.open(account.id, "INBOX")
        assert (await stores.mail.read(mailbox.entry(2), 0, 9999)).endswith(CONTENT)
        mailbox.close()


async def test_compaction_moves_queued_messages_like_any_other(
    opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "PAUSE_S", 0.0)
    numbers = range(1, 41)
    async with opener(segment_limit_bytes=8000) as stores:
        for number in numbers:
            body = b"%04d" % number + b"x" * 1000
            await stores.deliver(content=body, outbound=make_outbound(number))
        for number in numbers:
            if number % 8:
                wanted = QueueFilter(message=OutboundMessageId(number))
                await stores.outbound.remove(wanted)
            else:
                await whole(stores, number)  # known where it was
        await stores.store.upkeep.vacuum()
        assert not (tmp_path / "mail" / "00000001.seg").exists()
        for _ in range(2):
            for number in range(8, 41, 8):
                assert (await whole(stores, number)).startswith(HEADER + b"%04d" % number)
            stores.store.index.queued.discard(map(OutboundMessageId, numbers))
        await check_index_equals_database(stores)
    async with opener() as stores:
        assert "content_missing" not in stores.log.events
        for number in range(8, 41, 8):
            assert (await whole(stores, number)).startswith(HEADER + b"%04d" % number)


def test_only_some_contents_are_known_at_a_time() -> None:
    known = QueuedContents(limit=2)
    for number in (1, 2, 1, 3):
        known.put(OutboundMessageId(number), None)
    assert len(known) == 2
    known.put(FIRST, None)
    known.discard([FIRST, OutboundMessageId(9)])
    assert len(known) == 1


# Rows nobody can read
async def test_an_entry_that_cannot_be_read_is_held_and_hurts_nobody(opener: Opener) -> None:
    async with opener() as stores:
        await stores.deliver(outbound=make_outbound(1, "bob@peer.test", "eve@peer.test"))
        execute(
            stores, "UPDATE outbound_recipients SET recipient = 'eve' WHERE recipient LIKE 'eve%'"
        )
        claimed = await stores.outbound.claim("peer.test", NOW_S, 60, 9)
        assert [str(entry.recipient) for entry in claimed] == ["bob@peer.test"]
        assert stores.log.events == ["queue_entry_unreadable"]
        (backlog,) = await stores.outbound.backlogs()
        assert (backlog.entries, backlog.held) == (2, 1)


async def test_a_message_that_cannot_be_read_is_a_passing_trouble(opener: Opener) -> None:
    async with opener() as stores:
        await stores.deliver(outbound=make_outbound())
        execute(stores, "UPDATE outbound_messages SET reverse_path = 'nobody'")
        with pytest.raises(TransientFailure):
            await whole(stores)
        assert stores.store.failed is None


# Deletion
async def test_a_large_queue_of_a_deleted_account_goes_in_pieces(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_jobs, "STEP", 10)
    async with opener() as stores:
        ann = await stores.account()
        await stores.deliver(outbound=make_outbound(1, *[f"u{one}@x.test" for one in range(25)]))
        await stores.deliver(outbound=make_outbound(2, "u@x.test", sender="dan@relay.test"))
        monkeypatch.setattr("chatmail.adapters.storage.accounts.drain_queue", nothing)
        await stores.accounts.delete(ann.id, None)  # and dies before the rest is gone
        assert sum(one.entries for one in await stores.outbound.backlogs()) == 16
        claimed = await stores.outbound.claim("x.test", NOW_S, 60, 99)
        assert [int(one.message.id) for one in claimed] == [2]
        assert await stores.outbound.claim_expired(NOW_S, NOW_S + 9, NOW_S + 9, 60, 99) == []
    async with opener() as stores:
        await stores.store.sweep()
        (left,) = await stores.outbound.page(EVERYTHING, None, 99)
        assert left.message.id == 2
        await check_index_equals_database(stores)


async def nothing(*_: object) -> None:
    pass


async def test_deliveries_are_forgotten_in_time(opener: Opener) -> None:
    async with opener() as stores:
        for number in range(3):
            account = await stores.account()
            delivery = Delivery(account.inbox, once=b"key %d" % number)
            body = Body(HEADER, (CONTENT,), len(CONTENT))
            await stores.intake.commit(
                IntakeBatch(body=body, internal_date_s=NOW_S, deliveries=(delivery,))
            )
        execute(
            stores,
            f"""INSERT INTO delivered_once
                WITH RECURSIVE n (x) AS (
                    SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT {FORGOTTEN_AT_ONCE + 1})
                SELECT CAST(x AS BLOB), {NOW_S} FROM n""",
        )
        await stores.store.sweep()
        assert await count(stores, "delivered_once") == 3
        stores.clock.time_s += 2 * DAY_S
        await stores.store.sweep()
        assert await count(stores, "delivered_once") == 0
