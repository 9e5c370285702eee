"""Contract of `OutboundQueue`: how attempts are settled, and how long contents live."""

from __future__ import annotations

import attrs
import pytest
import trio

from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.outbound import QueueFilter
from chatmail.domain.model.queue import FailedRecipient
from chatmail.domain.model.verdict import RefusalReason
from tests.unit.ports.queueing import BOB, FAILED, LAST, RETRY, claim, named, names_of, settled
from tests.unit.ports.world import HEADER, NOW_S, Stores, make_outbound, make_report


# Settling
async def test_the_content_lives_as_long_as_an_entry_or_a_copy(stores: Stores) -> None:
    await stores.deliver(outbound=make_outbound(1, "bob@peer.test", "eve@peer.test"))
    first, second = await claim(stores)
    await stores.outbound.settle(settled(first))
    assert await stores.outbound.read(first.message.id, 0, 4) == HEADER[:4]
    await stores.outbound.settle(settled(second, kind=FAILED))
    with pytest.raises(TransientFailure):
        await stores.outbound.read(first.message.id, 0, 4)
    assert await stores.outbound.message(first.message.id) is None
    assert await stores.outbound.backlogs() == []
    assert await stores.outbound.next_due_s() is None


async def test_a_copy_outlives_the_queue_and_the_queue_a_copy(stores: Stores) -> None:
    account = await stores.account()
    receipts = [
        (await stores.deliver(account.inbox, outbound=make_outbound(number)))[0]
        for number in (1, 2)
    ]
    (first, _) = await claim(stores)
    await stores.outbound.settle(settled(first))
    mailbox = await stores.mail.open(account.id, "INBOX")
    kept, doomed = (mailbox.entry(receipt.uid) for receipt in receipts)
    assert await stores.mail.read(kept, 0, 4) == HEADER[:4]
    mailbox.close()
    assert doomed is not None
    await stores.mail.delete(account.id, "INBOX")  # refused; the mailbox goes with its account
    await stores.accounts.delete(account.id, None)
    assert await names_of(stores) == []


async def test_a_queued_message_outlives_its_expunged_copy(stores: Stores) -> None:
    ann, bob = await stores.account("ann"), await stores.account("bob")
    await stores.deliver(bob.inbox, outbound=make_outbound(1))
    await stores.accounts.delete(bob.id, None)
    assert ann.id != bob.id
    (entry,) = await claim(stores)
    assert await stores.outbound.read(entry.message.id, 0, 4) == HEADER[:4]


async def test_a_retry_waits_and_remembers_the_attempt(stores: Stores) -> None:
    await stores.deliver(outbound=make_outbound())
    (entry,) = await claim(stores)
    await stores.outbound.settle(settled(entry, kind=RETRY, due_s=NOW_S + 30.25))
    assert await stores.outbound.next_due_s() == NOW_S + 30.25
    assert await claim(stores, now_s=NOW_S + 30) == []
    (again,) = await claim(stores, now_s=NOW_S + 31)
    assert again == attrs.evolve(entry, attempts=1, due_s=NOW_S + 30.25, last=LAST)
    without = attrs.evolve(LAST, transport=None, host="")
    await stores.outbound.settle(settled(again, kind=RETRY, due_s=NOW_S + 40, last=without))
    (third,) = await claim(stores, now_s=NOW_S + 40)
    assert (third.attempts, third.last) == (2, without)


async def test_a_lease_handed_back_is_no_attempt(stores: Stores) -> None:
    await stores.deliver(outbound=make_outbound())
    (entry,) = await claim(stores)
    await stores.outbound.settle(settled(entry, kind=RETRY, due_s=NOW_S, last=None))
    assert await claim(stores) == [entry]


async def test_a_process_that_lives_keeps_what_it_has(stores: Stores) -> None:
    await stores.deliver(outbound=make_outbound())
    assert len(await stores.outbound.claim("peer.test", NOW_S, 60, 10)) == 1
    assert await stores.outbound.keep_alive() == 0
    assert await stores.outbound.claim("peer.test", NOW_S, 60, 10) == []


async def test_an_entry_that_is_gone_is_passed_over_and_its_report_is_owed(stores: Stores) -> None:
    await stores.deliver(outbound=make_outbound(1, "bob@peer.test", "eve@peer.test"))
    gone, left = await claim(stores)
    await stores.outbound.remove(QueueFilter(recipient="bob@peer.test"))
    failed = FailedRecipient(BOB, RefusalReason.REMOTE, "550 5.1.1 unknown", "mx.peer.test")
    report = attrs.evolve(make_report(due_s=NOW_S), failed=(failed,))
    both = settled(gone, left, kind=RETRY, due_s=NOW_S + 9)
    await stores.outbound.settle(attrs.evolve(both, reports=(report,)))
    assert named(await claim(stores, now_s=NOW_S + 9)) == [(1, "eve@peer.test")]
    with trio.fail_after(60):
        await stores.queue.wait_for_more()
    (owed,) = await stores.queue.claim(NOW_S, 9, 60)
    assert owed.report == report


async def test_many_entries_settle_in_one_transaction(stores: Stores) -> None:
    recipients = [f"user{number:04}@peer.test" for number in range(600)]
    await stores.deliver(outbound=make_outbound(1, *recipients))
    await stores.deliver(outbound=make_outbound(2))
    entries = await claim(stores, limit=601)
    assert len(entries) == 601
    await stores.outbound.settle(settled(*entries))
    assert await stores.outbound.backlogs() == []
