"""Literals of all commands but APPEND: asked for, limited, swallowed when refused."""

from __future__ import annotations

import pytest

from chatmail.domain.wire.imap.commands import Login, SetMetadata
from chatmail.domain.wire.imap.events import CommandReceived, Rejected
from chatmail.domain.wire.imap.server import ServerMachine

from .reading import AFTER, BEFORE, MAX_APPEND, NOOP, PLUS, feed, machine, read, reply


def test_a_synchronising_literal_is_asked_for():
    made = machine(BEFORE)
    assert feed(made, [b"a LOGIN {3}\r\n"]) == [PLUS]
    assert feed(made, [b"u@d {2}\r\n"]) == [PLUS]
    assert feed(made, [b"pw\r\n"]) == [CommandReceived(b"a", Login(b"u@d", b"pw"))]


def test_octets_of_a_literal_are_never_commands():
    (event,) = read(b"a LOGIN {10+}\r\nb NOOP\r\nxy {2+}\r\npw\r\n", BEFORE)
    assert event == CommandReceived(b"a", Login(b"b NOOP\r\nxy", b"pw"))


@pytest.mark.parametrize("word", [b"ID (", b"FOO ", b"SELECT ", b"NOOP ", b""])
@pytest.mark.parametrize("form", [b"{8+}\r\nb NOOP\r\n\r\n", b"{8}\r\n"])
def test_before_login_only_login_has_literals(word, form):
    rejected, after = read(b"a " + word + form + b"z NOOP\r\n", BEFORE)
    assert reply(rejected).startswith(b"a BAD ")
    assert after == NOOP


def test_literals_before_login_are_limited_to_4_kib_together():
    made = machine(BEFORE)
    assert feed(made, [b"a LOGIN {4097}\r\n"]) == [Rejected(b"a BAD Literal is too large\r\n")]
    events = feed(made, [b"b LOGIN {4000+}\r\n", b"u" * 4000, b" {97}\r\n"])
    assert events == [Rejected(b"b BAD Literal is too large\r\n")]
    events = feed(made, [b"c LOGIN {4000+}\r\n", b"u" * 4000, b" {96+}\r\n", b"p" * 96, b"\r\n"])
    assert isinstance(events[0], CommandReceived)


def test_literals_after_login_are_limited_to_64_kib_together():
    made = ServerMachine(tls_active=True, max_append_bytes=10**6)
    made.authenticated()
    value = b"v" * 65536
    line = b"a SETMETADATA INBOX (/a {65536+}\r\n" + value
    (event,) = feed(made, [line + b")\r\n"])
    assert event.command == SetMetadata("INBOX", (("/a", value),))
    events = feed(made, [line + b" /b {1+}\r\nx)\r\nz NOOP\r\n"])
    assert events == [Rejected(b"a BAD Literal is too large\r\n"), NOOP]


def test_a_refused_non_synchronising_literal_is_swallowed_exactly():
    swallowed = b"b NOOP\r\n" * 100
    header = b"a SETMETADATA INBOX (/a {%d+}\r\n" % len(swallowed)
    events = read(header + swallowed + b")\r\nz NOOP\r\n", BEFORE)
    assert events == [Rejected(b"a BAD Command not allowed in this state\r\n"), NOOP]


def test_all_literals_of_a_refused_command_are_swallowed():
    events = read(b"a FOO {8+}\r\nb NOOP\r\n x {8+}\r\nc NOOP\r\n)\r\nz NOOP\r\n")
    assert events == [Rejected(b"a BAD Unknown command\r\n"), NOOP]


@pytest.mark.parametrize("size", [MAX_APPEND + 65537, 99999999999, 10**30])
@pytest.mark.parametrize("state", [BEFORE, AFTER])
def test_a_literal_too_large_to_swallow_closes(size, state):
    (rejected,) = read(b"a LOGIN {%d+}\r\nz NOOP\r\n" % size, state)
    assert rejected.close
    assert reply(rejected).startswith(b"a BAD ")
    assert b"\r\n* BYE [TOOBIG] " in reply(rejected)


def test_a_hopeless_literal_behind_a_swallowed_one_closes():
    rejected, bye = read(b"a FOO {3+}\r\nabc {99999999999+}\r\nz NOOP\r\n")
    assert reply(rejected) == b"a BAD Unknown command\r\n"
    assert bye.close
    assert reply(bye).startswith(b"* BYE [TOOBIG] ")


@pytest.mark.parametrize("announced", [b"{99999999999}", b"{-1}", b"{" + b"9" * 5000 + b"}"])
@pytest.mark.parametrize("command", [b"LOGIN", b"SELECT", b"APPEND x"])
def test_absurd_sizes_are_bad_without_continuation(announced, command):
    state = BEFORE if command == b"LOGIN" else AFTER
    rejected, after = read(b"a " + command + b" " + announced + b"\r\nz NOOP\r\n", state)
    assert reply(rejected).startswith(b"a BAD ")
    assert not rejected.close
    assert after == NOOP


def test_the_number_of_literals_is_bounded():
    events = read(b"a SEARCH" + b" SUBJECT {0+}\r\n" * 300 + b"\r\nz NOOP\r\n")
    assert events == [Rejected(b"a BAD Too many literals\r\n"), NOOP]


def test_an_empty_literal_is_a_string():
    (event,) = read(b"a LOGIN {0+}\r\n {0+}\r\n\r\n", BEFORE)
    assert event == CommandReceived(b"a", Login(b"", b""))
