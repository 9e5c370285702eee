"""Contract of `ReportQueue`."""

from __future__ import annotations

import trio
import trio.testing

from tests.unit.ports.world import NOW_S, Stores, make_report


async def test_a_report_comes_back_as_it_was_owed(stores: Stores) -> None:
    ann = await stores.account()
    await stores.deliver(ann.inbox, reports=(make_report(),))
    assert await stores.queue.claim(NOW_S + 1, 10, 60) == []
    (entry,) = await stores.queue.claim(NOW_S + 2, 10, 60)
    assert entry.report == make_report()
    assert entry.attempts == 0


async def test_a_claim_that_is_not_settled_comes_back_after_the_lease(stores: Stores) -> None:
    ann = await stores.account()
    await stores.deliver(ann.inbox, reports=(make_report(due_s=NOW_S),))
    (first,) = await stores.queue.claim(NOW_S, 10, 60)
    assert await stores.queue.claim(NOW_S + 59, 10, 60) == []
    assert await stores.queue.next_due_s() == NOW_S + 60
    (again,) = await stores.queue.claim(NOW_S + 60, 10, 60)
    assert again.id == first.id
    assert again.attempts == 1


async def test_settled_entries_are_gone(stores: Stores) -> None:
    ann = await stores.account()
    await stores.deliver(ann.inbox, reports=(make_report(due_s=NOW_S),))
    (entry,) = await stores.queue.claim(NOW_S, 10, 60)
    await stores.queue.settle(entry.id)
    assert await stores.queue.claim(NOW_S + 1000, 10, 60) == []
    assert await stores.queue.next_due_s() is None


async def test_postponed_entries_wait(stores: Stores) -> None:
    ann = await stores.account()
    await stores.deliver(ann.inbox, reports=(make_report(due_s=NOW_S),))
    (entry,) = await stores.queue.claim(NOW_S, 10, 60)
    await stores.queue.postpone(entry.id, NOW_S + 500)
    assert await stores.queue.next_due_s() == NOW_S + 500
    assert await stores.queue.claim(NOW_S + 499, 10, 60) == []
    (again,) = await stores.queue.claim(NOW_S + 500, 10, 60)
    assert again.attempts == 1


async def test_the_oldest_due_come_first_up_to_the_limit(stores: Stores) -> None:
    ann = await stores.account()
    for due_s in (NOW_S + 3, NOW_S + 1, NOW_S + 2):
        await stores.deliver(ann.inbox, reports=(make_report(due_s=due_s),))
    claimed = await stores.queue.claim(NOW_S + 9, 2, 60)
    assert [entry.report.due_s for entry in claimed] == [NOW_S + 1, NOW_S + 2]


async def test_waiting_ends_with_the_next_report(stores: Stores) -> None:
    ann = await stores.account()
    with trio.fail_after(60):
        await stores.deliver(ann.inbox, reports=(make_report(),))
        await stores.queue.wait_for_more()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stores.queue.wait_for_more)
            await trio.testing.wait_all_tasks_blocked() if stores.store else None
            await stores.deliver(ann.inbox, reports=(make_report(),))
