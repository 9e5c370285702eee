from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.model.mailbox import Uid
from chatmail.domain.wire.imap.sequence import (
    MAX_NUMBER,
    SAVED,
    SequenceSet,
    contains,
    exceeds,
    format_set,
    parse_sequence_set,
    resolve,
    spans,
)

UIDS = [Uid(n) for n in (2, 3, 5, 8, 13)]


def asked(text: bytes) -> SequenceSet:
    parsed = parse_sequence_set(text)
    assert parsed is not None
    return parsed


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        (b"1", ((1, 1),)),
        (b"1:*", ((1, None),)),
        (b"*", ((None, None),)),
        (b"*:4,7", ((None, 4), (7, 7))),
        (b"4:2", ((4, 2),)),
        (b"4294967295", ((MAX_NUMBER, MAX_NUMBER),)),
    ],
)
def test_a_valid_set_keeps_its_ranges_as_sent(text, ranges):
    assert asked(text) == SequenceSet(ranges)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"0",
        b"01",
        b"1,",
        b",1",
        b"1:",
        b":1",
        b"1:2:3",
        b"4294967296",
        b"99999999999",
        b"1;2",
        b"-1",
        b"1:0",
        b"$,1",
        b"1 ",
        b"a",
        b"**",
    ],
)
def test_what_is_not_a_set_is_refused(text):
    assert parse_sequence_set(text) is None


def test_dollar_is_the_saved_result():
    assert parse_sequence_set(b"$") is SAVED


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(b"3", [3], id="one"),
        pytest.param(b"4", [], id="gap"),
        pytest.param(b"3:8", [3, 5, 8], id="range"),
        pytest.param(b"8:3", [3, 5, 8], id="reversed"),
        pytest.param(b"8,3,3,5:8", [3, 5, 8], id="duplicates-and-order"),
        pytest.param(b"*", [13], id="star"),
        pytest.param(b"*:8", [8, 13], id="star-first"),
        pytest.param(b"14:*", [13], id="rfc3501-6.4.8-beyond-last"),
        pytest.param(b"4294967295:*", [13], id="far-beyond-last"),
        pytest.param(b"14:500", [], id="range-entirely-above"),
        pytest.param(b"1:4294967295", [2, 3, 5, 8, 13], id="everything"),
    ],
)
def test_uid_sets_name_existing_messages_ascending_and_once(text, expected):
    assert resolve(asked(text), UIDS, len(UIDS), by_uid=True) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [(b"1", [2]), (b"2:3", [3, 5]), (b"*", [13]), (b"5:4", [8, 13]), (b"6", []), (b"4:9", [8, 13])],
)
def test_number_sets_name_positions(text, expected):
    assert resolve(asked(text), UIDS, len(UIDS), by_uid=False) == expected


def test_only_the_valid_items_of_a_shared_sequence_count():
    assert resolve(asked(b"1:*"), UIDS, 3, by_uid=True) == [2, 3, 5]
    assert resolve(asked(b"*"), UIDS, 3, by_uid=False) == [5]


@pytest.mark.parametrize("by_uid", [True, False])
def test_nothing_is_named_in_an_empty_mailbox(by_uid):
    assert resolve(asked(b"1:*,*"), [], 0, by_uid=by_uid) == []


def test_saved_result_names_what_is_still_there():
    saved = [Uid(3), Uid(4), Uid(5), Uid(13)]
    assert resolve(SAVED, UIDS, 5, by_uid=True, saved=saved) == [3, 5, 13]
    assert spans(SAVED, UIDS, 5, by_uid=False, saved=saved) == [(1, 3), (4, 5)]


def test_a_huge_range_is_not_iterated():
    uids = [Uid(1), Uid(MAX_NUMBER)]
    assert resolve(asked(b"1:4294967295"), uids, 2, by_uid=True) == uids


def test_sequence_numbers_beyond_the_last_message_are_told():
    assert exceeds(asked(b"1:6"), 5)
    assert exceeds(asked(b"*"), 0)
    assert exceeds(asked(b"7:*"), 5)
    assert not exceeds(asked(b"1:5,*"), 5)
    assert not exceeds(SAVED, 0)


def test_contains_looks_into_ranges_in_both_directions():
    assert contains(asked(b"1:3,9:7"), 8)
    assert not contains(asked(b"1:3,9:7"), 5)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([], b""),
        ([7], b"7"),
        ([1, 2, 3, 7], b"1:3,7"),
        ([1, 3, 4], b"1,3:4"),
        ([5, 4, 3], b"5,4,3"),
        ([MAX_NUMBER], b"4294967295"),
    ],
)
def test_format_set_joins_runs_and_keeps_order(numbers, expected):
    assert format_set(numbers) == expected


@given(st.sets(st.integers(1, 60)))
def test_formatted_uids_resolve_to_themselves(numbers):
    uids = [Uid(n) for n in range(1, 61)]
    if numbers:
        ordered = sorted(numbers)
        assert resolve(asked(format_set(ordered)), uids, 60, by_uid=True) == ordered


ENDS = st.one_of(st.none(), st.integers(1, 40))


@given(
    st.lists(st.tuples(ENDS, ENDS), min_size=1, max_size=6),
    st.sets(st.integers(1, 40)),
    st.booleans(),
)
def test_resolve_agrees_with_counting_through(ranges, present, by_uid):
    uids = [Uid(n) for n in sorted(present)]
    names = list(uids) if by_uid else list(range(1, len(uids) + 1))
    star = names[-1] if names else 0
    expected = set()
    for first, last in ranges:
        ends = sorted((star if first is None else first, star if last is None else last))
        expected |= {
            uid for uid, name in zip(uids, names, strict=True) if ends[0] <= name <= ends[1]
        }
    got = resolve(SequenceSet(tuple(ranges)), uids, len(uids), by_uid=by_uid)
    assert got == sorted(expected)


@given(st.text("0123456789:*,$", max_size=12).map(str.encode))
def test_parsing_is_total(text):
    parsed = parse_sequence_set(text)
    assert parsed is None or parsed.saved or parsed.ranges
