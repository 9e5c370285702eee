from __future__ import annotations

import pytest

from chatmail.domain.wire.imap.commands import (
    Create,
    GetMetadata,
    GetQuota,
    GetQuotaRoot,
    List,
    QresyncParameter,
    Select,
    SetMetadata,
    SetQuota,
    Status,
)
from chatmail.domain.wire.imap.sequence import SequenceSet

from .reading import parsed, refusal

TOKEN = "/private/devicetoken"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'SELECT "INBOX"', Select("INBOX", read_only=False)),
        (b"select Inbox", Select("INBOX", read_only=False)),
        (b"EXAMINE x", Select("x", read_only=True)),
        (b'SELECT "INBOX" (CONDSTORE)', Select("INBOX", False, condstore=True)),
        (
            b"SELECT x (QRESYNC (67890007 20050715194045000))",
            Select("x", False, qresync=QresyncParameter(67890007, 20050715194045000)),
        ),
        (
            b"SELECT x (QRESYNC (1 2 41,43:211))",
            Select(
                "x",
                False,
                qresync=QresyncParameter(1, 2, SequenceSet(((41, 41), (43, 211)))),
            ),
        ),
        (
            b"SELECT x (QRESYNC (1 2 1:9 (1,3 4,6)) CONDSTORE)",
            Select(
                "x",
                False,
                True,
                QresyncParameter(
                    1,
                    2,
                    SequenceSet(((1, 9),)),
                    (SequenceSet(((1, 1), (3, 3))), SequenceSet(((4, 4), (6, 6)))),
                ),
            ),
        ),
        (
            b"SELECT x (QRESYNC (1 2 (1 4)))",
            Select(
                "x",
                False,
                qresync=QresyncParameter(
                    1, 2, None, (SequenceSet(((1, 1),)), SequenceSet(((4, 4),)))
                ),
            ),
        ),
        (b"CREATE DeltaChat", Create("DeltaChat")),
        (b"CREATE a/b/", Create("a/b")),
        (b"CREATE /", Create("/")),
        (b"CREATE s (USE (\\sent))", Create("s", "\\Sent")),
        (b"CREATE s (USE ())", Create("s")),
        (b"STATUS f (UIDNEXT)", Status("f", ("UIDNEXT",))),
        (
            b"STATUS inbox (messages unseen size DELETED appendlimit recent MESSAGES)",
            Status("INBOX", ("MESSAGES", "UNSEEN", "SIZE", "DELETED", "APPENDLIMIT", "RECENT")),
        ),
        (b'GETQUOTAROOT "INBOX"', GetQuotaRoot("INBOX")),
        (b'GETQUOTA "User quota"', GetQuota("User quota")),
        (b'SETQUOTA "" (STORAGE 512)', SetQuota()),
    ],
)
def test_mailbox_commands(line, expected):
    assert parsed(b"a " + line) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (b'"" "*"', List("", ("*",))),
        (b'"" ""', List("", ("",))),
        (b"a/ %", List("a/", ("%",))),
        (b'"" {2+}\r\na*', List("", ("a*",))),
        (b'() "" x', List("", ("x",), is_extended=True)),
        (b'"" (INBOX "x*")', List("", ("INBOX", "x*"), is_extended=True)),
        (
            b'(SUBSCRIBED recursivematch) "" *',
            List("", ("*",), select_subscribed=True, recursive_match=True, is_extended=True),
        ),
        (b'(SPECIAL-USE REMOTE) "" *', List("", ("*",), select_special_use=True, is_extended=True)),
        (b'"" * RETURN ()', List("", ("*",), is_extended=True)),
        (
            b'"" % return (children SPECIAL-USE SUBSCRIBED)',
            List(
                "",
                ("%",),
                return_children=True,
                return_special_use=True,
                return_subscribed=True,
                is_extended=True,
            ),
        ),
        (
            b'"" % RETURN (STATUS (MESSAGES UIDNEXT) CHILDREN)',
            List(
                "",
                ("%",),
                return_children=True,
                return_status=("MESSAGES", "UIDNEXT"),
                is_extended=True,
            ),
        ),
    ],
)
def test_list(arguments, expected):
    assert parsed(b"a LIST " + arguments) == expected


def test_lsub():
    assert parsed(b'a LSUB "" *') == List("", ("*",), is_lsub=True)


METADATA = GetMetadata("", ("/shared/comment", "/shared/admin"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (b'"" (/shared/comment /shared/admin)', METADATA),
        (b'"" ( "/shared/COMMENT" /Shared/Admin /shared/admin )', METADATA),
        (b"INBOX " + TOKEN.encode(), GetMetadata("INBOX", (TOKEN,))),
        (b'"" "/shared/comment"', GetMetadata("", ("/shared/comment",))),
        (b'"" ({15+}\r\n/shared/comment)', GetMetadata("", ("/shared/comment",))),
        (b'(MAXSIZE 1024) "" /a', GetMetadata("", ("/a",), max_size=1024)),
        (b'(depth 1 MAXSIZE 9) "" (/a)', GetMetadata("", ("/a",), max_size=9, depth=1)),
        (b'(DEPTH infinity) "" /a', GetMetadata("", ("/a",), depth=None)),
        pytest.param(
            b'"" (DEPTH 0 MAXSIZE 1) (/a /b)',
            GetMetadata("", ("/a", "/b"), max_size=1, depth=0),
            id="options-behind-the-mailbox",
        ),
    ],
)
def test_get_metadata(arguments, expected):
    assert parsed(b"a GETMETADATA " + arguments) == expected


def test_get_metadata_of_delta_chat():
    names = [
        "/shared/comment",
        "/shared/admin",
        "/shared/vendor/deltachat/irohrelay",
        "/shared/vendor/deltachat/turn",
        "/shared/vendor/deltachat/maxsmtprecipients",
        "/shared/vendor/deltachat/appversions",
    ]
    line = b'A0002 GETMETADATA "" (' + " ".join(names).encode() + b")"
    assert parsed(line) == GetMetadata("", tuple(names))


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (b'(/private/devicetoken "openpgp:x")', b"openpgp:x"),
        pytest.param(b'(/private/devicetoken "1111" )', b"1111", id="trap-T36-space"),
        pytest.param(b"(/private/devicetoken {4+}\r\n1111)", b"1111", id="trap-T36-non-sync"),
        (b"(/private/devicetoken {4}\r\n11)1 )", b"11)1"),
        (b"(/Private/DeviceToken NIL)", None),
        (b"(/private/devicetoken nil )", None),
        (b'(/private/devicetoken "")', b""),
    ],
)
def test_set_metadata(arguments, value):
    expected = SetMetadata("INBOX", ((TOKEN, value),))
    assert parsed(b'a SETMETADATA "INBOX" ' + arguments) == expected


def test_set_metadata_of_several_entries():
    command = parsed(b'a SETMETADATA INBOX (/a "1" /b {1+}\r\n2 /c NIL)')
    assert command == SetMetadata("INBOX", (("/a", b"1"), ("/b", b"2"), ("/c", None)))


@pytest.mark.parametrize(
    "line",
    [
        b"SELECT",
        b"SELECT INBOX (",
        b"SELECT INBOX (FOO)",
        b"SELECT INBOX (QRESYNC (0 1))",
        b"SELECT INBOX (QRESYNC (1 0))",
        b"SELECT INBOX (QRESYNC (1 9223372036854775808))",
        b"SELECT INBOX (QRESYNC (1 2 1:*))",
        b"SELECT INBOX (QRESYNC (1 2 $))",
        b"SELECT INBOX (QRESYNC (1))",
        b"SELECT INBOX x",
        b"SELECT &bad",
        b"CREATE",
        b"CREATE x (FOO (\\Sent))",
        b"CREATE x (USE \\Sent)",
        b"LIST",
        b'LIST ""',
        b'LIST "" * x',
        b'LIST "" * RETURN',
        b'LIST "" * RETURN (FOO)',
        b'LIST "" * RETURN (STATUS ())',
        b'LIST (FOO) "" *',
        b'LIST (RECURSIVEMATCH) "" *',
        b'LIST (RECURSIVEMATCH REMOTE) "" *',
        b'LIST "" ()',
        b'LIST "" (' + b" ".join([b"x"] * 33) + b")",
        b'LSUB "" (a b)',
        b"STATUS INBOX ()",
        b"STATUS INBOX (FOO)",
        b"STATUS INBOX MESSAGES",
        b"GETQUOTA",
        b'SETQUOTA "" STORAGE',
        b'GETMETADATA ""',
        b'GETMETADATA "" ()',
        b'GETMETADATA "" noslash',
        b'GETMETADATA "" /a/',
        b'GETMETADATA "" /a//b',
        b'GETMETADATA "" "/a*"',
        b'GETMETADATA "" (DEPTH 2) /a',
        b'GETMETADATA (FOO 1) "" /a',
        b'GETMETADATA "" "/' + b"x" * 256 + b'"',
        b'GETMETADATA "" (' + b" ".join(b"/e%d" % n for n in range(65)) + b")",
        b"SETMETADATA INBOX",
        b"SETMETADATA INBOX ()",
        b"SETMETADATA INBOX (/a)",
        b"SETMETADATA INBOX (/a atom)",
        b'SETMETADATA INBOX (/a "1"',
        b'SETMETADATA INBOX /a "1"',
        b"SETMETADATA INBOX (" + b" ".join(b"/e%d NIL" % n for n in range(65)) + b")",
    ],
)
def test_what_is_not_of_the_grammar_is_bad(line):
    assert refusal(line).startswith(b"BAD ")


@pytest.mark.parametrize("uses", [b"\\Foo", b"\\Sent \\Trash"])
def test_a_special_use_that_cannot_be_is_no(uses):
    assert refusal(b"CREATE x (USE (" + uses + b"))").startswith(b"NO [USEATTR] ")
