from __future__ import annotations

import pytest

from chatmail.domain.wire.imap.commands import AppendBegin, Store
from chatmail.domain.wire.imap.sequence import SequenceSet

from .reading import parsed, refusal

ONE = SequenceSet(((1, 1),))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (b"FLAGS (\\Seen)", Store(ONE, False, "=", ("\\Seen",), False)),
        (b"+flags (\\sEEN \\DELETED)", Store(ONE, False, "+", ("\\Seen", "\\Deleted"), False)),
        (b"-FLAGS.SILENT (\\Draft)", Store(ONE, False, "-", ("\\Draft",), True)),
        (b"FLAGS ()", Store(ONE, False, "=", (), False)),
        (b"+FLAGS \\Answered $Fwd", Store(ONE, False, "+", ("\\Answered", "$Fwd"), False)),
        (b"+FLAGS (a A \\Seen \\seen)", Store(ONE, False, "+", ("a", "\\Seen"), False)),
        (b"(UNCHANGEDSINCE 0) +FLAGS.Silent (x)", Store(ONE, False, "+", ("x",), True, 0)),
        (b"(unchangedsince 99) FLAGS x", Store(ONE, False, "=", ("x",), False, 99)),
    ],
)
def test_store(arguments, expected):
    assert parsed(b"a STORE 1 " + arguments) == expected


def test_uid_store_of_delta_chat():
    expected = Store(SequenceSet(((4, 4), (6, 7))), True, "+", ("\\Deleted",), False)
    assert parsed(b"A7 UID STORE 4,6:7 +FLAGS (\\Deleted)") == expected


@pytest.mark.parametrize(
    "arguments",
    [
        b"",
        b"FLAGS",
        b"FLAGS ",
        b"+-FLAGS (x)",
        b"FLAGS.LOUD (x)",
        b"FLAGS (\\Recent)",
        b"FLAGS (\\Foo)",
        b"FLAGS (\\*)",
        b"FLAGS (x",
        b"FLAGS (x) y",
        b'FLAGS ("x")',
        b"(FOO 1) FLAGS (x)",
        b"(UNCHANGEDSINCE) FLAGS (x)",
        b"(UNCHANGEDSINCE 1 FLAGS (x)",
        b"FLAGS (" + b" ".join(b"k%d" % n for n in range(129)) + b")",
    ],
)
def test_what_is_not_a_store_is_bad(arguments):
    assert refusal(b"STORE 1 " + arguments).startswith(b"BAD ")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (b"INBOX {3}", AppendBegin("INBOX", (), None, 3, True)),
        (b'"inbox" {0+}', AppendBegin("INBOX", (), None, 0, False)),
        (b"x (\\seen) {3+}", AppendBegin("x", ("\\Seen",), None, 3, False)),
        (b'x "01-Jan-1970 00:00:10 +0000" {3+}', AppendBegin("x", (), 10, 3, False)),
        (b'x () " 1-Jan-1970 02:00:00 +0100" {3+}', AppendBegin("x", (), 3600, 3, False)),
        (
            b'x (\\Draft k) "17-Jul-1996 02:44:25 -0700" {3+}',
            AppendBegin("x", ("\\Draft", "k"), 837596665, 3, False),
        ),
        (b'x "31-Dec-1969 00:00:00 +0000" {3}', AppendBegin("x", (), 0, 3, True)),
        (b"{5+}\r\nEntw! (k) {3}", AppendBegin("Entw!", ("k",), None, 3, True)),
    ],
)
def test_append(arguments, expected):
    assert parsed(b"a APPEND " + arguments) == expected


@pytest.mark.parametrize(
    "arguments",
    [
        b"INBOX",
        b"INBOX (\\Seen)",
        b"{3+}\r\nabc",
        b"INBOX{3}",
        b"INBOX (\\Recent) {3}",
        b"INBOX (\\Seen){3}",
        b'INBOX "32-Jan-2024 00:00:00 +0000" {3}',
        b'INBOX "01-Jan-2024 24:00:00 +0000" {3}',
        b'INBOX "01-Jan-2024 00:00:00" {3}',
        b'INBOX (\\Seen) "x" {3}',
        b"INBOX x {3}",
        b"INBOX UTF8 (~{3}",
        pytest.param(b"INBOX ~{3}", id="binary-is-not-offered"),
        b"INBOX {4294967296}",
        b"INBOX {-1}",
    ],
)
def test_what_is_not_an_append_is_bad(arguments):
    assert refusal(b"APPEND " + arguments).startswith(b"BAD ")
