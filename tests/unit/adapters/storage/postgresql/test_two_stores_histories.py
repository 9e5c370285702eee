"""Two processes on one database: any history is that of one store, any crowd leaves them equal."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatmail.adapters.storage.postgresql.index import SharedIndex
from chatmail.adapters.storage.store import StoreOptions
from chatmail.domain.model.errors import MailboxGone
from chatmail.domain.model.retention import MessageRule
from tests import postgres
from tests.unit.adapters.storage.invariants import check_index_equals_database
from tests.unit.adapters.storage.test_histories import apply, attempt, seen_by, steps
from tests.unit.ports.world import NOW_S, Stores, empty_database, memory_stores, postgresql_stores


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(st.tuples(st.integers(0, 1), steps), max_size=15))
def test_two_stores_do_what_one_does(history) -> None:
    if reason := postgres.missing():
        pytest.skip(reason)
    trio.run(compare, history)


async def compare(history) -> None:
    options = StoreOptions(new_shared_index=lambda: SharedIndex(max_entries=6, max_mailboxes=3))
    with tempfile.TemporaryDirectory() as folder, empty_database() as url:
        async with (
            memory_stores(Path()) as model,
            postgresql_stores(Path(folder, "a"), options, url=url) as one,
            postgresql_stores(Path(folder, "b"), url=url) as other,
        ):
            opened = [{}, {}, {}]
            for which, step in history:
                if step in (("restart",), ("close",)):
                    continue
                expected = await apply(model, step, opened[2])
                assert await apply((one, other)[which], step, opened[which]) == expected, step
                for mailboxes in opened:
                    for name in [name for name, one_of in mailboxes.items() if is_gone(one_of)]:
                        del mailboxes[name]
                wanted = await seen_by(model, opened[2])
                for stores, mine in ((one, opened[0]), (other, opened[1])):
                    assert await seen_by(stores, mine) == wanted, step
                    await check_index_equals_database(stores)


def is_gone(mailbox) -> bool:
    try:
        mailbox.info()
    except MailboxGone:
        return True
    return False


upkeep = st.one_of(
    st.tuples(st.just("prune"), st.integers(0, 50), st.sampled_from((None, True, False))),
    st.tuples(st.just("sweep")),
    st.tuples(st.just("recount")),
    st.tuples(st.just("save shown")),
    st.tuples(st.just("leave")),
)
members = st.lists(st.tuples(st.integers(0, 1), steps | upkeep), min_size=2, max_size=7)


async def tend(stores: Stores, step) -> None:
    """Do what the application does now and then, or a change of the account."""
    what, *rest = step
    if what == "prune":
        rule = MessageRule(before_s=rest[0], is_seen=rest[1])
        cursor = None
        while True:
            step = await stores.store.retention.prune(rule, cursor)
            cursor = step.cursor
            if cursor is None:
                return
    elif what == "sweep":
        await stores.store.sweep()
    elif what == "recount":
        assert await stores.store.recount() == 0
    elif what == "save shown":
        await stores.store.retention.save_shown()
    elif what == "leave":
        account = await stores.account()
        await stores.accounts.delete(account.id, NOW_S + 9)
    else:
        await attempt(stores, (what, *rest))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(members, max_size=4))
def test_crowds_on_two_stores_leave_memory_and_database_equal(crowds) -> None:
    if reason := postgres.missing():
        pytest.skip(reason)
    trio.run(crowd, crowds)


async def crowd(crowds) -> None:
    with tempfile.TemporaryDirectory() as folder, empty_database() as url:
        async with (
            postgresql_stores(Path(folder, "a"), url=url) as one,
            postgresql_stores(Path(folder, "b"), url=url) as other,
        ):
            opened = [{}, {}]
            for members in crowds:
                async with trio.open_nursery() as nursery:
                    for which, step in members:
                        nursery.start_soon(tend, (one, other)[which], step)
                for stores, mine in ((one, opened[0]), (other, opened[1])):
                    await stores.mail.list((await stores.account()).id)
                    gone = [name for name, mailbox in mine.items() if is_gone(mailbox)]
                    if any(step == ("leave",) for _, step in members):
                        gone = list(mine)  # nobody knows how soon the other one hears of it
                    for name in gone:
                        del mine[name]
                    await seen_by(stores, mine)
                    await check_index_equals_database(stores)
            assert await one.store.recount() == 0
            assert not one.log.events
            assert not other.log.events
