"""Sequence sets: their syntax, what they name in a mailbox, and the compact form of UIDs.

Numbers of a set are compared, never counted through: `1:4294967295` costs two searches.
Source:  RFC 3501 §6.4.8 and §9 (sequence-set), RFC 5182 (`$`).
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Final

import attrs

from chatmail.domain.model.mailbox import Uid


@attrs.frozen
class SequenceSet:
    """Ranges as sent; `None` stands for `*`. `saved` is `$` (RFC 5182)."""

    ranges: tuple[tuple[int | None, int | None], ...]
    saved: bool = False


MAX_NUMBER: Final = 2**32 - 1
SAVED: Final = SequenceSet((), saved=True)

_RANGE: Final = re.compile(rb"(\*|[1-9][0-9]{0,9})(?::(\*|[1-9][0-9]{0,9}))?\Z")


def parse_sequence_set(text: bytes) -> SequenceSet | None:
    """Return the set that `text` spells, None when it spells none.

    Numbers are 1 to 2^32-1 without leading zeros; `$` stands alone.
    """
    if text == b"$":
        return SAVED
    ranges = []
    for item in text.split(b","):
        found = _RANGE.match(item)
        if found is None:
            return None
        first = _number(found[1])
        last = first if found[2] is None else _number(found[2])
        if (first or 0) > MAX_NUMBER or (last or 0) > MAX_NUMBER:
            return None
        ranges.append((first, last))
    return SequenceSet(tuple(ranges))


def _number(text: bytes) -> int | None:
    return None if text == b"*" else int(text)


def spans(
    asked: SequenceSet,
    uids: Sequence[Uid],
    count: int,
    *,
    by_uid: bool,
    saved: Sequence[int] = (),
) -> list[tuple[int, int]]:
    """Return which positions of a mailbox a set names.

    Numbers that name nothing are left out (see `exceeds` for those RFC 3501 wants refused).

    Args:
        uids: ascending; only the first `count` are valid. Position i is message number i + 1.
        by_uid: the numbers are UIDs, else message sequence numbers.
        saved: the UIDs that `$` stands for, ascending; those no longer there are ignored.
    Returns:  half-open (start, stop) positions, ascending, disjoint, none empty.
    Cost:  O(r log r + r log n) for r ranges and n messages.
    """
    if count == 0:
        return []
    if asked.saved:
        return _merged(_span_of_uids(uid, uid, uids, count) for uid in saved)
    star = uids[count - 1] if by_uid else count
    found = []
    for first, last in asked.ranges:
        low = star if first is None else first
        high = star if last is None else last
        if low > high:  # RFC 3501 §9: 2:4 and 4:2 are equivalent; so `n:*` beyond the last is `*`
            low, high = high, low
        if by_uid:
            found.append(_span_of_uids(low, high, uids, count))
        else:
            found.append((low - 1, min(high, count)))
    return found if len(found) == 1 and found[0][0] < found[0][1] else _merged(found)


def _span_of_uids(low: int, high: int, uids: Sequence[Uid], count: int) -> tuple[int, int]:
    start = bisect_left(uids, low, 0, count)
    return start, bisect_right(uids, high, start, count)


def _merged(found: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(found):
        if start >= stop:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return merged


def resolve(
    asked: SequenceSet,
    uids: Sequence[Uid],
    count: int,
    *,
    by_uid: bool,
    saved: Sequence[int] = (),
) -> list[Uid]:
    """Return the UIDs of the messages that a set names: ascending, each once.

    Arguments as for `spans`.
    """
    found: list[Uid] = []
    for start, stop in spans(asked, uids, count, by_uid=by_uid, saved=saved):
        found.extend(uids[start:stop])
    return found


def exceeds(asked: SequenceSet, count: int) -> bool:
    """Say whether a set of message sequence numbers names one that does not exist.

    RFC 3501 §9 (seq-number) wants BAD for it, and for `*` in an empty mailbox.
    """
    if asked.saved:
        return False
    highest = max(max(first or 1, last or 1) for first, last in asked.ranges)
    return highest > count


def contains(asked: SequenceSet, number: int) -> bool:
    """Say whether a set without `*` and `$` holds a number (QRESYNC known UIDs)."""
    return any(
        min(first, last) <= number <= max(first, last)
        for first, last in asked.ranges
        if first is not None and last is not None
    )


def format_set(numbers: Iterable[int]) -> bytes:
    """Return the compact form `1:3,7` of numbers, in the order given.

    Only runs that grow by one are joined, so pairs of COPYUID sets keep their order.
    Returns:  b"" for no number, which is not a valid set on the wire.
    """
    runs: list[bytes] = []
    first = last = -1
    for number in numbers:
        if number == last + 1 and first >= 0:
            last = number
            continue
        if first >= 0:
            runs.append(_format_run(first, last))
        first = last = number
    if first >= 0:
        runs.append(_format_run(first, last))
    return b",".join(runs)


def _format_run(first: int, last: int) -> bytes:
    return b"%d" % first if first == last else b"%d:%d" % (first, last)
