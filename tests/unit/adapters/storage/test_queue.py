"""The table of reports: rows nobody can read, and clocks that ran ahead."""

from __future__ import annotations

import pytest

from chatmail.adapters.storage.queue import LONGEST_WAIT_S
from tests.unit.adapters.storage.conftest import Opener
from tests.unit.ports.world import NOW_S, Stores, make_report


def execute(stores: Stores, statement: str) -> None:
    connection = stores.store._writer._committer._database.writer
    connection.exec_driver_sql(statement).close()


@pytest.mark.parametrize(
    "spoilt",
    ['failed = \'[["a@relay.test", "no such reason"]]\'', "failed = '{'", "sender = 'no address'"],
)
async def test_an_entry_that_cannot_be_read_is_dropped_and_hurts_nobody(
    opener: Opener, spoilt: str
) -> None:
    async with opener() as stores:
        account = await stores.account()
        await stores.deliver(account.inbox, reports=(make_report(due_s=NOW_S),))
        execute(stores, f"UPDATE reports SET {spoilt}")
        await stores.deliver(account.inbox, reports=(make_report(due_s=NOW_S),))
        (entry,) = await stores.queue.claim(NOW_S, 10, 60)
        assert entry.report == make_report(due_s=NOW_S)
        assert stores.log.events == ["report_unreadable"]
        await stores.queue.settle(entry.id)
        assert await stores.queue.next_due_s() is None
        assert stores.store.failed is None


async def test_a_clock_that_was_set_back_keeps_no_report_for_ever(opener: Opener) -> None:
    async with opener() as stores:
        account = await stores.account()
        ahead_s = NOW_S + LONGEST_WAIT_S + 1  # when the clock still ran ahead
        await stores.deliver(account.inbox, reports=(make_report(due_s=ahead_s),))
        assert await stores.queue.next_due_s() <= NOW_S
        (entry,) = await stores.queue.claim(NOW_S, 10, 60)
        await stores.queue.postpone(entry.id, NOW_S + 500)
        assert await stores.queue.next_due_s() == NOW_S + 500
        await stores.queue.claim(ahead_s + 1000, 10, 60)
        (again,) = await stores.queue.claim(NOW_S + 500, 10, 60)
        assert again.id == entry.id
