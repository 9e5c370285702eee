"""Two processes on one database: reports, leases, references and remains are dealt with once."""

from __future__ import annotations

import trio

from chatmail.adapters.storage.departure import DeleteAccountJob, drain_all
from chatmail.adapters.storage.tokens import TokenCache
from chatmail.adapters.storage.transaction import DROP_AT_ONCE
from chatmail.domain.ports.mailstore import FlagOperation
from tests.unit.adapters.storage.invariants import check_index_equals_database
from tests.unit.adapters.storage.postgresql.conftest import Database, Pair, until
from tests.unit.adapters.storage.postgresql.sharing import DELETED
from tests.unit.ports.world import NOW_S, Stores, make_report


async def test_what_the_application_hears(pair: Pair) -> None:
    from chatmail.adapters.storage.store import Ears

    one, other = pair
    account = await one.account()
    heard = []
    other.store.listen(
        Ears(
            account_changed=lambda id: heard.append(("changed", id)),
            account_closed=lambda id: heard.append(("closed", id)),
            settings_changed=lambda: heard.append(("settings",)),
        )
    )
    await one.accounts.set_secret(account.id, "other")
    await until(lambda: len(heard) == 1)
    await one.accounts.set_blocked(account.id, True)
    await until(lambda: len(heard) == 3)
    assert heard == [("changed", account.id)] * 2 + [("closed", account.id)]
    assert (await other.accounts.get(account.address)).is_blocked


async def test_reports_are_claimed_once(pair: Pair) -> None:
    one, other = pair
    account = await one.account()
    reports = tuple(make_report(due_s=NOW_S) for _ in range(20))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other.queue.wait_for_more)
        await one.deliver(account.inbox, reports=reports)
    claimed = []

    async def claim(stores: Stores) -> None:
        while entries := await stores.queue.claim(NOW_S, 3, 60):
            claimed.extend(entry.id for entry in entries)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(claim, one)
        nursery.start_soon(claim, other)
    assert len(claimed) == len(set(claimed)) == 20


async def test_a_start_leaves_the_leases_of_others_alone(database: Database) -> None:
    async with database.store() as one:
        account = await one.account()
        await one.deliver(account.inbox, reports=(make_report(due_s=NOW_S),))
        assert len(await one.queue.claim(NOW_S, 3, 60)) == 1
        async with database.store() as other:
            assert await other.queue.claim(NOW_S, 3, 60) == []
            assert len(await other.queue.claim(NOW_S + 61, 3, 60)) == 1


async def test_references_are_counted_by_both(pair: Pair) -> None:
    one = pair[0]
    names = [f"u{number}" for number in range(6)]
    accounts = [await one.account(name) for name in names]
    for _ in range(5):
        await one.deliver(*(account.inbox for account in accounts))

    async def expunge(stores: Stores, inbox) -> None:
        await stores.mail.set_flags(inbox, [1, 2, 3, 4, 5], FlagOperation.ADD, DELETED)
        for uid in (3, 1, 5, 2, 4):
            await stores.mail.expunge(inbox, [uid])

    async with trio.open_nursery() as nursery:
        for place, account in enumerate(accounts):
            nursery.start_soon(expunge, pair[place % 2], account.inbox)
    rows = await one.store.upkeep._reader.query(
        lambda connection: [
            connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar()
            for table in ("blobs", "messages", "dead_blobs", "contents")
        ]
    )
    assert rows == [0, 0, 5, 5]
    for stores in pair:
        await stores.store.sweep()
        await stores.store.sweep()
        await check_index_equals_database(stores)
    rows = await one.store.upkeep._reader.query(
        lambda connection: connection.exec_driver_sql("SELECT count(*) FROM contents").scalar()
    )
    assert rows == 0


async def test_remains_of_a_large_mailbox_are_removed_once(pair: Pair) -> None:
    one, other = pair
    ann, bob = await one.account("ann"), await one.account("bob")
    async with trio.open_nursery() as nursery:
        for number in range(DROP_AT_ONCE + 100):
            nursery.start_soon(pair[number % 2].deliver, ann.inbox, bob.inbox)
    job = DeleteAccountJob(
        ann.id, None, bytes, TokenCache(), barred_for=None, unless_used_since_s=None
    )
    assert (await one.store._writer.do(job)).departing == [ann.inbox]
    async with trio.open_nursery() as nursery:
        for stores in (one, other):
            nursery.start_soon(drain_all, stores.store._writer, stores.store.mail._reader)
    for stores in pair:
        await stores.store.sweep()
        await stores.store.sweep()
        await check_index_equals_database(stores)
        opened = await stores.mail.open(bob.id, "INBOX")
        await opened.load([1])
        entry = opened.entry(1)
        assert (await stores.mail.read(entry, 0, entry.size)).endswith(b"hello\r\n")
    rows = await one.store.upkeep._reader.query(
        lambda connection: connection.exec_driver_sql(
            "SELECT count(*), min(refs), max(refs) FROM blobs"
        ).fetchall()
    )
    assert [tuple(row) for row in rows] == [(DROP_AT_ONCE + 100, 1, 1)]
