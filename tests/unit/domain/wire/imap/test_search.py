from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.model.mailbox import MailboxEntry, Modseq, Uid
from chatmail.domain.wire.imap.search import (
    ExtendedResult,
    Searcher,
    extended_result,
    saved_result,
    uses_modseq,
)
from chatmail.domain.wire.imap.search_content import ContentProbe
from chatmail.domain.wire.imap.search_keys import (
    SearchAge,
    SearchAll,
    SearchAnd,
    SearchDate,
    SearchFlag,
    SearchHeader,
    SearchModseq,
    SearchNot,
    SearchOr,
    SearchSet,
    SearchSize,
    SearchText,
)
from chatmail.domain.wire.imap.sequence import SequenceSet

NOW_S = 1_700_000_000
DAY = NOW_S // 86400
HEADER = SearchHeader("From", "x")


def entry(uid: int = 5, flags: tuple[str, ...] = (), **changes) -> MailboxEntry:
    values = {
        "uid": Uid(uid),
        "modseq": Modseq(10),
        "flags": frozenset(flags),
        "size": 100,
        "header_size": 50,
        "internal_date_s": NOW_S,
        "blob": None,
    }
    return MailboxEntry(**{**values, **changes})


def uids(*numbers: int) -> list[Uid]:
    return [Uid(n) for n in numbers]


def judge(key, subject: MailboxEntry, known=(2, 5, 9), **options):
    return Searcher(key, uids(*known), len(known), now_s=NOW_S, **options).judge(subject)


def test_all_matches():
    assert judge(SearchAll(), entry()) is True


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (SearchFlag("\\Seen", True), True),
        (SearchFlag("\\Seen", False), False),
        (SearchFlag("\\Draft", True), False),
        (SearchFlag("\\Draft", False), True),
        (SearchFlag("$FWD", True), True),
        (SearchFlag("$fwd", False), False),
        (SearchFlag("\\Recent", True), False),
        (SearchFlag("\\Recent", False), True),
    ],
)
def test_flags_and_keywords(key, expected):
    assert judge(key, entry(flags=("\\Seen", "$Fwd"))) is expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (SearchSize(100, larger=True), False),
        (SearchSize(99, larger=True), True),
        (SearchSize(100, larger=False), False),
        (SearchSize(101, larger=False), True),
        (SearchDate("=", DAY, sent=False), True),
        (SearchDate("<", DAY, sent=False), False),
        (SearchDate(">=", DAY + 1, sent=False), False),
        (SearchAge(60, older=True), False),
        (SearchAge(60, older=False), True),
        (SearchModseq(10), True),
        (SearchModseq(11), False),
    ],
)
def test_numbers_and_dates(key, expected):
    assert judge(key, entry()) is expected


def test_age_includes_its_bound():
    subject = entry(internal_date_s=NOW_S - 60)
    assert judge(SearchAge(60, older=True), subject) is True
    assert judge(SearchAge(60, older=False), subject) is True


@pytest.mark.parametrize(
    ("ranges", "by_uid", "expected"),
    [
        (((1, 1),), False, [2]),
        (((2, None),), False, [5, 9]),
        (((3, 5),), True, [5]),
        (((None, None),), True, [9]),
        (((100, None),), True, [9]),
        (((1, 4),), True, [2]),
    ],
)
def test_sets_of_numbers_and_uids(ranges, by_uid, expected):
    key = SearchSet(SequenceSet(ranges), by_uid)
    assert [uid for uid in (2, 5, 9) if judge(key, entry(uid))] == expected
    assert [uid for uid in (2, 5, 9) if not judge(SearchNot(key), entry(uid))] == expected


def test_the_saved_result_is_a_set():
    key = SearchSet(SequenceSet((), saved=True), by_uid=False)
    assert judge(key, entry(5), saved=uids(5, 7)) is True
    assert judge(key, entry(9), saved=uids(5, 7)) is False


YES, NO = SearchAll(), SearchNot(SearchAll())


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (HEADER, None),
        (SearchNot(HEADER), None),
        (SearchAnd((HEADER, YES)), None),
        (SearchAnd((HEADER, NO)), False),
        (SearchOr(HEADER, NO), None),
        (SearchOr(HEADER, YES), True),
        (SearchOr(NO, NO), False),
        (SearchDate("<", 1, sent=True), None),
        (SearchText("x", headers_too=True), None),
    ],
)
def test_content_is_asked_for_only_where_it_decides(key, expected):
    assert judge(key, entry()) is expected


def test_with_content_the_answer_is_final():
    key = SearchAnd((SearchNot(HEADER), SearchText("hay", headers_too=False)))
    searcher = Searcher(key, uids(5), 1, now_s=NOW_S)
    assert searcher.judge(entry()) is None
    probe = ContentProbe(key)
    probe.header(b"From: y\r\n\r\n")
    probe.body(b"HAY")
    assert searcher.judge(entry(), probe) is True


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (YES, [(0, 3)]),
        (SearchSet(SequenceSet(((3, None),)), by_uid=True), [(1, 3)]),
        (
            SearchAnd(
                (
                    SearchSet(SequenceSet(((1, 1), (3, 3))), by_uid=False),
                    HEADER,
                    SearchSet(SequenceSet(((5, 9),)), by_uid=True),
                )
            ),
            [(2, 3)],
        ),
        (SearchNot(SearchSet(SequenceSet(((1, 1),)), by_uid=False)), [(0, 3)]),
    ],
)
def test_candidates_narrow_what_is_looked_at(key, expected):
    assert Searcher(key, uids(2, 5, 9), 3, now_s=NOW_S).candidates() == expected


def test_an_empty_mailbox_has_no_candidates():
    assert Searcher(YES, [], 0, now_s=NOW_S).candidates() == []


SETS = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=3).map(
    lambda ranges: SearchSet(SequenceSet(tuple(ranges)), by_uid=True)
)
KEYS = st.recursive(
    st.one_of(SETS, st.sampled_from([YES, NO, SearchFlag("\\Seen", True)])),
    lambda inner: st.one_of(
        st.builds(SearchNot, inner),
        st.builds(SearchOr, inner, inner),
        st.lists(inner, min_size=1, max_size=3).map(lambda keys: SearchAnd(tuple(keys))),
    ),
    max_leaves=8,
)


@given(KEYS)
def test_what_matches_is_among_the_candidates(key):
    known = uids(1, 2, 4, 7, 8, 12)
    searcher = Searcher(key, known, len(known), now_s=NOW_S)
    inside = {i for start, stop in searcher.candidates() for i in range(start, stop)}
    matching = {i for i, uid in enumerate(known) if searcher.judge(entry(uid))}
    assert matching <= inside


# --- results ---------------------------------------------------------------------------------


def result(**items) -> ExtendedResult:
    empty = dict.fromkeys(("minimum", "maximum", "count", "all", "modseq"))
    return ExtendedResult(**{**empty, **items})


@pytest.mark.parametrize(
    ("options", "found", "expected"),
    [
        (("MIN", "MAX"), [3, 5], result(minimum=3, maximum=5)),
        (("COUNT",), [3, 5], result(count=2)),
        (("ALL",), [3, 5], result(all=(3, 5))),
        (("SAVE",), [3, 5], result()),
        (("MIN", "MAX", "COUNT", "ALL"), [], result(count=0)),
    ],
)
def test_extended_results(options, found, expected):
    assert extended_result(options, found) == expected


@pytest.mark.parametrize(
    ("options", "modseq"),
    [
        (("MIN",), 7),
        (("MAX",), 5),
        (("MIN", "MAX"), 7),
        (("ALL",), 9),
        (("MIN", "COUNT"), 9),
        ((), 9),
    ],
)
def test_the_modseq_of_a_result(options, modseq):
    assert extended_result(options, [1, 2, 3], [7, 9, 5]).modseq == modseq


def test_nothing_found_has_no_modseq():
    assert extended_result(("ALL",), [], []).modseq is None


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (SearchModseq(1), True),
        (SearchNot(SearchModseq(1)), True),
        (SearchOr(YES, SearchModseq(1)), True),
        (SearchAnd((YES, SearchModseq(1))), True),
        (SearchAnd((YES, HEADER)), False),
    ],
)
def test_a_search_with_modseq_is_known(key, expected):
    assert uses_modseq(key) is expected


@pytest.mark.parametrize(
    ("options", "saved"),
    [
        (("SAVE",), (2, 5, 9)),
        (("SAVE", "MIN"), (2,)),
        (("SAVE", "MAX"), (9,)),
        (("SAVE", "MIN", "MAX"), (2, 9)),
        (("SAVE", "MIN", "COUNT"), (2, 5, 9)),
        (("SAVE", "ALL", "MAX"), (2, 5, 9)),
    ],
)
def test_what_save_keeps(options, saved):
    assert tuple(saved_result(options, uids(2, 5, 9))) == saved


def test_save_keeps_one_message_once():
    assert tuple(saved_result(("SAVE", "MIN", "MAX"), uids(4))) == (4,)
    assert tuple(saved_result(("SAVE", "MIN"), [])) == ()
