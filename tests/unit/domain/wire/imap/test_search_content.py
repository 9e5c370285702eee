from __future__ import annotations

import pytest

from chatmail.domain.wire.imap.search_content import Content, ContentProbe, needs_content
from chatmail.domain.wire.imap.search_keys import (
    SearchAll,
    SearchAnd,
    SearchDate,
    SearchHeader,
    SearchNot,
    SearchOr,
    SearchText,
)
from chatmail.domain.wire.imap.search_sections import Section

HEADER = (
    b"From: =?utf-8?q?J=C3=BCrgen?= <j@x>\r\n"
    b"Subject: one\r\n two\r\n"
    b"Date: Tue, 1 Feb 1994 23:30:00 -0800\r\n"
    b"X-Broken: =?no-such-charset?q?x?=\r\n"
    b"X-Latin: \xfc\r\n"
    b"no colon here\r\n"
    b"\r\n"
)
BODY = SearchText("needle", headers_too=False)


PLAIN = Section(0, 0)


def probed(key, header: bytes = HEADER, *chunks: bytes) -> bool:
    probe = ContentProbe(key)
    probe.header(header)
    feed(probe, *chunks)
    return probe.holds(key)


def feed(probe: ContentProbe, *chunks: bytes, section: Section = PLAIN) -> None:
    probe.begin(section)
    for number, chunk in enumerate(chunks, 1):
        probe.body(chunk, is_last=number == len(chunks))


@pytest.mark.parametrize(
    ("key", "needs"),
    [
        (SearchAll(), Content.NONE),
        (SearchDate("<", 1, sent=False), Content.NONE),
        (SearchDate("<", 1, sent=True), Content.HEADER),
        (SearchNot(SearchHeader("From", "x")), Content.HEADER),
        (SearchOr(SearchAll(), BODY), Content.WHOLE),
        (SearchAnd((SearchHeader("From", "x"), BODY)), Content.WHOLE),
        (SearchText("x", headers_too=True), Content.WHOLE),
    ],
)
def test_a_search_says_what_it_must_read(key, needs):
    assert needs_content(key) is needs


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("from", "jürgen", True),
        ("FROM", "JÜRGEN", True),
        ("From", "J@X", True),
        ("To", "", False),
        ("Subject", "", True),
        ("subject", "ONE TWO", True),
        ("subject", "three", False),
        ("x-broken", "no-such-charset", True),
        ("x-latin", "ü", True),
    ],
)
def test_header_fields_are_compared_decoded_unfolded_and_case_blind(name, value, expected):
    assert probed(SearchHeader(name, value)) is expected


def test_an_encoded_word_whose_charset_is_not_ascii_is_compared_as_it_stands():
    header = "Subject: =?utf-\xff?q?abc?=\r\n\r\n".encode("latin-1")
    assert probed(SearchHeader("Subject", "?q?abc"), header)


@pytest.mark.parametrize(
    ("comparison", "day", "expected"),
    [
        ("=", 8797, True),
        ("<", 8797, False),
        ("<", 8798, True),
        (">=", 8797, True),
        (">=", 8798, False),
    ],
)
def test_the_sent_date_is_that_of_the_header_without_its_zone(comparison, day, expected):
    assert probed(SearchDate(comparison, day, sent=True)) is expected


@pytest.mark.parametrize("date", [b"", b"Date: nonsense\r\n", b"Date: 32 Feb 1994 1:1:1\r\n"])
def test_a_message_without_a_date_matches_no_sent_key(date):
    assert not probed(SearchDate(">=", 0, sent=True), date + b"\r\n")


@pytest.mark.parametrize(
    "chunks",
    [
        (b"a NEEDLE b",),
        (b"nee", b"dle"),
        (b"n", b"e", b"e", b"d", b"l", b"e"),
        (b"x" * 99, b"needle"),
    ],
)
def test_body_text_is_found_across_chunks(chunks):
    assert probed(BODY, HEADER, *chunks)


def test_body_text_is_not_looked_for_in_the_header():
    header = b"Subject: needle\r\n\r\n"
    assert not probed(BODY, header, b"hay")
    assert probed(SearchText("needle", headers_too=True), header, b"hay")


def test_a_found_text_settles_the_probe_and_stays_found():
    probe = ContentProbe(BODY)
    probe.header(HEADER)
    assert not probe.is_settled
    feed(probe, b"needle")
    assert probe.is_settled
    feed(probe, b"hay")
    assert probe.holds(BODY)


def test_several_texts_are_looked_for_in_the_header():
    found, missing = SearchText("one two", True), SearchText("three", True)
    probe = ContentProbe(SearchOr(found, missing))
    probe.header(HEADER)
    assert probe.holds(found)
    assert not probe.holds(missing)


def test_headers_alone_settle_a_search_for_headers():
    probe = ContentProbe(SearchHeader("a", "b"))
    probe.header(b"\r\n")
    assert probe.is_settled


def test_texts_of_different_length_are_found_each():
    long, short = SearchText("abcdefgh", False), SearchText("hi", False)
    probe = ContentProbe(SearchAnd((long, short)))
    feed(probe, *(bytes((octet,)) for octet in b"..abcdefghi"))
    assert probe.holds(long)
    assert probe.holds(short)


@pytest.mark.parametrize(
    ("section", "chunks"),
    [
        pytest.param(Section(0, 0, b"base64", b"utf-8"), (b"R3LDvMOfZQ==",), id="base64"),
        pytest.param(Section(0, 0, b"quoted-printable", b"iso-8859-1"), (b"Gr=FC=DFe",), id="qp"),
        pytest.param(Section(0, 0, b"8bit", b"windows-1252"), (b"Gr\xfc\xdfe",), id="8bit"),
        pytest.param(Section(0, 0, b"", b""), ("Grüße".encode(),), id="undeclared"),
        pytest.param(Section(0, 0, b"base64", b"utf-8"), (b"R3L", b"DvMO", b"fZQ=="), id="cut"),
        pytest.param(
            Section(0, 0, is_header=True),
            (b"Content-Description: =?utf-8?q?Gr=C3=BC?=", b"\r\n =?utf-8?q?=C3=9Fe?=\r\n"),
            id="header of a part",
        ),
    ],
)
@pytest.mark.parametrize("needle", ["Grüße", "GRÜSSE", "grüß"])
def test_text_is_found_as_a_person_reads_it(section, chunks, needle):
    key = SearchText(needle, headers_too=False)
    probe = ContentProbe(key)
    probe.header(b"\r\n")
    feed(probe, *chunks, section=section)
    assert probe.holds(key)


def test_text_does_not_go_on_from_one_section_to_the_next():
    probe = ContentProbe(BODY)
    probe.header(b"\r\n")
    feed(probe, b"nee")
    feed(probe, b"dle")
    assert not probe.holds(BODY)


def test_others_get_their_turn_between_many_texts():
    keys = tuple(SearchText(f"needle{number}", headers_too=False) for number in range(100))
    probe = ContentProbe(SearchAnd(keys))
    probe.begin(PLAIN)
    assert len(list(probe.body_in_turns(b"hay", is_last=False))) == 25


def test_a_part_header_is_bounded():
    key = SearchText("end", headers_too=False)
    probe = ContentProbe(key)
    feed(probe, *[b"X: " + b"x" * 30_000] * 5, b"end", section=Section(0, 0, is_header=True))
    assert not probe.holds(key)
