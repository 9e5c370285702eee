"""SEARCH over mailbox entries: three-valued judgement, candidates, results.

A key is judged with the entry first; only messages it leaves open have their content read.
Source:  RFC 3501 §6.4.4, RFC 4731, RFC 5032, RFC 5182 §2.1, RFC 7162 §3.1.5 and §3.1.10.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, assert_never

import attrs

from chatmail.domain.model.mailbox import MailboxEntry, Uid
from chatmail.domain.wire.imap.search_content import ContentKey, ContentProbe, day_holds
from chatmail.domain.wire.imap.search_keys import (
    SearchAge,
    SearchAll,
    SearchAnd,
    SearchDate,
    SearchEmailId,
    SearchFlag,
    SearchHeader,
    SearchKey,
    SearchModseq,
    SearchNot,
    SearchOr,
    SearchSet,
    SearchSize,
    SearchText,
    SearchThreadId,
)
from chatmail.domain.wire.imap.sequence import spans

DAY_S: Final = 86400

# True, False, or None: content must be read to know.
Judgement: TypeAlias = bool | None
Test: TypeAlias = Callable[[MailboxEntry, ContentProbe | None], Judgement]


class Searcher:
    """One search over one view of a mailbox."""

    def __init__(
        self,
        key: SearchKey,
        uids: Sequence[Uid],
        count: int,
        *,
        now_s: int,
        saved: Sequence[int] = (),
        email_id: Callable[[MailboxEntry], str] | None = None,
    ) -> None:
        """Prepare a search.

        Args:
            uids: ascending; only the first `count` are valid.
            now_s: unix time, for OLDER and YOUNGER.
            saved: what `$` stands for.
            email_id: the EMAILID of a message; without it none has one.
        """
        self._key = key
        self._uids = uids
        self._count = count
        self._now_s = now_s
        self._saved = saved
        self._email_id = email_id
        self._test = self._compile(key)

    def candidates(self) -> list[tuple[int, int]]:
        """Return half-open spans of positions outside of which nothing can match."""
        keys = self._key.keys if isinstance(self._key, SearchAnd) else (self._key,)
        found = [(0, self._count)] if self._count else []
        for key in keys:
            if isinstance(key, SearchSet):
                found = _intersected(found, self._spans(key))
        return found

    def judge(self, entry: MailboxEntry, content: ContentProbe | None = None) -> Judgement:
        """Say whether a message matches; None: feed a `ContentProbe` and ask again."""
        return self._test(entry, content)

    def _spans(self, key: SearchSet) -> list[tuple[int, int]]:
        return spans(key.messages, self._uids, self._count, by_uid=key.by_uid, saved=self._saved)

    def _compile(self, key: SearchKey) -> Test:
        match key:
            case SearchAnd(keys):
                return _all_of([self._compile(inner) for inner in keys])
            case SearchOr(first, second):
                return _any_of([self._compile(first), self._compile(second)])
            case SearchNot(inner):
                return _not(self._compile(inner))
            case SearchHeader() | SearchText() | SearchDate(sent=True):
                return _content_test(key)
            case SearchSet():
                return self._set_test(key)
            case SearchAge():
                return _age_test(key, self._now_s)
            case SearchEmailId(wanted):
                return self._email_id_test(wanted)
            case _:
                return _entry_test(key)

    def _set_test(self, key: SearchSet) -> Test:
        """Positions next to one another have UIDs with no message between them."""
        ranges = [(self._uids[start], self._uids[stop - 1]) for start, stop in self._spans(key)]
        starts = [low for low, _ in ranges]

        def test(entry: MailboxEntry, content: ContentProbe | None) -> Judgement:
            at = bisect_right(starts, entry.uid) - 1
            return at >= 0 and entry.uid <= ranges[at][1]

        return test

    def _email_id_test(self, wanted: str) -> Test:
        email_id = self._email_id
        if email_id is None:
            return lambda entry, content: False
        return lambda entry, content: email_id(entry) == wanted


def _intersected(
    left: list[tuple[int, int]], right: list[tuple[int, int]]
) -> list[tuple[int, int]]:
    both = []
    i = j = 0
    while i < len(left) and j < len(right):
        start, stop = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if start < stop:
            both.append((start, stop))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return both


def _all_of(tests: list[Test]) -> Test:
    def test(entry: MailboxEntry, content: ContentProbe | None) -> Judgement:
        judgement: Judgement = True
        for inner in tests:
            one = inner(entry, content)
            if one is False:
                return False
            if one is None:
                judgement = None
        return judgement

    return test


def _any_of(tests: list[Test]) -> Test:
    def test(entry: MailboxEntry, content: ContentProbe | None) -> Judgement:
        judgement: Judgement = False
        for inner in tests:
            one = inner(entry, content)
            if one:
                return True
            if one is None:
                judgement = None
        return judgement

    return test


def _not(inner: Test) -> Test:
    def test(entry: MailboxEntry, content: ContentProbe | None) -> Judgement:
        judgement = inner(entry, content)
        return None if judgement is None else not judgement

    return test


def _content_test(key: ContentKey) -> Test:
    def test(entry: MailboxEntry, content: ContentProbe | None) -> Judgement:
        return None if content is None else content.holds(key)

    return test


def _age_test(key: SearchAge, now_s: int) -> Test:
    """RFC 5032: both compare the internal date with now minus the interval, equality included."""
    limit_s = now_s - key.seconds
    if key.older:
        return lambda entry, content: entry.internal_date_s <= limit_s
    return lambda entry, content: entry.internal_date_s >= limit_s


def _entry_test(
    key: SearchAll | SearchFlag | SearchSize | SearchDate | SearchModseq | SearchThreadId,
) -> Test:
    match key:
        case SearchAll():
            return lambda entry, content: True
        case SearchFlag():
            return _flag_test(key)
        case SearchSize(octets, larger):
            if larger:
                return lambda entry, content: entry.size > octets
            return lambda entry, content: entry.size < octets
        case SearchDate():
            # RFC 3501 §6.4.4 disregards time and zone; internal dates are kept in UTC.
            return lambda entry, content: day_holds(entry.internal_date_s // DAY_S, key)
        case SearchModseq(modseq):
            return lambda entry, content: entry.modseq >= modseq
        case SearchThreadId():
            return lambda entry, content: False
    assert_never(key)


def _flag_test(key: SearchFlag) -> Test:
    flag, present = key.flag, key.present
    if flag.startswith("\\"):
        return lambda entry, content: (flag in entry.flags) is present
    folded = flag.lower()  # keywords are case-insensitive
    return lambda entry, content: any(known.lower() == folded for known in entry.flags) is present


# --- results ---------------------------------------------------------------------------------


def uses_modseq(key: SearchKey) -> bool:
    """Say whether MODSEQ is among the keys: the result then tells a modseq (RFC 7162 §3.1.5)."""
    match key:
        case SearchAnd(keys):
            return any(map(uses_modseq, keys))
        case SearchOr(first, second):
            return uses_modseq(first) or uses_modseq(second)
        case SearchNot(inner):
            return uses_modseq(inner)
        case _:
            return isinstance(key, SearchModseq)


@attrs.frozen(kw_only=True)
class ExtendedResult:
    """What an ESEARCH reply tells; None: the item is not in the reply."""

    minimum: int | None
    maximum: int | None
    count: int | None
    all: tuple[int, ...] | None
    modseq: int | None


def extended_result(
    options: tuple[str, ...], found: Sequence[int], modseqs: Sequence[int] | None = None
) -> ExtendedResult:
    """Return the items of an ESEARCH reply.

    Args:
        options: of MIN, MAX, COUNT, ALL, SAVE.
        found: numbers or UIDs, ascending.
        modseqs: of the same messages when MODSEQ was searched for.
    Returns:  MIN, MAX and ALL are left out when nothing was found (RFC 4731 §3.1).
    """
    return ExtendedResult(
        minimum=found[0] if found and "MIN" in options else None,
        maximum=found[-1] if found and "MAX" in options else None,
        count=len(found) if "COUNT" in options else None,
        all=tuple(found) if found and "ALL" in options else None,
        modseq=_result_modseq(options, modseqs) if modseqs else None,
    )


def _result_modseq(options: tuple[str, ...], modseqs: Sequence[int]) -> int:
    """RFC 7162 §3.1.10: of the messages that MIN and MAX name when nothing else was asked."""
    ends = {"MIN": modseqs[0], "MAX": modseqs[-1]}
    asked = [option for option in options if option != "SAVE"]
    if asked and all(option in ends for option in asked):
        return max(ends[option] for option in asked)
    return max(modseqs)


def saved_result(options: tuple[str, ...], uids: Sequence[int]) -> Sequence[int]:
    """Return what `$` stands for after a search with SAVE (RFC 5182 §2.1, §2.4).

    Args:  uids: of the messages found, ascending.
    Returns:  four octets for each UID: a session keeps it as long as the mailbox is selected.
    """
    if not uids or "ALL" in options or "COUNT" in options or not {"MIN", "MAX"} & set(options):
        return array("I", uids)
    ends = ([uids[0]] if "MIN" in options else []) + ([uids[-1]] if "MAX" in options else [])
    return array("I", dict.fromkeys(ends))
