from __future__ import annotations

import pytest

from chatmail.domain.wire.imap.lexer import LITERAL_MARK, Lexer, SyntaxProblem, quoted


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"atom]x rest", b"atom]x"),
        (b'"" x', b""),
        pytest.param(b'"a\\"b\\\\c d{}"', b'a"b\\c d{}', id="trap-T23"),
        ('"pässwörd"'.encode(), "pässwörd".encode()),
        (b'"\xff\xfe"', b"\xff\xfe"),
        (b'"(%*)\x01"', b"(%*)\x01"),
    ],
)
def test_an_astring_is_an_atom_or_an_unescaped_string(text, value):
    assert Lexer(text).astring() == value


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b'"open',
        b'"bad\\escape"',
        b'"ends\\"',
        b"(",
        b"{5}",
        b"\xff",
        b" a",
        b"%",
        b"*",
        b"\\x",
    ],
)
def test_what_is_not_an_astring_is_refused(text):
    with pytest.raises(SyntaxProblem):
        Lexer(text).astring()


def test_literals_stand_beside_the_text():
    lexer = Lexer(LITERAL_MARK + b" " + LITERAL_MARK, 0, [b'a"\r\n)b', b""])
    assert lexer.astring() == b'a"\r\n)b'
    lexer.space()
    assert lexer.string() == b""
    lexer.end()


def test_nul_in_a_literal_is_refused():
    with pytest.raises(SyntaxProblem):
        Lexer(LITERAL_MARK, 0, [b"a\0b"]).astring()


@pytest.mark.parametrize(("text", "value"), [(b"NIL", None), (b"nil", None), (b'"NIL"', b"NIL")])
def test_nil_is_no_string(text, value):
    assert Lexer(text).nstring() == value


@pytest.mark.parametrize(
    ("text", "most"), [(b"4294967296", 2**32 - 1), (b"9223372036854775808", 2**63 - 1), (b"x", 9)]
)
def test_numbers_are_bounded(text, most):
    with pytest.raises(SyntaxProblem):
        Lexer(text).number(most=most)


def test_modseq_has_63_bits():
    assert Lexer(b"9223372036854775807").modseq() == 2**63 - 1
    with pytest.raises(SyntaxProblem):
        Lexer(b"9223372036854775808").modseq()
    with pytest.raises(SyntaxProblem):
        Lexer(b"0").modseq()


@pytest.mark.parametrize(
    ("text", "day"),
    [(b"1-Jan-1970", 0), (b"01-jan-1970", 0), (b'"2-Feb-1994"', 8798), (b"29-Feb-2024)", 19782)],
)
def test_dates_count_days_since_1970(text, day):
    assert Lexer(text).day() == day


@pytest.mark.parametrize(
    "text",
    [
        b"30-Feb-2024",
        b"1-Foo-2024",
        b"1-Jan-24",
        b"0-Jan-2024",
        b'"1-Jan-2024',
        b"1-Jan-20245",
        b"1-Jan-0000",
    ],
)
def test_impossible_dates_are_refused(text):
    with pytest.raises(SyntaxProblem):
        Lexer(text).day()


@pytest.mark.parametrize("name", [b"&", "ü".encode()])
def test_a_mailbox_name_must_be_modified_utf7(name):
    with pytest.raises(SyntaxProblem, match="modified UTF-7"):
        Lexer(b'"' + name + b'"').mailbox()


def test_a_pattern_may_hold_wildcards_without_quotes():
    assert Lexer(b"a/%*").list_pattern() == "a/%*"
    assert Lexer(b'"Entw&APw-rfe/*"').list_pattern() == "Entwürfe/*"


def test_trailing_spaces_end_a_command_too():
    Lexer(b"  ").end()
    with pytest.raises(SyntaxProblem):
        Lexer(b" x").end()


def test_quoted_escapes_what_a_reader_unescapes():
    assert Lexer(quoted(b'a"\\b')).astring() == b'a"\\b'


@pytest.mark.parametrize("mode", ["UTF8=ACCEPT", "IMAP4REV2"])
def test_names_and_quoted_strings_are_utf8_once_enabled(mode):
    enabled = frozenset((mode, "CONDSTORE"))
    assert Lexer('"ü&-"'.encode(), enabled=enabled).mailbox() == "ü&-"
    assert Lexer('"ü\\"%"'.encode(), enabled=enabled).list_pattern() == 'ü"%'
    assert Lexer(b'"\\\\"', enabled=enabled).string() == b"\\"
    for text in (b'"\xff"', b'"a\xc3"'):
        with pytest.raises(SyntaxProblem, match="not UTF-8"):
            Lexer(text, enabled=enabled).string()
        assert Lexer(text).string() == text.strip(b'"')
    with pytest.raises(SyntaxProblem, match="valid UTF-8"):
        Lexer(LITERAL_MARK, literals=(b"\xff",), enabled=enabled).mailbox()
