"""Contract of `Intake` and `BlobStore`."""

from __future__ import annotations

import attrs
import pytest
import trio

from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.message import Body
from chatmail.domain.ports.intake import Delivery, IntakeBatch
from chatmail.domain.usecases.intake import NOWHERE
from tests.unit.ports.world import HEADER, NOW_S, Stores, make_report


async def test_what_was_committed_can_be_read(stores: Stores) -> None:
    account = await stores.account()
    (receipt,) = await stores.deliver(account.inbox, content=b"octets \x00\xff\r\n")
    opened = await stores.mail.open(account.id, "INBOX")
    entry = opened.entry(receipt.uid)
    assert entry.size == len(HEADER) + 11
    assert entry.header_size == len(HEADER)
    assert entry.internal_date_s == NOW_S
    assert await stores.mail.read(entry, 0, entry.size) == HEADER + b"octets \x00\xff\r\n"


async def test_one_message_lands_in_every_mailbox_in_order(stores: Stores) -> None:
    ann, bob = await stores.account("ann"), await stores.account("bob")
    receipts = await stores.deliver(bob.inbox, ann.inbox)
    assert [receipt.mailbox for receipt in receipts] == [bob.inbox, ann.inbox]
    assert [receipt.uid for receipt in receipts] == [1, 1]


async def test_a_mailbox_that_went_away_gets_none_and_the_others_their_copy(
    stores: Stores,
) -> None:
    ann = await stores.account()
    other = await stores.mail.create(ann.id, "Other", None, NOW_S)
    await stores.mail.delete(ann.id, "Other")
    first, second = await stores.deliver(other.id, ann.inbox)
    assert first is None
    assert second.uid == 1


async def test_two_commits_of_one_caller_keep_their_order(stores: Stores) -> None:
    ann, bob = await stores.account("ann"), await stores.account("bob")
    for number in range(5):
        await stores.deliver(ann.inbox, bob.inbox, content=b"%d" % number)
    for account in (ann, bob):
        opened = await stores.mail.open(account.id, "INBOX")
        uids, count = opened.uids()
        assert list(uids[:count]) == [1, 2, 3, 4, 5]
        last = opened.entry(5)
        assert (await stores.mail.read(last, last.header_size, 9)) == b"4"


async def test_hints_are_out_and_the_message_visible_when_commit_returns(stores: Stores) -> None:
    account = await stores.account()
    opened = await stores.mail.open(account.id, "INBOX")
    before = opened.info().highest_modseq
    seen = []
    with stores.hints.subscribe(account.inbox, lambda: seen.append(opened.info().messages)):
        await stores.deliver(account.inbox)
    assert seen == [1]
    assert stores.hints.published[-1].modseq == opened.info().highest_modseq == before + 1


async def test_a_delivery_can_carry_flags(stores: Stores) -> None:
    account = await stores.account()
    (receipt,) = await stores.deliver(
        account.inbox, flags=frozenset({"\\Seen", "\\Deleted", "$Work"})
    )
    opened = await stores.mail.open(account.id, "INBOX")
    assert opened.entry(receipt.uid).flags == {"\\Seen", "\\Deleted", "$Work"}
    assert list(opened.keywords()) == ["$Work"]
    assert (opened.info().unseen, opened.info().deleted) == (0, 1)


async def test_a_cancelled_caller_waits_for_its_commit(stores: Stores) -> None:
    account = await stores.account()
    with trio.CancelScope() as scope:

        async def cancel_soon() -> None:
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_soon)
            await stores.deliver(account.inbox)
    info = await stores.mail.info(account.id, "INBOX")
    assert info.messages in (0, 1)


async def test_a_spooled_message_is_stored_whole(stores: Stores) -> None:
    account = await stores.account()
    chunks = [bytes([number]) * 50_000 for number in range(8)]
    async with stores.blobs.spool() as spool:
        for chunk in chunks:
            await spool.write(memoryview(chunk))
        body = await spool.seal(HEADER)
        assert body.size == len(HEADER) + 400_000
        batch = IntakeBatch(body=body, internal_date_s=NOW_S, deliveries=(Delivery(account.inbox),))
        (receipt,) = await stores.intake.commit(batch)
    opened = await stores.mail.open(account.id, "INBOX")
    entry = opened.entry(receipt.uid)
    assert entry.size == body.size
    assert await stores.mail.read(entry, 0, entry.size) == HEADER + b"".join(chunks)
    assert await stores.mail.read(entry, len(HEADER) + 99_999, 2) == b"\x01\x02"


async def test_a_report_needs_no_delivery(stores: Stores) -> None:
    await stores.account()
    batch = IntakeBatch(
        body=Body(HEADER, (), 0), internal_date_s=NOW_S, deliveries=(), reports=(make_report(),)
    )
    assert await stores.intake.commit(batch) == ()
    assert await stores.queue.next_due_s() == NOW_S + 2


async def test_a_commit_can_settle_a_queue_entry_and_delivers_only_what_was_owed(
    stores: Stores,
) -> None:
    ann = await stores.account()
    await stores.deliver(ann.inbox, reports=(make_report(due_s=NOW_S),))
    (entry,) = await stores.queue.claim(NOW_S, 10, 60)
    batch = IntakeBatch(
        body=Body(HEADER, (b"report\r\n",), 8),
        internal_date_s=NOW_S,
        deliveries=(Delivery(ann.inbox),),
        settles=entry.id,
    )
    (receipt,) = await stores.intake.commit(batch)
    assert receipt is not None
    assert await stores.queue.next_due_s() is None
    assert await stores.intake.commit(batch) == (None,)
    assert (await stores.mail.info(ann.id, "INBOX")).messages == 2


async def test_a_report_claimed_for_a_deleted_account_never_reaches_its_successor(
    stores: Stores,
) -> None:
    ann = await stores.account()
    await stores.deliver(ann.inbox, reports=(make_report(due_s=NOW_S),))
    (entry,) = await stores.queue.claim(NOW_S, 10, 60)
    await stores.accounts.delete(ann.id, None)
    other = await stores.account()
    batch = IntakeBatch(
        body=Body(HEADER, (), 0),
        internal_date_s=NOW_S,
        deliveries=(Delivery(other.inbox),),
        settles=entry.id,
    )
    assert await stores.intake.commit(batch) == (None,)


async def test_several_messages_land_in_their_order_in_one_commit(stores: Stores) -> None:
    ann, bob = await stores.account("ann"), await stores.account("bob")
    async with stores.blobs.spool() as spool:
        await spool.write(b"large")
        large = await spool.seal(HEADER)
        bodies = [Body(HEADER, (b"one",), 3), large, Body(HEADER, (b"three",), 5)]
        receipts = await stores.intake.commit_all(
            [
                IntakeBatch(
                    body=body,
                    internal_date_s=NOW_S,
                    deliveries=(Delivery(ann.inbox), Delivery(bob.inbox)),
                )
                for body in bodies
            ]
        )
    assert [[one.uid for one in row] for row in receipts] == [[1, 1], [2, 2], [3, 3]]
    for account in (ann, bob):
        opened = await stores.mail.open(account.id, "INBOX")
        found = [opened.entry(uid) for uid in (1, 2, 3)]
        contents = [await stores.mail.read(one, one.header_size, 99) for one in found]
        assert contents == [b"one", b"large", b"three"]


async def test_of_several_messages_none_lands_when_one_cannot_be_stored(stores: Stores) -> None:
    ann = await stores.account()
    if stores.store is None:
        pytest.skip("nothing in memory can refuse a value")
    good = IntakeBatch(
        body=Body(HEADER, (b"one",), 3), internal_date_s=NOW_S, deliveries=(Delivery(ann.inbox),)
    )
    bad = attrs.evolve(good, internal_date_s=2**70)
    with pytest.raises(TransientFailure):
        await stores.intake.commit_all([good, bad])
    assert (await stores.mail.info(ann.id, "INBOX")).messages == 0
    ((receipt,),) = await stores.intake.commit_all([good])
    assert receipt.uid == 1
    assert await stores.intake.commit_all([]) == ()


async def test_a_mailbox_that_never_was_gets_none_and_its_message_leaves_nothing(
    stores: Stores,
) -> None:
    """Mail to nobody goes there: the same work as for somebody takes the same time."""
    ann = await stores.account()
    assert await stores.deliver(NOWHERE, reports=(make_report("x@peer.example"),)) == (None,)
    (claimed,) = await stores.queue.claim(NOW_S + 10, 5, 60.0)
    assert str(claimed.report.sender) == "x@peer.example"
    (receipt,) = await stores.deliver(ann.inbox)
    assert receipt.uid == 1
