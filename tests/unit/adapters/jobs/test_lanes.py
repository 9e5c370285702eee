"""Whose turn it is, and what is in hand."""

from __future__ import annotations

import math

from chatmail.adapters.jobs.lanes import IDLE_S, SMALL_BYTES, LaneTable, LetterInHand
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.outbound import OutboundEntry, OutboundMessageId, QueuedMessage


async def nothing(offset: int, length: int) -> bytes:
    raise AssertionError


def letter(domain: str, sender: str = "", size: int = 1) -> LetterInHand:
    message = QueuedMessage(
        id=OutboundMessageId(1),
        reverse_path=EmailAddress("alice", sender) if sender else None,
        created_s=0,
        prefix=b"",
        is_report=False,
        size=size,
        header_size=1,
    )
    recipient = EmailAddress("bob", domain)
    entry = OutboundEntry(message=message, recipient=recipient, attempts=0, due_s=0.0)
    return LetterInHand(entries=(entry,), read=nothing, leased_until_s=0.0)


def test_a_new_lane_is_next_and_one_that_was_served_is_last() -> None:
    table = LaneTable()
    first, second = table.lane("a.test"), table.lane("b.test")
    assert table.in_turn() == [second, first]
    table.add(second, [letter("b.test"), letter("b.test")])
    taken = table.take(second)
    assert taken is not None
    assert taken.domain == "b.test"
    assert table.in_turn() == [first, second]
    assert table.lane("a.test") is first
    assert table.known("c.test") is None


def test_counters_follow_every_letter() -> None:
    table = LaneTable()
    lane = table.lane("a.test")
    table.add(lane, [letter("a.test") for _ in range(3)])
    assert table.waiting == 3
    taken = table.take(lane)
    assert taken is not None
    table.begin(lane, taken)
    assert (table.waiting, table.under_way, lane.under_way) == (2, 1, 1)
    assert len(table.take_all(lane)) == 2
    table.end(lane, taken)
    assert (table.waiting, table.under_way, lane.under_way) == (0, 0, 0)


def test_lanes_nothing_is_known_of_are_forgotten_when_their_wake_up_may_be() -> None:
    table = LaneTable()
    for name in ("gone.test", "woken.test", "due.test", "full.test", "busy.test"):
        table.lane(name)
    table.lane("woken.test").flushed_at = 100.0
    table.lane("due.test").next_due_s = 5.0
    table.add(table.lane("full.test"), [letter("full.test")])
    table.begin(table.lane("busy.test"), letter("busy.test"))
    table.forget_empty(100.0)
    assert table.known("gone.test") is None
    assert {lane.domain for lane in table.in_turn()} == {
        "woken.test",
        "due.test",
        "full.test",
        "busy.test",
    }
    table.forget_empty(100.0 + IDLE_S)
    assert table.known("woken.test") is None
    assert table.lane("gone.test").next_due_s == math.inf


def test_chat_of_one_sender_goes_one_after_another_and_files_beside_it() -> None:
    table = LaneTable()
    lane = table.lane("a.test")
    first, second = letter("a.test", "x.test"), letter("a.test", "x.test")
    large, other = letter("a.test", "x.test", SMALL_BYTES), letter("a.test", "y.test")
    report, again = letter("a.test"), letter("a.test")
    table.add(lane, [first, second, large, other, report, again])
    order = []
    while (taken := table.take(lane)) is not None:
        table.begin(lane, taken)
        order.append(taken)
    assert order == [first, large, other, report, again]
    table.end(lane, large)
    assert table.take(lane) is None
    table.end(lane, first)
    assert table.take(lane) is second
