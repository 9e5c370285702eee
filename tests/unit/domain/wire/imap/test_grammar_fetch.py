from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.wire.imap.commands import BodySection, Fetch, Section
from chatmail.domain.wire.imap.grammar_fetch import parse_fetch
from chatmail.domain.wire.imap.lexer import Lexer, SyntaxProblem
from chatmail.domain.wire.imap.sequence import SequenceSet

from .reading import parsed, refusal

ONE = SequenceSet(((1, 1),))


def fetch(items: bytes) -> Fetch:
    command = parsed(b"a FETCH 1 " + items)
    assert isinstance(command, Fetch)
    return command


def section(item: bytes) -> BodySection:
    (found,) = fetch(item).sections
    return found


@pytest.mark.parametrize(
    ("items", "attributes"),
    [
        (b"ALL", ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE")),
        (b"fast", ("FLAGS", "INTERNALDATE", "RFC822.SIZE")),
        (b"FULL", ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY")),
        (b"FLAGS", ("FLAGS",)),
        (b"(FLAGS)", ("FLAGS",)),
        (b"(uid Rfc822.Size)", ("UID", "RFC822.SIZE")),
        (b"(FLAGS UID FLAGS)", ("FLAGS", "UID")),
        (b"(BODY BODYSTRUCTURE ENVELOPE)", ("BODY", "BODYSTRUCTURE", "ENVELOPE")),
        (b"(INTERNALDATE MODSEQ) ", ("INTERNALDATE", "MODSEQ")),
    ],
)
def test_attributes_and_macros(items, attributes):
    assert fetch(items) == Fetch(ONE, False, attributes, ())


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (b"BODY[]", BodySection(b"BODY[]", Section.ALL)),
        (b"body.peek[]", BodySection(b"BODY[]", Section.ALL, peek=True)),
        (b"BODY[header]", BodySection(b"BODY[HEADER]", Section.HEADER)),
        (b"BODY.PEEK[TEXT]", BodySection(b"BODY[TEXT]", Section.TEXT, peek=True)),
        (b"BODY[1]", BodySection(b"BODY[1]", Section.ALL, (1,))),
        (b"BODY[1.2.3]", BodySection(b"BODY[1.2.3]", Section.ALL, (1, 2, 3))),
        (b"BODY[1.2.mime]", BodySection(b"BODY[1.2.MIME]", Section.MIME, (1, 2))),
        (b"BODY[2.HEADER]", BodySection(b"BODY[2.HEADER]", Section.HEADER, (2,))),
        (b"BODY[2.TEXT]", BodySection(b"BODY[2.TEXT]", Section.TEXT, (2,))),
        (b"RFC822", BodySection(b"RFC822", Section.ALL)),
        (b"RFC822.HEADER", BodySection(b"RFC822.HEADER", Section.HEADER, peek=True)),
        (b"RFC822.TEXT", BodySection(b"RFC822.TEXT", Section.TEXT)),
        (b"BODY[]<0.100>", BodySection(b"BODY[]", Section.ALL, partial=(0, 100))),
        (
            b"BODY.PEEK[1]<4294967295.4294967295>",
            BodySection(b"BODY[1]", Section.ALL, (1,), peek=True, partial=(2**32 - 1, 2**32 - 1)),
        ),
        (
            b"BODY[HEADER.FIELDS (From TO)]",
            BodySection(
                b"BODY[HEADER.FIELDS (From TO)]", Section.HEADER_FIELDS, (), (b"From", b"TO")
            ),
        ),
        (
            b"body.peek[1.header.fields.not (X)]<0.9>",
            BodySection(
                b"BODY[1.HEADER.FIELDS.NOT (X)]",
                Section.HEADER_FIELDS_NOT,
                (1,),
                (b"X",),
                peek=True,
                partial=(0, 9),
            ),
        ),
        (
            b'BODY[HEADER.FIELDS ("Date" "odd(name")]',
            BodySection(
                b'BODY[HEADER.FIELDS (Date "odd(name")]',
                Section.HEADER_FIELDS,
                (),
                (b"Date", b"odd(name"),
            ),
        ),
        (
            b"BODY[HEADER.FIELDS (CHANGEDSINCE)]",
            BodySection(
                b"BODY[HEADER.FIELDS (CHANGEDSINCE)]",
                Section.HEADER_FIELDS,
                (),
                (b"CHANGEDSINCE",),
            ),
        ),
    ],
)
def test_body_sections(item, expected):
    assert section(item) == expected
    assert section(b"(" + item + b")") == expected
    assert fetch(b"(" + item + b" " + item + b")").sections == (expected,)


def test_field_names_may_be_literals():
    expected = section(b"BODY[HEADER.FIELDS (FROM To)]")
    command = parsed(b"a FETCH 1 (FLAGS BODY[HEADER.FIELDS ({4+}\r\nFROM To)]) (CHANGEDSINCE 4)")
    assert command == Fetch(ONE, False, ("FLAGS",), (expected,), changed_since=4)


def test_prefetch_of_delta_chat():
    names = (
        b"MESSAGE-ID DATE X-MICROSOFT-ORIGINAL-MESSAGE-ID FROM CONTENT-TYPE SECURE-JOIN "
        b"CHAT-VERSION CHAT-IS-POST-MESSAGE AUTOCRYPT-SETUP-MESSAGE"
    )
    item = b"HEADER.FIELDS (" + names + b")"
    command = parsed(b"A0005 UID FETCH 7:506 (UID RFC822.SIZE BODY.PEEK[" + item + b"])")
    expected = BodySection(
        b"BODY[" + item + b"]", Section.HEADER_FIELDS, (), tuple(names.split()), peek=True
    )
    assert command == Fetch(SequenceSet(((7, 506),)), True, ("UID", "RFC822.SIZE"), (expected,))


@pytest.mark.parametrize(
    ("line", "since", "vanished"),
    [
        (b"UID FETCH 1:* (FLAGS) (CHANGEDSINCE 17)", 17, False),
        (b"UID FETCH 1:* FLAGS (changedsince 0)", 0, False),
        (b"UID FETCH 1:* (FLAGS) (CHANGEDSINCE 9223372036854775807 VANISHED)", 2**63 - 1, True),
        (b"UID FETCH 1:* (FLAGS) (VANISHED CHANGEDSINCE 5)", 5, True),
        (b"UID FETCH 1:* FAST (CHANGEDSINCE 5)", 5, False),
    ],
)
def test_modifiers(line, since, vanished):
    command = parsed(b"a " + line)
    assert command.changed_since == since
    assert command.vanished is vanished
    assert "FLAGS" in command.attributes


@pytest.mark.parametrize(
    "items",
    [
        b"",
        b"()",
        b"(FLAGS",
        b"FLAGS UID",
        b"(ALL)",
        b"(FLAGS))",
        b"FOO",
        b"BINARY[]",
        b"EMAILID[]",
        b"BODY.PEEK",
        b"FLAGS[]",
        b"BODY[",
        b"BODY[0]",
        b"BODY[1.]",
        b"BODY[.1]",
        b"BODY[MIME]",
        b"BODY[4294967296]",
        b"BODY[HEADER.FIELDS]",
        b"BODY[HEADER.FIELDS ()]",
        b"BODY[HEADER.FIELDS (A]",
        b"BODY[HEADER.FIELDS (" + b"x " * 256 + b"x)]",
        b'BODY[HEADER.FIELDS ("a b")]',
        b'BODY[HEADER.FIELDS ("\xff")]',
        b"BODY[]<0>",
        b"BODY[]<0.0>",
        b"BODY[]<-1.5>",
        b"BODY[]<0.4294967296>",
        b"BODY[" + b".".join([b"1"] * 33) + b"]",
        b"(" + b" ".join(b"BODY[%d]" % n for n in range(1, 66)) + b")",
        b"(FLAGS) (CHANGEDSINCE)",
        b"(FLAGS) (CHANGEDSINCE 9223372036854775808)",
        b"(FLAGS) (CHANGEDSINCE 1 VANISHED)",
        b"(FLAGS) (VANISHED)",
        b"(FLAGS) (FOO 1)",
        b"(FLAGS) ()",
        b"(FLAGS) (CHANGEDSINCE 1) (CHANGEDSINCE 2)",
    ],
)
def test_what_is_not_a_fetch_is_bad(items):
    assert refusal(b"FETCH 1 " + items).startswith(b"BAD ")


def test_ten_thousand_parentheses_are_bad():
    assert refusal(b"FETCH 1 " + b"(" * 10000).startswith(b"BAD ")


@pytest.mark.parametrize("messages", [b"", b"0", b"1:", b"a", b"4294967296"])
def test_a_malformed_set_is_bad(messages):
    assert refusal(b"UID FETCH " + messages + b" FLAGS").startswith(b"BAD ")


@given(st.text("()[]<>.0123456789 *:,FLAGSBODYHEADER", max_size=40).map(str.encode))
def test_parsing_is_total(arguments):
    for text in (b" 1 " + arguments, b" 1 (BODY[" + arguments + b"])"):
        with contextlib.suppress(SyntaxProblem):
            lexer = Lexer(text)
            parse_fetch(lexer, by_uid=True)
            lexer.end()


REV2 = frozenset(("IMAP4REV2",))


def binary(text: bytes) -> BodySection:
    (found,) = parse_fetch(Lexer(b" 1 " + text, enabled=REV2), by_uid=True).sections
    return found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            b"BINARY[]",
            BodySection(b"BINARY[]", Section.ALL, is_binary=True),
        ),
        (
            b"binary.peek[1.2]<3.4>",
            BodySection(
                b"BINARY[1.2]", Section.ALL, (1, 2), peek=True, partial=(3, 4), is_binary=True
            ),
        ),
        (
            b"BINARY.SIZE[2]",
            BodySection(
                b"BINARY.SIZE[2]", Section.ALL, (2,), peek=True, is_binary=True, is_size=True
            ),
        ),
    ],
)
def test_binary_sections_of_imap4rev2(text, found):
    assert binary(text) == found


@pytest.mark.parametrize(
    "text",
    [
        b"BINARY[HEADER]",
        b"BINARY[1.MIME]",
        b"BINARY.SIZE[1]<0.1>",
        b"BINARY",
        b"BINARY[%b]" % b".".join([b"1"] * 33),
        b"BINARY[4294967296]",
    ],
)
def test_what_is_no_binary_section_is_bad(text):
    with pytest.raises(SyntaxProblem):
        parse_fetch(Lexer(b" 1 (" + text + b")", enabled=REV2), by_uid=True)
