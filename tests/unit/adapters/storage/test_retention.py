"""Retention on tables: no scan of the store, bounded transactions, pieces that survive a stop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import pytest
from sqlalchemy import Connection, text

from chatmail.adapters.storage import (
    compaction,
    departure,
    retention_queries,
    retention_sql,
    upkeep,
)
from chatmail.adapters.storage.transaction import DROP_AT_ONCE, Transaction
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.retention import MessageRule
from chatmail.domain.ports.mailstore import FlagOperation
from chatmail.domain.ports.retention import MAX_DELETIONS
from tests.unit.adapters.storage.conftest import Opener
from tests.unit.adapters.storage.invariants import check_index_equals_database
from tests.unit.ports.world import NOW_S, Stores

OLD = MessageRule(before_s=NOW_S)
LARGE = attrs.evolve(OLD, larger_than_bytes=200_000, was_shown=True)
SEEN = attrs.evolve(OLD, is_seen=True)
MANY = 1200
VALUES = {
    "date": 1,
    "before": 2,
    "blob": 3,
    "account": 4,
    "since": 5,
    "limit": 6,
    "after": 7,
    "segment": 8,
    "mailbox": 9,
    "blobs": [1, 2, 3],
}


def query_plan(connection: Connection, query: Any) -> list[str]:
    """Return the lines of EXPLAIN QUERY PLAN."""
    if isinstance(query, str):
        done = connection.execute(text("EXPLAIN QUERY PLAN " + query), VALUES)
    else:
        known = {name: VALUES[name] for name in query.compile().params if name in VALUES}
        state = query.compile(dialect=connection.dialect).construct_expanded_state(known)
        done = connection.exec_driver_sql(
            "EXPLAIN QUERY PLAN " + state.statement, tuple(state.positional_parameters)
        )
    return [row[3] for row in done]


@pytest.mark.parametrize(
    ("make_query", "index"),
    [
        pytest.param(lambda: retention_queries.page_query(OLD), "blobs_by_date", id="old"),
        pytest.param(
            lambda: retention_queries.page_query(LARGE), "blobs_large_by_date", id="large"
        ),
        pytest.param(lambda: retention_queries.copies_query(OLD), "messages_by_blob", id="copies"),
        pytest.param(lambda: retention_queries.copies_query(LARGE), "messages_by_blob", id="shown"),
        pytest.param(lambda: retention_queries.copies_query(SEEN), "messages_by_blob", id="seen"),
        pytest.param(retention_queries.oldest_query, "mailboxes_by_name", id="oldest"),
        pytest.param(partial(retention_queries.unused_query, 0), "accounts_unused", id="unused"),
        pytest.param(retention_queries.inactive_query, "accounts_by_login", id="inactive"),
        pytest.param(retention_queries.usages_query, "mailboxes_by_name", id="usages"),
        pytest.param(retention_queries.old_tokens_query, "device_tokens_by_age", id="tokens"),
        pytest.param(upkeep.old_expunges_query, "expunged_by_time", id="expunges"),
        pytest.param(upkeep.empty_query, "blobs_by_segment", id="empty"),
        pytest.param(compaction.living_query, "COVERING INDEX blobs_by_segment", id="living"),
        pytest.param(compaction.records_query, "blobs_by_segment", id="records"),
        pytest.param(lambda: str(retention_sql.SOME_MESSAGES), "PRIMARY KEY", id="drain"),
        pytest.param(lambda: str(retention_sql.SOME_EXPUNGED), "PRIMARY KEY", id="journal"),
    ],
)
async def test_no_query_scans_a_table_that_grows_with_the_mail(
    opener: Opener, make_query: Callable[[], Any], index: str
) -> None:
    async with opener() as stores:
        for is_filled in (False, True):
            if is_filled:
                account = await stores.account()
                for number in range(20):
                    await stores.deliver(account.inbox, date_s=number)
            lines = await stores.store.upkeep._reader.query(
                lambda connection: query_plan(connection, make_query())
            )
            scans = [line for line in lines if line.startswith("SCAN")]
            # The list of segments is short; everything else has to be searched by index.
            assert all(line.startswith("SCAN segments") for line in scans), lines
            assert any(index in line for line in lines), lines


async def fill(stores: Stores, count: int = MANY) -> Any:
    """Give an account one message many times over."""
    account = await stores.account()
    await stores.deliver(account.inbox, date_s=1)
    while (held := (await stores.mail.info(account.id, "INBOX")).messages) < count:
        uids = range(1, min(held, count - held) + 1)
        await stores.mail.copy(account.inbox, uids, account.id, "INBOX", limit_bytes=None)
    return account


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many messages each transaction released."""
    found: list[int] = []
    release = Transaction.release

    def counting(self: Transaction, messages: Any) -> None:
        found.append(len(messages))
        release(self, messages)

    monkeypatch.setattr(Transaction, "release", counting)
    return found


async def test_pruning_takes_no_more_than_some_hundreds_at_a_time(
    opener: Opener, sizes: list[int]
) -> None:
    async with opener() as stores:
        await fill(stores)
        step = await stores.retention.prune(OLD)
        assert (step.removed, step.cursor) == (MANY, None)
        assert max(sizes) <= MAX_DELETIONS
        await check_index_equals_database(stores)


async def test_one_transaction_touches_few_mailboxes(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatmail.adapters.storage.retention.MAX_MAILBOXES", 2)
    async with opener() as stores:
        inboxes = [(await stores.account(name)).inbox for name in ("ann", "bob", "carol", "dora")]
        await stores.deliver(*inboxes, *inboxes, inboxes[0], date_s=1)
        batches = stores.store._writer.batches
        assert (await stores.retention.prune(OLD)).removed == 9
        assert stores.store._writer.batches - batches == 2
        await check_index_equals_database(stores)


async def test_trimming_takes_no_more_than_some_hundreds_at_a_time(
    opener: Opener, sizes: list[int]
) -> None:
    async with opener() as stores:
        account = await fill(stores)
        assert await stores.mail.trim(account.id, 0, NOW_S) == 0
        assert max(sizes) <= MAX_DELETIONS
        await check_index_equals_database(stores)


async def test_a_large_account_is_gone_at_once_and_its_messages_go_in_pieces(
    opener: Opener, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opener() as stores:
        account = await fill(stores)
        opened = await stores.mail.open(account.id, "INBOX")
        opened.close()
        del opened  # or the message would be held, and not erased
        seen = []
        plan = departure._Drain.plan

        def looking(self: departure._Drain, tx: Transaction) -> None:
            seen.append(tx.sql.account.one(account.id))
            plan(self, tx)

        monkeypatch.setattr(departure._Drain, "plan", looking)
        assert await stores.accounts.delete(account.id, NOW_S + 100)
        assert seen
        assert not any(seen)
        assert max(sizes) <= MAX_DELETIONS
        assert await stores.accounts.get(account.address) is None
        assert await stores.accounts.tombstone(account.address, NOW_S) is not None
        assert await rows_left(stores) == 0
        assert await stores.store.sweep() == 1
        again = await stores.account()
        assert (await stores.deliver(again.inbox))[0].uid == 1
        await check_index_equals_database(stores)


async def rows_left(stores: Stores) -> int:
    def count(connection: Connection) -> int:
        tables = ("messages", "expunged", "departing", "shown", "blobs")
        return sum(
            connection.execute(text(f"SELECT count(*) FROM {name}")).scalar() for name in tables
        )

    return await stores.store.upkeep._reader.query(count)


async def test_a_deletion_that_was_cut_short_is_finished_by_the_next_sweep(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opener() as stores:
        account = await fill(stores)
        pieces = 0
        plan = departure._Drain.plan

        def fail_later(self: departure._Drain, tx: Transaction) -> None:
            nonlocal pieces
            pieces += 1
            if pieces == 2:
                raise TransientFailure("told to fail")
            plan(self, tx)

        monkeypatch.setattr(departure._Drain, "plan", fail_later)
        with pytest.raises(TransientFailure):
            await stores.accounts.delete(account.id, None)
        assert await rows_left(stores) > 0
        assert await stores.accounts.get(account.address) is None
        # Nobody is told that there is more to remove than there is.
        assert (await stores.retention.prune(OLD, is_dry_run=True)).removed == 0
    async with opener() as stores:
        assert await stores.store.recount() == 0
        await stores.store.sweep()
        assert await rows_left(stores) == 0
        await check_index_equals_database(stores)


async def test_a_mailbox_with_a_long_journal_departs_as_well(opener: Opener) -> None:
    async with opener() as stores:
        account = await fill(stores)
        await stores.mail.create(account.id, "Other", None, NOW_S)
        await stores.mail.move(account.inbox, range(1, MANY), account.id, "Other")
        other = await stores.mail.info(account.id, "Other")
        every = frozenset({"\\Deleted"})
        await stores.mail.set_flags(other.id, range(2, MANY), FlagOperation.ADD, every)
        await stores.mail.expunge(other.id, None)
        assert await stores.mail.delete(account.id, "Other") is None
        assert await stores.mail.open(account.id, "Other") is None
        await stores.store.sweep()
        left = await stores.store.upkeep._reader.query(
            lambda connection: connection.execute(
                text(f"SELECT count(*) FROM expunged WHERE mailbox = {other.id}")
            ).scalar()
        )
        assert left == 0
        await check_index_equals_database(stores)


async def test_a_delivery_to_a_departing_mailbox_finds_none(opener: Opener) -> None:
    async with opener() as stores:
        account = await fill(stores, DROP_AT_ONCE + 10)
        await stores.accounts.delete(account.id, None)
        assert await stores.deliver(account.inbox) == (None,)


async def test_what_was_flagged_meanwhile_is_looked_at_again(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opener() as stores:
        account = await stores.account()
        for _ in range(2):
            await stores.deliver(account.inbox, flags=frozenset({"\\Seen"}), date_s=1)
        query = stores.store.retention._reader.query

        async def then_unsee(function: Any) -> Any:
            found = await query(function)
            await stores.mail.set_flags(
                account.inbox, [1], FlagOperation.REMOVE, frozenset({"\\Seen"})
            )
            return found

        monkeypatch.setattr(stores.store.retention._reader, "query", then_unsee)
        assert (await stores.retention.prune(SEEN)).removed == 1
        monkeypatch.undo()
        opened = await stores.mail.open(account.id, "INBOX")
        assert list(opened.uids()[0]) == [1]


async def test_marks_of_shown_mail_outlive_a_restart_only_when_saved(opener: Opener) -> None:
    rule = attrs.evolve(OLD, was_shown=True)
    for is_saved in (False, True):
        async with opener() as stores:
            account = await stores.account()
            if not is_saved:
                await stores.deliver(account.inbox, date_s=1)
            opened = await stores.mail.open(account.id, "INBOX")
            opened.uids()
            opened.close()
            batches = stores.store._writer.batches
            assert len(stores.store.index.shown) == 1
            if is_saved:
                await stores.retention.save_shown()
                assert stores.store._writer.batches == batches + 1
                assert len(stores.store.index.shown) == 0
        async with opener() as stores:
            step = await stores.retention.prune(rule, is_dry_run=True)
            assert step.removed == int(is_saved)


async def test_recounting_goes_page_by_page(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "RECOUNT_ROWS", 2)
    async with opener() as stores:
        accounts = [await stores.account(name) for name in ("ann", "bob", "carol", "dora")]
        for _ in range(3):
            await stores.deliver(*[one.inbox for one in accounts])
        connection = stores.store._writer._committer._database.writer
        connection.exec_driver_sql(
            f"UPDATE mailboxes SET octets = 7 WHERE id = {accounts[2].inbox}"
        )
        stores.store.index.drop_record(accounts[2].id)
        assert await stores.store.recount() == 1
        assert await stores.store.recount() == 0
        await check_index_equals_database(stores)


async def test_old_expunges_are_forgotten_page_by_page(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "EXPUNGES_AT_ONCE", 2)
    async with opener() as stores:
        account = await stores.account()
        for _ in range(7):
            await stores.deliver(account.inbox, date_s=1)
            await stores.retention.prune(OLD)
        stores.clock.time_s += upkeep.EXPUNGED_KEPT_S + 1
        await stores.store.sweep()
        left = await stores.store.upkeep._reader.query(
            lambda connection: connection.execute(text("SELECT count(*) FROM expunged")).scalar()
        )
        assert left == 0
