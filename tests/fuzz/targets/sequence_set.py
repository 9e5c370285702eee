"""Sequence sets against sets of numbers written out."""

from __future__ import annotations

import itertools
import re

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

WORDS = (b"1:*", b"*", b"$", b",", b":", b"4294967295", b"4294967296", b"2:4", b"4:2", b"0")

_SYNTAX = re.compile(
    rb"(?:\*|[1-9][0-9]{0,9})(?::(?:\*|[1-9][0-9]{0,9}))?"
    rb"(?:,(?:\*|[1-9][0-9]{0,9})(?::(?:\*|[1-9][0-9]{0,9}))?)*\Z"
)


def check(data: bytes) -> None:
    """What a set names is what counting says. Octets before the first LF are the mailbox."""
    gaps, _, text = data.partition(b"\n")
    uids: list[Uid] = []
    for gap in gaps[:40]:
        uids.append(Uid((uids[-1] if uids else 0) + 1 + gap % 7))
    asked = parse_sequence_set(text)
    numbers = [int(number) for number in re.findall(rb"[0-9]+", text)]
    is_valid = _SYNTAX.match(text) is not None and max(numbers, default=0) <= MAX_NUMBER
    assert (asked is not None) == (is_valid or text == b"$")
    assert _numbers(format_set(uids)) == uids
    if asked is not None:
        _check_meaning(asked, uids)


def _check_meaning(asked: SequenceSet, uids: list[Uid]) -> None:
    count = len(uids)
    saved = uids[::2]
    if asked == SAVED:
        assert resolve(asked, uids, count, by_uid=True, saved=[*saved, Uid(999)]) == saved
        return
    for by_uid in (True, False):
        known = uids if by_uid else list(range(1, count + 1))
        named = [
            uid
            for uid, number in zip(uids, known, strict=True)
            if any(_is_in(number, pair, known[-1]) for pair in asked.ranges)
        ]
        assert resolve(asked, uids, count, by_uid=by_uid) == named
        found = spans(asked, uids, count, by_uid=by_uid)
        assert all(start < stop <= count for start, stop in found)
        assert all(one[1] < two[0] for one, two in itertools.pairwise(found))
    highest = max(max(first or 1, last or 1) for first, last in asked.ranges)
    assert exceeds(asked, count) == (highest > count)
    if all(None not in pair for pair in asked.ranges):
        for number in (1, 2, 7, highest):
            assert contains(asked, number) == any(_is_in(number, pair, 0) for pair in asked.ranges)


def _is_in(number: int, pair: tuple[int | None, int | None], star: int) -> bool:
    first, last = (star if end is None else end for end in pair)
    return min(first, last) <= number <= max(first, last)


def _numbers(text: bytes) -> list[int]:
    found: list[int] = []
    for item in text.split(b",") if text else []:
        first, _, last = item.partition(b":")
        found += range(int(first), int(last or first) + 1)
    return found


VECTORS = (
    b"\0\0\1\2\n1:*",
    b"\0\3\1\2\n5:*,2,1:2",
    b"\0\0\0\n$",
    b"\n*",
    b"\1\1\1\n4294967295:2",
    b"\1\n4294967296",
    b"\1\n0:1",
    b"\0\0\n1,,2",
)
