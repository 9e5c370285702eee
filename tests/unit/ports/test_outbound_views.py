"""Contract of `OutboundQueue`: what runners wait for, what operators see and do."""

from __future__ import annotations

import attrs
import pytest
import trio

from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.outbound import Backlog, OutboundMessageId, QueueFilter
from tests.unit.ports.queueing import EVERYTHING, claim, named, names_of
from tests.unit.ports.world import HEADER, NOW_S, Stores, make_outbound


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
