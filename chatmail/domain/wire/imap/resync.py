"""QRESYNC: what a client that was away has to be told of a mailbox.

Sets that a client sends are compared, never counted through: `1:4294967295` costs two searches.
Source:  RFC 7162 §3.2.5, §3.2.6.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from chatmail.domain.model.mailbox import MailboxEntry, Uid
from chatmail.domain.wire.imap.commands import QresyncParameter
from chatmail.domain.wire.imap.search_keys import (
    SearchAnd,
    SearchKey,
    SearchNot,
    SearchOr,
    SearchSet,
)
from chatmail.domain.wire.imap.sequence import SequenceSet, resolve


def expunged_for(
    known: QresyncParameter, expunged: Sequence[Uid], uids: Sequence[Uid], count: int
) -> list[Uid]:
    """Return the expunged UIDs that SELECT tells.

    Args:
        known: what the client said.
        expunged: since the client's modseq, ascending.
        uids, count: the mailbox as it is; only the first `count` are valid.
    """
    if known.known_sequence is not None:
        floor = _in_step_up_to(*known.known_sequence, uids, count)
        expunged = expunged[bisect_right(expunged, floor) :]
    return among(known.known_uids, expunged)


def changed_for(known: QresyncParameter, changed: Sequence[MailboxEntry]) -> list[MailboxEntry]:
    """Return those changed messages, ascending by UID, that the client knows."""
    if known.known_uids is None:
        return list(changed)
    wanted = set(among(known.known_uids, [entry.uid for entry in changed]))
    return [entry for entry in changed if entry.uid in wanted]


def among(asked: SequenceSet | None, found: Sequence[Uid]) -> list[Uid]:
    """Return those of ascending UIDs that a set without `*` and `$` names; None names all."""
    if asked is None:
        return list(found)
    return resolve(asked, found, len(found), by_uid=True)


def without_star(asked: SequenceSet, highest: int) -> SequenceSet:
    """Put the highest UID the client was told of in the place of `*`."""
    return SequenceSet(
        tuple(
            (highest if first is None else first, highest if last is None else last)
            for first, last in asked.ranges
        )
    )


def names_numbers(key: SearchKey) -> bool:
    """Say whether a SEARCH key holds message numbers."""
    match key:
        case SearchSet(messages, by_uid):
            return not by_uid and not messages.saved
        case SearchAnd(keys):
            return any(map(names_numbers, keys))
        case SearchOr(first, second):
            return names_numbers(first) or names_numbers(second)
        case SearchNot(inner):
            return names_numbers(inner)
        case _:
            return False


def _in_step_up_to(
    numbers: SequenceSet, known: SequenceSet, uids: Sequence[Uid], count: int
) -> int:
    """Return the highest UID whose message number is still the one the client knows, 0 for none.

    A mailbox only loses messages below a UID, so nothing at or below it can have gone.
    """
    return max(
        (
            _last_match(uids, number - 1, uid, min(length, count - number + 1))
            for number, uid, length in _pairs(numbers, known)
        ),
        default=0,
    )


def _last_match(uids: Sequence[Uid], place: int, uid: int, length: int) -> int:
    """Return the highest UID of a run that stands where the client has it, 0 for none."""
    # Along a run the true UID grows by one or more, the client's by exactly one.
    steps = bisect_right(range(length), 0, key=lambda step: uids[place + step] - uid - step)
    last = uid + steps - 1
    return last if steps and uids[place + steps - 1] == last else 0


def _pairs(numbers: SequenceSet, known: SequenceSet) -> Iterator[tuple[int, int, int]]:
    """Yield runs (first message number, first UID, length) of two sets that go side by side."""
    runs = _runs(known)
    uid, left = next(runs, (0, 0))
    for number, length in _runs(numbers):
        while length and left:
            step = min(length, left)
            yield number, uid, step
            number, uid, length, left = number + step, uid + step, length - step, left - step
            if not left:
                uid, left = next(runs, (0, 0))


def _runs(asked: SequenceSet) -> Iterator[tuple[int, int]]:
    for first, last in asked.ranges:
        if first is not None and last is not None:
            yield min(first, last), abs(last - first) + 1
