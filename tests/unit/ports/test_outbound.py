"""Contract of `OutboundQueue`: what an intake commits for it, and what may be claimed."""

from __future__ import annotations

import attrs

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.message import Body
from chatmail.domain.model.outbound import (
    OutboundEntry,
    OutboundMessageId,
    QueuedMessage,
    QueueFilter,
    Waiting,
)
from chatmail.domain.ports.intake import Delivery, IntakeBatch
from tests.unit.ports.queueing import BOB, EVERYTHING, claim, named, names_of, settled
from tests.unit.ports.world import HEADER, NOW_S, Stores, make_outbound, make_report


# What an intake commits
async def test_an_entry_comes_back_as_it_was_committed(stores: Stores) -> None:
    prefix = b"DKIM-Signature: v=1\r\n"
    await stores.deliver(outbound=make_outbound(2**62 + 5, prefix=prefix), content=b"hello\r\n")
    (entry,) = await claim(stores)
    assert entry == OutboundEntry(
        message=QueuedMessage(
            id=OutboundMessageId(2**62 + 5),
            reverse_path=EmailAddress.parse("ann@relay.test"),
            created_s=NOW_S,
            prefix=prefix,
            is_report=False,
            size=len(HEADER) + 7,
            header_size=len(HEADER),
        ),
        recipient=BOB,
        attempts=0,
        due_s=NOW_S,
    )
    assert entry.domain == "peer.test"
    assert await stores.outbound.read(entry.message.id, 0, 1000) == HEADER + b"hello\r\n"
    assert await stores.outbound.read(entry.message.id, len(HEADER), 3) == b"hel"


async def test_what_waits_of_one_author_is_counted(stores: Stores) -> None:
    ann, eve = EmailAddress.parse("ann@relay.test"), EmailAddress.parse("eve@relay.test")
    waiting = stores.outbound.waiting
    assert await waiting(ann) == Waiting(0, 0)
    peers = ("bob@peer.test", "x@other.test")
    await stores.deliver(outbound=make_outbound(1, *peers), content=b"hello\r\n")
    await stores.deliver(outbound=make_outbound(2), content=b"more\r\n")
    await stores.deliver(outbound=make_outbound(3, sender=str(eve)), content=b"of eve\r\n")
    await stores.deliver(outbound=make_outbound(4, sender=None, is_report=True))
    assert await waiting(ann) == Waiting(3, 2 * len(HEADER) + 13)
    assert await waiting(eve) == Waiting(1, len(HEADER) + 8)
    await stores.outbound.settle(settled(*await claim(stores, "other.test")))
    assert await waiting(ann) == Waiting(2, 2 * len(HEADER) + 13)
    await stores.outbound.remove(QueueFilter(sender=str(ann)))
    assert await waiting(ann) == Waiting(0, 0)


async def test_a_report_without_a_sender_keeps_its_null_reverse_path(stores: Stores) -> None:
    await stores.deliver(outbound=make_outbound(1, sender=None, is_report=True))
    (entry,) = await claim(stores)
    assert entry.message.reverse_path is None
    assert entry.message.is_report


async def test_local_copies_and_entries_share_one_commit_and_one_content(stores: Stores) -> None:
    account = await stores.account()
    (receipt,) = await stores.deliver(
        account.inbox, outbound=make_outbound(1, "bob@peer.test", "eve@other.test")
    )
    assert receipt is not None
    mailbox = await stores.mail.open(account.id, "INBOX")
    assert await stores.mail.read(mailbox.entry(receipt.uid), 0, 9) == HEADER[:9]
    assert await stores.outbound.read(OutboundMessageId(1), 0, 9) == HEADER[:9]
    assert [one.domain for one in await stores.outbound.backlogs()] == ["other.test", "peer.test"]
    mailbox.close()


async def test_a_recipient_named_twice_is_queued_once(stores: Stores) -> None:
    await stores.deliver(outbound=make_outbound(1, "bob@peer.test", "bob@peer.test"))
    assert named(await claim(stores)) == [(1, "bob@peer.test")]


async def test_a_message_for_nobody_elsewhere_is_not_queued(stores: Stores) -> None:
    nobody = attrs.evolve(make_outbound(), recipients=())
    await stores.deliver(outbound=nobody)
    assert await stores.outbound.message(nobody.id) is None
    assert await stores.outbound.backlogs() == []


async def test_an_answer_whose_entry_is_gone_queues_nothing(stores: Stores) -> None:
    account = await stores.account()
    await stores.deliver(account.inbox, reports=(make_report(due_s=NOW_S),))
    (owed,) = await stores.queue.claim(NOW_S, 1, 60)
    answer = IntakeBatch(
        body=Body(HEADER, (b"x\r\n",), 3),
        internal_date_s=NOW_S,
        deliveries=(),
        outbound=make_outbound(1, sender=None, is_report=True),
        settles=owed.id,
    )
    await stores.intake.commit(answer)
    assert await names_of(stores) == [(1, "bob@peer.test")]
    assert await stores.queue.next_due_s() is None
    await stores.intake.commit(attrs.evolve(answer, outbound=make_outbound(2)))
    assert await names_of(stores) == [(1, "bob@peer.test")]


async def test_a_spooled_message_can_be_queued_without_a_local_copy(stores: Stores) -> None:
    content = b"large line\r\n" * 120_000
    async with stores.blobs.spool() as spool:
        await spool.write(content)
        body = await spool.seal(HEADER)
        await stores.intake.commit(
            IntakeBatch(body=body, internal_date_s=NOW_S, deliveries=(), outbound=make_outbound(7))
        )
    (entry,) = await claim(stores)
    assert entry.message.size == len(HEADER) + len(content)
    whole = b""
    while piece := await stores.outbound.read(entry.message.id, len(whole), 65536):
        whole += piece
    assert whole == HEADER + content


# Once
async def once(stores: Stores, mailbox: int, key: bytes) -> bool:
    (receipt,) = await stores.intake.commit(
        IntakeBatch(
            body=Body(HEADER, (b"x\r\n",), 3),
            internal_date_s=int(stores.clock.now_s()),
            deliveries=(Delivery(mailbox, once=key),),
        )
    )
    return receipt is not None


async def test_a_copy_is_delivered_once_within_48_hours(stores: Stores) -> None:
    account = await stores.account()
    assert await once(stores, account.inbox, b"k1")
    assert not await once(stores, account.inbox, b"k1")
    assert await once(stores, account.inbox, b"k2")
    stores.clock.time_s += 48 * 3600 - 1
    assert not await once(stores, account.inbox, b"k1")
    stores.clock.time_s += 1
    assert await once(stores, account.inbox, b"k1")
    assert not await once(stores, account.inbox, b"k1")
    assert (await stores.mail.info(account.id, "INBOX")).messages == 3


async def test_a_copy_that_found_no_mailbox_does_not_count_as_delivered(stores: Stores) -> None:
    account = await stores.account()
    assert not await once(stores, account.inbox + 1000, b"k")
    assert await once(stores, account.inbox, b"k")


async def test_two_copies_with_one_key_in_one_message_are_one(stores: Stores) -> None:
    account = await stores.account()
    receipts = await stores.intake.commit(
        IntakeBatch(
            body=Body(HEADER, (b"x\r\n",), 3),
            internal_date_s=NOW_S,
            deliveries=(Delivery(account.inbox, once=b"k"), Delivery(account.inbox, once=b"k")),
        )
    )
    assert [receipt is None for receipt in receipts] == [False, True]


# Claims
async def test_a_claimed_entry_comes_back_after_the_lease(stores: Stores) -> None:
    await stores.deliver(outbound=make_outbound())
    assert len(await claim(stores)) == 1
    assert await claim(stores, now_s=NOW_S + 59.5) == []
    assert await stores.outbound.next_due_s() == NOW_S + 60
    (again,) = await claim(stores, now_s=NOW_S + 60)
    assert again.attempts == 0


async def test_what_is_not_due_or_for_others_is_not_claimed(stores: Stores) -> None:
    await stores.deliver(outbound=make_outbound(1, due_s=NOW_S + 10.5))
    await stores.deliver(outbound=make_outbound(2, "eve@other.test"))
    assert await claim(stores) == []
    assert await claim(stores, now_s=NOW_S + 10.4) == []
    assert named(await claim(stores, now_s=NOW_S + 10.5)) == [(1, "bob@peer.test")]


async def test_an_entry_inserted_with_a_lease_is_nobody_elses_until_it_ends(
    stores: Stores,
) -> None:
    await stores.deliver(outbound=make_outbound(leased_until_s=NOW_S + 30))
    assert await claim(stores) == []
    assert await stores.outbound.next_due_s() == NOW_S + 30
    assert named(await claim(stores, now_s=NOW_S + 30)) == [(1, "bob@peer.test")]


async def test_small_messages_come_before_large_ones_and_old_before_new(stores: Stores) -> None:
    large = b"x" * 65536
    await stores.deliver(outbound=make_outbound(1, created_s=NOW_S - 9), content=large)
    await stores.deliver(outbound=make_outbound(2, created_s=NOW_S - 5), content=large)
    await stores.deliver(outbound=make_outbound(3, created_s=NOW_S - 1))
    await stores.deliver(outbound=make_outbound(4, created_s=NOW_S - 3))
    assert [id for id, _ in named(await claim(stores, limit=3))] == [4, 3, 1]
    assert [id for id, _ in named(await claim(stores, limit=3))] == [2]


async def test_a_message_of_64_kib_is_large(stores: Stores) -> None:
    content = b"x" * (65536 - len(HEADER))
    await stores.deliver(outbound=make_outbound(1, created_s=NOW_S - 9), content=content)
    await stores.deliver(outbound=make_outbound(2, created_s=NOW_S - 5), content=content[1:])
    assert [id for id, _ in named(await claim(stores))] == [2, 1]


async def test_expired_entries_are_claimed_due_or_not(stores: Stores) -> None:
    await stores.deliver(outbound=make_outbound(1, created_s=NOW_S - 200, due_s=NOW_S + 999))
    await stores.deliver(outbound=make_outbound(2, created_s=NOW_S - 300, due_s=NOW_S + 999))
    await stores.deliver(outbound=make_outbound(3, created_s=NOW_S - 199))
    await stores.deliver(outbound=make_outbound(4, created_s=NOW_S - 250, is_report=True))
    await stores.deliver(outbound=make_outbound(5, created_s=NOW_S - 99, is_report=True))
    expired = stores.outbound.claim_expired
    found = await expired(NOW_S, NOW_S - 199, NOW_S - 99, 60, 2)
    assert [int(entry.message.id) for entry in found] == [2, 4]
    found = await expired(NOW_S, NOW_S - 199, NOW_S - 99, 60, 2)
    assert [int(entry.message.id) for entry in found] == [1]
    assert await expired(NOW_S, NOW_S - 199, NOW_S - 99, 60, 2) == []


async def test_held_entries_do_not_expire(stores: Stores) -> None:
    await stores.deliver(outbound=make_outbound(1, created_s=NOW_S - 200))
    await stores.outbound.hold(EVERYTHING, is_held=True)
    assert await stores.outbound.claim_expired(NOW_S, NOW_S, NOW_S, 60, 9) == []
