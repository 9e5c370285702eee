"""Contract of `OutboundQueue`, and of what an intake commits for it."""

from __future__ import annotations

import attrs
import pytest
import trio

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.federation import TransportKind
from chatmail.domain.model.message import Body
from chatmail.domain.model.outbound import (
    Backlog,
    LastAttempt,
    OutboundEntry,
    OutboundMessageId,
    QueuedMessage,
    QueueFilter,
    Settled,
    Settlement,
    SettlementKind,
    Waiting,
)
from chatmail.domain.model.queue import FailedRecipient
from chatmail.domain.model.verdict import RefusalReason
from chatmail.domain.ports.intake import Delivery, IntakeBatch
from tests.unit.ports.world import HEADER, NOW_S, Stores, make_outbound, make_report

EVERYTHING = QueueFilter()
BOB = EmailAddress.parse("bob@peer.test")
LAST = LastAttempt(
    at_s=NOW_S + 5, reply="450 4.2.0 later", transport=TransportKind.SMTP, host="mx.peer.test"
)
DELIVERED, RETRY, FAILED = SettlementKind.DELIVERED, SettlementKind.RETRY, SettlementKind.FAILED


async def claim(
    stores: Stores, domain: str = "peer.test", now_s: float = NOW_S, limit: int = 10
) -> list[OutboundEntry]:
    return await stores.outbound.claim(domain, now_s, 60, limit)


def named(entries: list[OutboundEntry]) -> list[tuple[int, str]]:
    return [(int(entry.message.id), str(entry.recipient)) for entry in entries]


def settled(
    *entries: OutboundEntry,
    kind: SettlementKind = DELIVERED,
    due_s: float = 0.0,
    last: LastAttempt | None = LAST,
) -> Settled:
    return Settled(
        entries=tuple(
            Settlement(
                message=entry.message.id,
                recipient=entry.recipient,
                kind=kind,
                due_s=due_s,
                last=last,
            )
            for entry in entries
        )
    )


async def names_of(stores: Stores, wanted: QueueFilter = EVERYTHING) -> list[tuple[int, str]]:
    return named(await stores.outbound.page(wanted, None, 100))


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


# What waits


async def test_backlogs_tell_what_waits_for_whom(stores: Stores) -> None:
    await stores.deliver(outbound=make_outbound(1, "bob@peer.test", "eve@other.test"))
    await stores.deliver(outbound=make_outbound(2, created_s=NOW_S - 5, due_s=NOW_S + 7.5))
    assert await stores.outbound.backlogs() == [
        Backlog(domain="other.test", entries=1, held=0, oldest_s=NOW_S, next_due_s=NOW_S),
        Backlog(domain="peer.test", entries=2, held=0, oldest_s=NOW_S - 5, next_due_s=NOW_S),
    ]
    await claim(stores)
    await stores.outbound.hold(QueueFilter(domain="other.test"), is_held=True)
    assert await stores.outbound.backlogs() == [
        Backlog(domain="other.test", entries=1, held=1, oldest_s=NOW_S, next_due_s=None),
        Backlog(domain="peer.test", entries=2, held=0, oldest_s=NOW_S - 5, next_due_s=NOW_S + 7.5),
    ]


async def test_a_lease_that_ran_out_counts_as_due(stores: Stores) -> None:
    await stores.deliver(outbound=make_outbound(leased_until_s=NOW_S + 30))
    (backlog,) = await stores.outbound.backlogs()
    assert backlog.next_due_s is None
    stores.clock.time_s += 30
    (backlog,) = await stores.outbound.backlogs()
    assert backlog.next_due_s == NOW_S


async def test_waking_a_destination_makes_what_waits_due(stores: Stores) -> None:
    await stores.deliver(outbound=make_outbound(1))
    await stores.deliver(outbound=make_outbound(2, due_s=NOW_S + 900))
    await stores.deliver(outbound=make_outbound(3, due_s=NOW_S + 900), content=b"x" * 70_000)
    await stores.deliver(outbound=make_outbound(4, "eve@other.test", due_s=NOW_S + 900))
    await stores.deliver(outbound=make_outbound(5, due_s=NOW_S + 900))
    await stores.outbound.hold(QueueFilter(message=OutboundMessageId(5)), is_held=True)
    await claim(stores)
    assert await stores.outbound.wake("peer.test", NOW_S + 1) == 2
    assert await stores.outbound.wake("peer.test", NOW_S + 1) == 0
    assert await stores.outbound.next_due_s() == NOW_S + 1
    assert [id for id, _ in named(await claim(stores, now_s=NOW_S + 1))] == [2, 3]
    assert await claim(stores, "other.test", now_s=NOW_S + 1) == []


async def test_waiting_ends_with_an_entry_that_is_free_or_made_due(stores: Stores) -> None:
    outbound = stores.outbound
    await stores.deliver(outbound=make_outbound(1, due_s=NOW_S + 60))
    await heard(stores)
    await stores.deliver(outbound=make_outbound(2, leased_until_s=NOW_S + 60))
    await silence(stores)
    await outbound.wake("peer.test", NOW_S)
    await heard(stores)
    await outbound.retry(QueueFilter(message=OutboundMessageId(1)), NOW_S)
    await heard(stores)
    await outbound.hold(EVERYTHING, is_held=True)
    await silence(stores)
    await outbound.hold(EVERYTHING, is_held=False)
    await heard(stores)


async def heard(stores: Stores) -> None:
    with trio.fail_after(60):
        await stores.outbound.wait_for_more()


async def silence(stores: Stores) -> None:
    with trio.move_on_after(0) as scope:
        await stores.outbound.wait_for_more()
    assert scope.cancelled_caught


# The operator


async def test_pages_follow_message_and_recipient(stores: Stores) -> None:
    await stores.deliver(outbound=make_outbound(2, "b@peer.test", "A-c@peer.test", "ab@x.test"))
    await stores.deliver(outbound=make_outbound(1, "z@peer.test"))
    expected = [(1, "z@peer.test"), (2, "a-c@peer.test"), (2, "ab@x.test"), (2, "b@peer.test")]
    assert await names_of(stores) == expected
    first = await stores.outbound.page(EVERYTHING, None, 2)
    after = (first[-1].message.id, first[-1].recipient)
    assert named(await stores.outbound.page(EVERYTHING, after, 2)) == expected[2:]


async def test_filters_match_what_they_name(stores: Stores) -> None:
    await stores.deliver(outbound=make_outbound(1, "bob@peer.test", "eve@x.test"))
    await stores.deliver(outbound=make_outbound(2, "bob@peer.test", sender="dan@relay.test"))
    await stores.deliver(outbound=make_outbound(3, sender=None))
    both = [(1, "bob@peer.test"), (2, "bob@peer.test"), (3, "bob@peer.test")]
    assert await names_of(stores, QueueFilter(domain="peer.test")) == both
    assert await names_of(stores, QueueFilter(sender="dan@relay.test")) == both[1:2]
    assert await names_of(stores, QueueFilter(recipient="eve@x.test")) == [(1, "eve@x.test")]
    one = QueueFilter(message=OutboundMessageId(1), domain="peer.test", sender="ann@relay.test")
    assert await names_of(stores, one) == both[:1]
    assert await names_of(stores, attrs.evolve(one, sender="dan@relay.test")) == []


async def test_a_message_is_shown_with_its_header_block(stores: Stores) -> None:
    await stores.deliver(outbound=make_outbound(1))
    found = await stores.outbound.message(OutboundMessageId(1))
    assert found is not None
    facts, header = found
    assert header == HEADER
    assert facts == (await claim(stores))[0].message
    assert await stores.outbound.message(OutboundMessageId(2)) is None


async def test_a_retry_by_hand_makes_due(stores: Stores) -> None:
    await stores.deliver(outbound=make_outbound(1, due_s=NOW_S + 900))
    await stores.deliver(outbound=make_outbound(2, due_s=NOW_S + 900))
    assert await stores.outbound.retry(QueueFilter(message=OutboundMessageId(2)), NOW_S) == 1
    assert named(await claim(stores)) == [(2, "bob@peer.test")]


async def test_held_entries_are_not_claimed_until_they_are_let_go(stores: Stores) -> None:
    await stores.deliver(outbound=make_outbound(1, "bob@peer.test", "eve@peer.test"))
    wanted = QueueFilter(recipient="bob@peer.test")
    assert await stores.outbound.hold(wanted, is_held=True) == 1
    assert await stores.outbound.hold(wanted, is_held=True) == 0
    assert named(await claim(stores)) == [(1, "eve@peer.test")]
    (held,) = await stores.outbound.page(wanted, None, 9)
    assert held.is_held
    assert await stores.outbound.next_due_s() == NOW_S + 60
    assert await stores.outbound.hold(EVERYTHING, is_held=False) == 1
    assert named(await claim(stores)) == [(1, "bob@peer.test")]


async def test_removing_forgets_entries_in_any_number(stores: Stores) -> None:
    recipients = [f"user{number:04}@peer.test" for number in range(1100)]
    await stores.deliver(outbound=make_outbound(1, *recipients, "eve@x.test"))
    assert await stores.outbound.remove(QueueFilter(domain="peer.test")) == 1100
    assert await names_of(stores) == [(1, "eve@x.test")]
    assert await stores.outbound.remove(EVERYTHING) == 1
    assert await stores.outbound.remove(EVERYTHING) == 0


async def test_what_an_account_has_on_its_way_goes_with_it(stores: Stores) -> None:
    ann = await stores.account()
    many = [f"user{number:04}@peer.test" for number in range(400)]
    for number in (1, 2, 3):
        await stores.deliver(outbound=make_outbound(number, *many))
    await stores.deliver(outbound=make_outbound(9, sender="dan@relay.test"))
    await stores.deliver(outbound=make_outbound(10, sender=None, is_report=True))
    await stores.accounts.delete(ann.id, None)
    assert await names_of(stores) == [(9, "bob@peer.test"), (10, "bob@peer.test")]
    with pytest.raises(TransientFailure):
        await stores.outbound.read(OutboundMessageId(1), 0, 1)
