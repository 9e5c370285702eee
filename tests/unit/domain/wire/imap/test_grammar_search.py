from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.wire.imap.commands import Search
from chatmail.domain.wire.imap.grammar_search import parse_search
from chatmail.domain.wire.imap.lexer import CommandRefused, Lexer, SyntaxProblem
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

from .reading import parsed, refusal

SEEN = SearchFlag("\\Seen", True)
UNSEEN = SearchFlag("\\Seen", False)
DAY = 8797  # 1-Feb-1994


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (b"ALL", SearchAll()),
        (b"seen", SEEN),
        (b"UNSEEN", UNSEEN),
        (b"ANSWERED", SearchFlag("\\Answered", True)),
        (b"UNANSWERED", SearchFlag("\\Answered", False)),
        (b"DELETED", SearchFlag("\\Deleted", True)),
        (b"UNDELETED", SearchFlag("\\Deleted", False)),
        (b"DRAFT", SearchFlag("\\Draft", True)),
        (b"UNDRAFT", SearchFlag("\\Draft", False)),
        (b"FLAGGED", SearchFlag("\\Flagged", True)),
        (b"UNFLAGGED", SearchFlag("\\Flagged", False)),
        (b"RECENT", SearchFlag("\\Recent", True)),
        (b"OLD", SearchFlag("\\Recent", False)),
        (b"NEW", SearchAnd((SearchFlag("\\Recent", True), UNSEEN))),
        (b"KEYWORD $Fwd", SearchFlag("$Fwd", True)),
        (b"UNKEYWORD $Fwd", SearchFlag("$Fwd", False)),
        (b"LARGER 10", SearchSize(10, larger=True)),
        (b"SMALLER 10", SearchSize(10, larger=False)),
        (b"BEFORE 1-Feb-1994", SearchDate("<", DAY, sent=False)),
        (b'ON "1-Feb-1994"', SearchDate("=", DAY, sent=False)),
        (b"SINCE 01-feb-1994", SearchDate(">=", DAY, sent=False)),
        (b"SENTBEFORE 1-Feb-1994", SearchDate("<", DAY, sent=True)),
        (b"SENTON 1-Feb-1994", SearchDate("=", DAY, sent=True)),
        (b"SENTSINCE 1-Feb-1994", SearchDate(">=", DAY, sent=True)),
        (b"OLDER 60", SearchAge(60, older=True)),
        (b"YOUNGER 60", SearchAge(60, older=False)),
        (b"FROM a@b", SearchHeader("From", "a@b")),
        (b"TO x", SearchHeader("To", "x")),
        (b"CC x", SearchHeader("Cc", "x")),
        (b"BCC x", SearchHeader("Bcc", "x")),
        (b'SUBJECT "a b"', SearchHeader("Subject", "a b")),
        (b'HEADER Message-ID ""', SearchHeader("Message-ID", "")),
        (b"BODY x", SearchText("x", headers_too=False)),
        (b"TEXT {3+}\r\na)b", SearchText("a)b", headers_too=True)),
        (b"1:3,*", SearchSet(SequenceSet(((1, 3), (None, None))), by_uid=False)),
        (b"*:2", SearchSet(SequenceSet(((None, 2),)), by_uid=False)),
        (b"UID 4:*", SearchSet(SequenceSet(((4, None),)), by_uid=True)),
        (b"$", SearchSet(SequenceSet((), saved=True), by_uid=False)),
        (b"MODSEQ 620162338", SearchModseq(620162338)),
        (b'MODSEQ "/flags/\\\\draft" all 5', SearchModseq(5)),
        (b"NOT SEEN", SearchNot(SEEN)),
        (b"OR SEEN NOT UNSEEN", SearchOr(SEEN, SearchNot(UNSEEN))),
        (b"(SEEN)", SEEN),
        (b"(SEEN ALL) 1", SearchAnd((SearchAnd((SEEN, SearchAll())), parsed(b"a SEARCH 1").key))),
        (b"OR (SEEN ALL) UNSEEN", SearchOr(SearchAnd((SEEN, SearchAll())), UNSEEN)),
    ],
)
def test_keys(keys, expected):
    assert parsed(b"a SEARCH " + keys) == Search(expected, by_uid=False)


@pytest.mark.parametrize(
    "prefix", [b"CHARSET US-ASCII ", b"CHARSET utf-8 ", b'charset "UTF-8" ', b""]
)
def test_known_charsets(prefix):
    assert parsed(b"a UID SEARCH " + prefix + b"SEEN") == Search(SEEN, by_uid=True)


@pytest.mark.parametrize("charset", [b"latin1", b'"KOI8-R"', b"UTF-16"])
def test_an_unknown_charset_leaves_the_keys_unread(charset):
    search = parsed(b"a SEARCH RETURN (SAVE) CHARSET " + charset + b' TEXT "\xff"')
    assert search == Search(SearchAll(), False, ("SAVE",), is_charset_known=False)


def test_search_text_is_utf8():
    assert parsed('a SEARCH CHARSET UTF-8 SUBJECT "Grüße"'.encode()).key == SearchHeader(
        "Subject", "Grüße"
    )
    assert refusal(b'SEARCH SUBJECT "\xff"').startswith(b"BAD ")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (b"()", ("ALL",)),
        (b"(min MAX count)", ("MIN", "MAX", "COUNT")),
        (b"(SAVE)", ("SAVE",)),
        (b"(ALL ALL)", ("ALL",)),
    ],
)
def test_return_options(options, expected):
    command = parsed(b"a SEARCH RETURN " + options + b" CHARSET UTF-8 SEEN")
    assert command == Search(SEEN, by_uid=False, options=expected)


@pytest.mark.parametrize(
    "keys",
    [
        b"",
        b"FOO",
        b"()",
        b"(SEEN",
        b"SEEN)",
        b"NOT",
        b"OR SEEN",
        b"KEYWORD",
        b"KEYWORD \\Seen",
        b"LARGER x",
        b"LARGER 4294967296",
        b"YOUNGER 0",
        b"BEFORE yesterday",
        b"HEADER x",
        b"UID x",
        b"UID",
        b"0",
        b"1:",
        b"CHARSET",
        b"CHARSET UTF-8",
        b"RETURN (FOO) ALL",
        b"RETURN MIN ALL",
        b"MODSEQ x",
        b'MODSEQ "/flags/x" foo 5',
        pytest.param(b"(" * 10000, id="parentheses"),
        pytest.param(b"NOT " * 10000 + b"ALL", id="nots"),
        pytest.param(b"OR " * 10000 + b"ALL ALL", id="ors"),
        pytest.param(b"ALL " * 513, id="keys"),
    ],
)
def test_what_is_not_a_search_is_bad(keys):
    assert refusal(b"SEARCH " + keys).startswith(b"BAD ")


def test_forty_levels_are_enough_for_anybody():
    assert parsed(b"a SEARCH " + b"(" * 39 + b"SEEN" + b")" * 39).key == SEEN


WORDS = st.sampled_from(
    [
        b"NOT",
        b"OR",
        b"(",
        b")",
        b"SEEN",
        b"1:*",
        b"UID",
        b"FROM",
        b"x",
        b'"y"',
        b"SINCE",
        b"1-Feb-1994",
        b"LARGER",
        b"5",
        b"RETURN",
        b"CHARSET",
        b"UTF-8",
        b"MODSEQ",
        b"$",
    ]
)


@given(st.lists(WORDS, max_size=12))
def test_parsing_is_total(words):
    with contextlib.suppress(SyntaxProblem, CommandRefused):
        lexer = Lexer(b" " + b" ".join(words))
        parse_search(lexer, by_uid=False)
        lexer.end()
