"""QRESYNC: known sets, sequence match data, against a plain reading of RFC 7162."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.model.mailbox import MailboxEntry, Modseq, Uid
from chatmail.domain.wire.imap.commands import QresyncParameter
from chatmail.domain.wire.imap.resync import (
    among,
    changed_for,
    expunged_for,
    names_numbers,
    without_star,
)
from chatmail.domain.wire.imap.search_keys import (
    SearchAll,
    SearchAnd,
    SearchFlag,
    SearchNot,
    SearchOr,
    SearchSet,
)
from chatmail.domain.wire.imap.sequence import SAVED, SequenceSet, parse_sequence_set


def parsed(text: str) -> SequenceSet:
    found = parse_sequence_set(text.encode())
    assert found is not None
    return found


def known(uids: str = "", match: tuple[str, str] | None = None) -> QresyncParameter:
    return QresyncParameter(
        1,
        1,
        parsed(uids) if uids else None,
        (parsed(match[0]), parsed(match[1])) if match else None,
    )


def entry(uid: int) -> MailboxEntry:
    return MailboxEntry(Uid(uid), Modseq(1), frozenset(), 1, 1, 0, None)


def told(parameter: QresyncParameter, present: list[int], expunged: list[int]) -> list[int]:
    return list(
        map(int, expunged_for(parameter, list(map(Uid, expunged)), present, len(present)))  # type: ignore[arg-type]
    )


def test_only_known_uids_are_told() -> None:
    assert told(known(), [4], [1, 2, 9]) == [1, 2, 9]
    assert told(known("2:5,9:4294967295"), [4], [1, 2, 9]) == [2, 9]
    entries = [entry(1), entry(4), entry(7)]
    assert changed_for(known(), entries) == entries
    assert changed_for(known("4:5,9"), entries) == [entry(4)]


def test_the_example_of_the_standard_names_nothing_below_a_match() -> None:
    """RFC 7162 §3.2.5.2: fourth message has UID 8, the twelfth is not 24 but 25."""
    present = [1, 3, 5, 8, 10, 11, 14, 16, 18, 20, 22, 25]
    expunged = [2, 4, 6, 7, 9, 24]
    assert told(known(match=("4,12", "8,24")), present, expunged) == [9, 24]


def test_every_third_uid_with_much_match_data_leaves_nothing() -> None:
    """RFC 7162 §3.2.5.2, second example."""
    present = [3 * number for number in range(1, 10004)]
    expunged = [uid for uid in range(1, 30013) if uid % 3]
    match = (
        "5000,7500,9000,9990:9999",
        "15000,22500,27000,29970,29973,29976,29979,29982,29985,29988,29991,29994,29997",
    )
    assert told(known("1:29997", match), present, expunged) == []
    assert len(told(known("1:29997"), present, expunged)) == 2 * 9999


@pytest.mark.parametrize(
    "match",
    [
        pytest.param(("1:4294967295", "1:4294967295"), id="huge runs"),
        pytest.param(("4294967295", "4294967295"), id="numbers beyond the mailbox"),
        pytest.param(("1,2,3", "1"), id="sets of different length"),
        pytest.param(("9:1", "9:1"), id="descending"),
    ],
)
def test_match_data_that_makes_no_sense_costs_nothing(match: tuple[str, str]) -> None:
    assert told(known(match=match), [1, 5, 9], [2, 6]) in ([2, 6], [6])


@given(
    st.sets(st.integers(1, 40), max_size=40),
    st.sets(st.integers(1, 40)),
    st.sets(st.integers(0, 39), max_size=12),
)
def test_match_data_hides_only_what_the_client_knows(
    before: set[int], gone: set[int], sample: set[int]
) -> None:
    """A client that knew `before` is told every message of it that went, whatever it samples."""
    then = sorted(before)
    present = sorted(before - gone)
    expunged = sorted(before & gone)
    places = sorted(place for place in sample if place < len(then))
    match = None
    if places:
        match = (
            ",".join(str(place + 1) for place in places),
            ",".join(str(then[place]) for place in places),
        )
    hidden = told(known(match=match), present, expunged)
    assert hidden == expunged


@given(
    st.sets(st.integers(1, 40), max_size=40),
    st.lists(st.tuples(*[st.integers(1, 40)] * 2)),
    st.data(),
)
def test_the_highest_match_is_found_as_by_counting(
    present: set[int], runs: list[tuple[int, int]], data: st.DataObject
) -> None:
    uids = sorted(present)
    numbers, claimed = [], []
    for first, uid in runs:
        length = data.draw(st.integers(1, 6))
        numbers.append((first, first + length - 1))
        claimed.append((uid, uid + length - 1))
    if not runs:
        return
    match = QresyncParameter(1, 1, None, (SequenceSet(tuple(numbers)), SequenceSet(tuple(claimed))))
    floor = max(
        (
            uid + step
            for (first, last), (uid, _) in zip(numbers, claimed, strict=True)
            for step in range(last - first + 1)
            if first + step <= len(uids) and uids[first + step - 1] == uid + step
        ),
        default=0,
    )
    everything = list(range(1, 50))
    assert told(match, uids, everything) == [uid for uid in everything if uid > floor]


def test_a_star_is_the_highest_uid_that_was_told() -> None:
    asked = without_star(parsed("1,5:*"), 9)
    assert [int(uid) for uid in among(asked, [Uid(uid) for uid in range(1, 20)])] == [
        1,
        *range(5, 10),
    ]
    assert among(without_star(SAVED, 9), [Uid(3)]) == []


def test_search_keys_with_message_numbers() -> None:
    numbers = SearchSet(parsed("1:3"), by_uid=False)
    uids = SearchSet(parsed("1:3"), by_uid=True)
    assert names_numbers(numbers)
    assert names_numbers(SearchAnd((SearchAll(), SearchNot(numbers))))
    assert names_numbers(SearchOr(uids, numbers))
    assert not names_numbers(SearchAnd((uids, SearchFlag("\\Seen", True))))
    assert not names_numbers(SearchSet(SAVED, by_uid=False))
