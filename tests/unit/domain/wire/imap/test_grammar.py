from __future__ import annotations

import pytest

from chatmail.domain.wire.imap.commands import (
    Authenticate,
    Capability,
    Close,
    Compress,
    Copy,
    Delete,
    Enable,
    Expunge,
    Id,
    Idle,
    Login,
    Logout,
    Namespace,
    Noop,
    Rename,
    StartTls,
    Subscribe,
)
from chatmail.domain.wire.imap.sequence import SequenceSet
from chatmail.domain.wire.imap.server import ServerMachine, State

from .reading import drain, machine, parsed, refusal

BEFORE = State.NOT_AUTHENTICATED


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b"a CAPABILITY", Capability()),
        (b"a capability ", Capability()),
        (b"a NOOP", Noop()),
        (b"a CHECK", Noop("Check")),
        (b"a LOGOUT", Logout()),
        (b"a NAMESPACE", Namespace()),
        (b"a IdLe", Idle()),
        (b"a CLOSE", Close(expunge=True)),
        (b"a UNSELECT", Close(expunge=False)),
        (b"a EXPUNGE", Expunge()),
        (b"a UID EXPUNGE 3:*", Expunge(SequenceSet(((3, None),)))),
        (b"a ENABLE condstore QRESYNC CONDSTORE", Enable(("CONDSTORE", "QRESYNC"))),
        (b"a COMPRESS deflate", Compress("DEFLATE")),
        (b'a DELETE "DeltaChat"', Delete("DeltaChat")),
        (b"a RENAME inbox {3+}\r\nold", Rename("INBOX", "old")),
        (b"a SUBSCRIBE x", Subscribe("x", subscribed=True)),
        (b"a UNSUBSCRIBE x", Subscribe("x", subscribed=False)),
        (b"a ID NIL", Id()),
        (b"a ID ()", Id()),
        (b'a ID ("name" "Delta Chat")', Id()),
        (b'a ID ("name" NIL "version" {3+}\r\n1.2)', Id()),
        (b"a COPY 1:2 x", Copy(SequenceSet(((1, 2),)), False, "x", move=False)),
        (b'a UID COPY 1,3 "x"', Copy(SequenceSet(((1, 1), (3, 3))), True, "x", move=False)),
        (b"a MOVE * x", Copy(SequenceSet(((None, None),)), False, "x", move=True)),
        (b"a uid move $ x", Copy(SequenceSet((), saved=True), True, "x", move=True)),
    ],
)
def test_commands(line, command):
    assert parsed(line) == command


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b'a LOGIN "u@d" "p w"', Login(b"u@d", b"p w")),
        (b"a login u@d p", Login(b"u@d", b"p")),
        pytest.param(
            b'a LOGIN "u@[127.0.0.1]" "a\\"b\\\\c d{}"',
            Login(b"u@[127.0.0.1]", b'a"b\\c d{}'),
            id="trap-T23",
        ),
        (b"a LOGIN {3}\r\nu@d {4+}\r\n\r\np)", Login(b"u@d", b"\r\np)")),
        ('a LOGIN u "pä"'.encode(), Login(b"u", "pä".encode())),
        (b"a AUTHENTICATE plain", Authenticate("PLAIN")),
        (b"a AUTHENTICATE PLAIN AHUAcA==", Authenticate("PLAIN", b"AHUAcA==")),
        (b"a AUTHENTICATE PLAIN =", Authenticate("PLAIN", b"=")),
    ],
)
def test_login_commands(line, command):
    assert parsed(line, BEFORE) == command


def test_starttls_is_parsed_without_tls():
    made = machine(BEFORE, tls_active=False)
    made.receive_data(b"a STARTTLS\r\n")
    (event,) = drain(made)
    assert event.command == StartTls()


def test_secrets_are_not_shown():
    shown = repr(parsed(b"a LOGIN user secret", BEFORE))
    assert "secret" not in shown
    shown = repr(parsed(b"a AUTHENTICATE PLAIN c2VjcmV0", BEFORE))
    assert "c2VjcmV0" not in shown
    made = ServerMachine(tls_active=True, max_append_bytes=1)
    made.receive_data(b"a LOGIN user {6+}\r\nsecre")
    made.next_event()
    assert "secre" not in repr(made)


@pytest.mark.parametrize(
    "line",
    [
        b"NOOP x",
        b"IDLE x",
        b"ENABLE",
        b"ENABLE (CONDSTORE)",
        b"ENABLE " + b" ".join(b"x%d" % n for n in range(33)),
        b"COMPRESS",
        b"DELETE",
        b"RENAME a",
        b"ID",
        b"ID name",
        b'ID ("name")',
        b'ID (NIL "x")',
        b"ID (" + b" ".join([b'"k" "v"'] * 31) + b")",
        b'ID ("' + b"k" * 31 + b'" "v")',
        b'ID ("k" "' + b"v" * 1025 + b'")',
        b"UID",
        b"UID NOOP",
        b"UID EXPUNGE",
        b"COPY 0 x",
        b"COPY 1 x y",
        b"EXPUNGE 1",
        b"STATUS INBOX",
        pytest.param(b"SORT (DATE) UTF-8 ALL", id="sort-is-not-offered"),
        pytest.param(b"THREAD REFERENCES UTF-8 ALL", id="thread-is-not-offered"),
        pytest.param(b"UID SORT (DATE) UTF-8 ALL", id="uid-sort-is-not-offered"),
        b"GETACL INBOX",
        b"XLIST a b",
        b"ID {3+}",
    ],
)
def test_what_is_not_of_the_grammar_is_bad(line):
    if line.endswith(b"}"):
        line += b"\r\nabc"
    assert refusal(line).startswith(b"BAD ")


@pytest.mark.parametrize(
    "line",
    [
        b"LOGIN",
        b"LOGIN u",
        b'LOGIN "u" "p',
        b"LOGIN u p x",
        b"AUTHENTICATE",
        b"LOGIN (u) p",
        b"AUTHENTICATE PLAIN !!!",
        b"AUTHENTICATE PLAIN a b",
        b'LOGIN u "\\p"',
    ],
)
def test_a_malformed_login_is_bad(line):
    assert refusal(line, BEFORE).startswith(b"BAD ")


def test_thirty_id_pairs_at_their_limits_are_taken():
    pair = b'"' + b"k" * 30 + b'" "' + b"v" * 1024 + b'"'
    assert parsed(b"a ID (" + b" ".join([pair] * 30) + b")") == Id()
