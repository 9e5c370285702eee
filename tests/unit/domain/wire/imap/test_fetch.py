"""Rendering of one FETCH line."""

from __future__ import annotations

import pytest

from chatmail.domain.model.mailbox import MailboxEntry, Modseq, Uid
from chatmail.domain.wire.imap.commands import BodySection, Fetch, Section
from chatmail.domain.wire.imap.fetch import (
    cut_range,
    flags_line,
    is_selection,
    open_line,
    plan_fetch,
    section_head,
    section_range,
    select_header,
)
from chatmail.domain.wire.imap.sequence import SequenceSet
from tests.unit.domain.formats.test_mime_structure import NESTED, scan

ENTRY = MailboxEntry(Uid(7), Modseq(9), frozenset(("\\Seen",)), 100, 40, 0, None)
ALL = SequenceSet(((1, None),))
BODY = BodySection(b"BODY[]", Section.ALL, peek=True)


def fetch(*attributes: str, by_uid: bool = True, **more: object) -> Fetch:
    sections = more.pop("sections", ())
    return Fetch(ALL, by_uid, attributes, sections, **more)  # type: ignore[arg-type]


def test_uid_fetch_always_tells_the_uid() -> None:
    assert plan_fetch(fetch("FLAGS"), with_modseq=False).attributes == ("UID", "FLAGS")
    assert plan_fetch(fetch("FLAGS", "UID"), with_modseq=False).attributes == ("FLAGS", "UID")
    assert plan_fetch(fetch("FLAGS", by_uid=False), with_modseq=False).attributes == ("FLAGS",)


def test_modseq_comes_with_flags_once_enabled_and_with_changedsince() -> None:
    assert "MODSEQ" in plan_fetch(fetch("FLAGS"), with_modseq=True).attributes
    assert "MODSEQ" not in plan_fetch(fetch("RFC822.SIZE"), with_modseq=True).attributes
    assert "MODSEQ" in plan_fetch(fetch("UID", changed_since=1), with_modseq=False).attributes


def test_plans_know_what_has_to_be_read() -> None:
    assert not plan_fetch(fetch("FLAGS"), with_modseq=False).needs_content
    assert plan_fetch(fetch(sections=(BODY,)), with_modseq=False).needs_content
    assert plan_fetch(fetch("ENVELOPE"), with_modseq=False).needs_envelope
    assert plan_fetch(fetch("BODYSTRUCTURE"), with_modseq=False).needs_tree
    part = BodySection(b"BODY[1]", Section.ALL, part=(1,))
    plan = plan_fetch(fetch(sections=(part,)), with_modseq=False)
    assert plan.needs_tree
    assert plan.sets_seen
    assert not plan_fetch(fetch(sections=(BODY,)), with_modseq=False).sets_seen


def test_a_line_holds_the_items_in_the_asked_order() -> None:
    attributes = ("RFC822.SIZE", "UID", "FLAGS", "INTERNALDATE", "MODSEQ", "ENVELOPE")
    assert open_line(3, ENTRY, attributes, {"ENVELOPE": b"(x)"}) == (
        b"* 3 FETCH (RFC822.SIZE 100 UID 7 FLAGS (\\Seen) "
        b'INTERNALDATE " 1-Jan-1970 00:00:00 +0000" MODSEQ (9) ENVELOPE (x)'
    )


def test_empty_flags_are_told() -> None:
    entry = MailboxEntry(Uid(7), Modseq(9), frozenset(), 1, 1, 0, None)
    assert open_line(1, entry, ("FLAGS",)) == b"* 1 FETCH (FLAGS ()"
    assert flags_line(1, entry, with_uid=False, with_modseq=False) == b"* 1 FETCH (FLAGS ())\r\n"


def test_flag_lines_may_tell_uid_and_modseq() -> None:
    told = flags_line(2, ENTRY, with_uid=True, with_modseq=True)
    assert told == b"* 2 FETCH (UID 7 FLAGS (\\Seen) MODSEQ (9))\r\n"


def test_section_heads() -> None:
    partial = BodySection(b"BODY[TEXT]", Section.TEXT, partial=(5, 10))
    assert section_head(BODY, 3, is_first=True) == b"BODY[] {3}\r\n"
    assert section_head(partial, 3, is_first=False) == b" BODY[TEXT]<5> {3}\r\n"
    assert section_head(partial, None, is_first=False) == b" BODY[TEXT]<5> NIL"


@pytest.mark.parametrize(
    ("section", "span"),
    [
        (Section.ALL, (0, 100)),
        (Section.HEADER, (0, 40)),
        (Section.HEADER_FIELDS, (0, 40)),
        (Section.TEXT, (40, 60)),
    ],
)
def test_ranges_of_the_whole_message(section: Section, span: tuple[int, int]) -> None:
    assert section_range(BodySection(b"", section), ENTRY, None) == span


@pytest.mark.parametrize(
    ("part", "section", "octets"),
    [
        ((1,), Section.ALL, b"hello"),
        ((1,), Section.MIME, b"Content-Type: text/html; charset=utf-8\r\n\r\n"),
        ((2, 2), Section.ALL, b"z"),
        ((2,), Section.HEADER, NESTED[NESTED.index(b"Subject") : NESTED.index(b"--b2")]),
        ((2,), Section.TEXT, NESTED[NESTED.index(b"--b2") : NESTED.index(b"\r\n--b1--")]),
        ((1,), Section.HEADER, None),
        ((1,), Section.TEXT, None),
        ((3,), Section.ALL, None),
    ],
)
def test_ranges_of_parts(part: tuple[int, ...], section: Section, octets: bytes | None) -> None:
    span = section_range(BodySection(b"", section, part=part), ENTRY, scan(NESTED))
    assert (None if span is None else NESTED[span[0] : span[0] + span[1]]) == octets


@pytest.mark.parametrize(
    ("partial", "span"),
    [
        (None, (10, 90)),
        ((0, 5), (10, 5)),
        ((85, 50), (95, 5)),
        ((90, 5), (100, 0)),
        ((4000000000, 5), (100, 0)),
    ],
)
def test_partials_never_leave_the_section(
    partial: tuple[int, int] | None, span: tuple[int, int]
) -> None:
    assert cut_range(BodySection(b"", Section.ALL, partial=partial), 10, 90) == span


def test_header_selections_are_cut_after_selecting() -> None:
    header = b"From: a\r\nTo: b\r\n\r\n"
    fields = BodySection(b"", Section.HEADER_FIELDS, fields=(b"TO",), partial=(4, 3))
    assert is_selection(fields)
    assert select_header(fields, header) == b"b\r\n"
    others = BodySection(b"", Section.HEADER_FIELDS_NOT, fields=(b"TO",))
    assert select_header(others, header) == b"From: a\r\n\r\n"
