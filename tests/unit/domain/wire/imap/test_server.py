"""Commands in lines: limits, states, errors in a row, IDLE, AUTHENTICATE, STARTTLS, pauses."""

from __future__ import annotations

import pytest

from chatmail.domain.model.errors import LocalProtocolError, RemoteProtocolError
from chatmail.domain.wire.imap.commands import (
    Authenticate,
    Compress,
    Idle,
    Login,
    Logout,
    Noop,
    Select,
    StartTls,
)
from chatmail.domain.wire.imap.events import (
    NEED_DATA,
    CommandReceived,
    IdleDone,
    Rejected,
    ResponseLine,
)
from chatmail.domain.wire.imap.server import State

from .reading import AFTER, BEFORE, NOOP, drain, feed, machine, read, reply

# --- lines -----------------------------------------------------------------------------------


def test_pipelined_commands_come_out_in_order():
    events = read(b"a NOOP\r\nb NOOP\nc NOOP\r\nd NO")
    assert events == [CommandReceived(tag, Noop()) for tag in (b"a", b"b", b"c")]


def test_tags_may_repeat():
    assert read(b"A0001 NOOP\r\nA0001 NOOP\r\n") == [CommandReceived(b"A0001", Noop())] * 2


@pytest.mark.parametrize(
    "line",
    [b"a NO\rOP", b"a NOOP\r", b"a NO\0OP", b'a SELECT "x\ry"', b"a RENAME x {3+}\r\nx\ry\r"],
)
def test_bare_cr_and_nul_are_bad(line):
    events = read(line + b"\r\nz NOOP\r\n")
    assert events == [Rejected(b"a BAD Bare CR or NUL\r\n"), NOOP]


@pytest.mark.parametrize(
    ("line", "octets"),
    [
        (b"", b"* BAD Missing or invalid tag\r\n"),
        (b"+ NOOP", b"* BAD Missing or invalid tag\r\n"),
        (b"\xff\xfe", b"* BAD Missing or invalid tag\r\n"),
        (b"a", b"a BAD Missing command\r\n"),
        (b"a ", b"a BAD Missing command\r\n"),
        (b"a FOO", b"a BAD Unknown command\r\n"),
        (b"a LOGIN u p", b"a BAD Command not allowed in this state\r\n"),
    ],
)
def test_what_is_no_command_is_bad_and_the_next_one_works(line, octets):
    assert read(line + b"\r\nz NOOP\r\n") == [Rejected(octets), NOOP]


def test_a_command_in_the_wrong_state_is_bad_and_the_connection_stays():
    events = read(b"a SELECT INBOX\r\nb UID FETCH 1 FLAGS\r\nz NOOP\r\n", BEFORE)
    assert [reply(event)[:5] for event in events[:2]] == [b"a BAD", b"b BAD"]
    assert events[2] == NOOP


@pytest.mark.parametrize("line", [b"z NOOP\r\n", b"x" * 8193])
def test_a_line_over_8_kib_before_login_closes(line):
    (rejected,) = read(b"a NOOP " + b" " * 8200 + b"\r\n" + line, BEFORE)
    assert rejected.close
    assert reply(rejected).startswith(b"* BAD Command line too long\r\n* BYE ")


def test_a_line_of_8_kib_before_login_is_read():
    padding = b" " * (8192 - len(b"a NOOP\r"))
    assert read(b"a NOOP" + padding + b"\r\n", BEFORE) == [CommandReceived(b"a", Noop())]


def test_64_kib_without_line_end_before_login_end_the_connection_early():
    made = machine(BEFORE)
    events = feed(made, [b"x" * 1024] * 64)
    assert [event.close for event in events] == [True]
    assert made.state is State.LOGOUT
    assert not made.has_buffered_input


def test_a_line_over_64_kib_after_login_is_borne_once():
    long = b"a SEARCH SUBJECT " + b"x" * 65536 + b"\r\n"
    first, between, second = read(long + b"z NOOP\r\n" + long + b"y NOOP\r\n")
    assert first == Rejected(b"a BAD Command line too long\r\n")
    assert between == NOOP
    assert second.close
    assert reply(second).startswith(b"a BAD Command line too long\r\n* BYE ")


def test_the_lines_of_one_command_are_limited_together():
    part = b"x" * 40000
    rejected, after = read(
        b"a SEARCH SUBJECT " + part + b" SUBJECT {1+}\r\ny SUBJECT " + part + b"\r\nz NOOP\r\n"
    )
    assert reply(rejected) == b"a BAD Command line too long\r\n"
    assert after == NOOP


def test_the_literal_of_an_overlong_line_is_no_command():
    long = b"a SEARCH SUBJECT " + b"x" * 65536 + b" {10+}\r\nz LOGOUT\r\n\r\nz NOOP\r\n"
    assert read(long) == [Rejected(b"a BAD Command line too long\r\n"), NOOP]


# --- errors in a row -------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "bound"), [(BEFORE, 10), (AFTER, 50)])
def test_too_many_errors_in_a_row_end_the_connection(state, bound):
    events = read(b"a FOO\r\n" * (bound + 5), state)
    assert len(events) == bound
    assert [event.close for event in events] == [False] * (bound - 1) + [True]
    assert reply(events[-1]) == b"a BAD Unknown command\r\n* BYE Too many errors\r\n"


def test_a_good_command_starts_the_count_again():
    events = read((b"a FOO\r\n" * 9 + b"z NOOP\r\n") * 3, BEFORE)
    assert not any(isinstance(event, Rejected) and event.close for event in events)


def test_no_replies_are_not_errors():
    events = read(b"a CREATE x (USE (\\Odd))\r\n" * 60)
    assert not any(event.close for event in events)


# --- IDLE ------------------------------------------------------------------------------------


@pytest.mark.parametrize("done", [b"DONE\r\n", b"done\n", b"DoNe\r\n"])
def test_done_ends_idle(done):
    events = read(b"i IDLE\r\n" + done + b"z NOOP\r\n")
    assert events == [CommandReceived(b"i", Idle()), IdleDone(b"i"), NOOP]


@pytest.mark.parametrize("line", [b"b NOOP", b"", b"DONE x", b"x {8+}\r\nDONE\r\n\r\n", b"\xff"])
def test_anything_else_in_idle_is_bad_and_ends_it(line):
    events = read(b"i IDLE\r\n" + line + b"\r\nz NOOP\r\n")
    assert events[1:] == [Rejected(b"i BAD Expected DONE\r\n"), NOOP]


def test_done_outside_idle_is_bad():
    assert read(b"DONE\r\n") == [Rejected(b"DONE BAD Missing command\r\n")]


# --- AUTHENTICATE ----------------------------------------------------------------------------


@pytest.mark.parametrize("line", [b"AHUAcA==", b"*", b"", b"x {5+}"])
def test_the_answer_to_a_challenge_is_given_as_it_is(line):
    events = read(b"a AUTHENTICATE PLAIN\r\n" + line + b"\r\nz NOOP\r\n", BEFORE)
    assert events == [CommandReceived(b"a", Authenticate("PLAIN")), ResponseLine(line), NOOP]


def test_an_answer_over_the_limit_closes():
    events = read(b"a AUTHENTICATE PLAIN\r\n" + b"A" * 9000 + b"\r\n", BEFORE)
    assert events[1].close


def test_secrets_without_tls_are_refused_unseen():
    made = machine(BEFORE, tls_active=False)
    events = feed(made, [b"a LOGIN u@d {6}\r\nb AUTHENTICATE PLAIN AAAA\r\nc LOGIN u p\r\n"])
    assert [reply(event)[2:] for event in events] == [b"NO [PRIVACYREQUIRED] TLS required.\r\n"] * 3


# --- STARTTLS, COMPRESS, LOGOUT --------------------------------------------------------------


def test_cleartext_behind_starttls_is_seen_and_never_executed():
    made = machine(BEFORE, tls_active=False)
    made.receive_data(b"a STARTTLS\r\nb LOGIN u p\r\n")
    assert made.next_event() == CommandReceived(b"a", StartTls())
    assert made.has_buffered_input
    with pytest.raises(RemoteProtocolError):
        made.starttls_done()


def test_after_starttls_login_is_possible():
    made = machine(BEFORE, tls_active=False)
    made.receive_data(b"a STARTTLS\r\n")
    assert made.next_event() == CommandReceived(b"a", StartTls())
    assert not made.has_buffered_input
    made.starttls_done()
    events = feed(made, [b"a LOGIN u p\r\nb STARTTLS\r\n"])
    assert events == [
        CommandReceived(b"a", Login(b"u", b"p")),
        Rejected(b"b BAD TLS is already active\r\n"),
    ]


def test_tags_restart_after_compress():
    made = machine()
    (event,) = feed(made, [b"A0003 COMPRESS DEFLATE\r\n"])
    assert event.command == Compress("DEFLATE")
    made.compressed()
    assert made.is_compressed
    assert feed(made, [b"A0001 NOOP\r\n"]) == [CommandReceived(b"A0001", Noop())]


def test_nothing_is_read_after_logout():
    made = machine()
    assert feed(made, [b"a LOGOUT\r\nb NOOP\r\n", b"c NOOP\r\n"]) == [
        CommandReceived(b"a", Logout())
    ]
    assert made.state is State.LOGOUT
    assert made.next_event() is NEED_DATA
    assert not made.has_buffered_input


def test_the_shell_is_told_when_to_read():
    made = machine()
    assert made.wants_input
    made.receive_data(b"a NOOP\r\nb NOOP\r\n")
    assert not made.wants_input
    made.next_event()
    assert not made.wants_input
    assert len(drain(made)) == 1
    assert made.wants_input


def test_states_are_told_by_the_shell():
    made = machine(BEFORE)
    assert made.state is State.NOT_AUTHENTICATED
    made.authenticated()
    assert made.state is State.AUTHENTICATED
    made.selected()
    assert made.state is State.SELECTED
    made.deselected()
    assert made.state is State.AUTHENTICATED
    made.enable("CONDSTORE")
    assert made.enabled == {"CONDSTORE"}


def test_login_select_and_fetch_in_one_segment():
    made = machine(BEFORE)
    made.receive_data(b'a LOGIN u p\r\nb SELECT "INBOX"\r\nc UID FETCH 1:* (FLAGS)\r\n')
    seen = []
    while (event := made.next_event()) is not NEED_DATA:
        seen.append(event.tag)
        match event.command:
            case Login():
                made.authenticated()
            case Select():
                made.selected()
    assert seen == [b"a", b"b", b"c"]


def test_idle_and_responses_begin_between_commands_only():
    made = machine()
    made.receive_data(b"a SELECT {5}\r\n")
    made.next_event()
    with pytest.raises(LocalProtocolError):
        made.begin_idle(b"a")
    with pytest.raises(LocalProtocolError):
        made.begin_response()


# --- for the shell ------------------------------------------------------------------------------


def test_a_bad_of_the_shell_counts_as_one_of_ours() -> None:
    made = machine()
    for _ in range(49):
        feed(made, [b"a NOOP\r\n"])
        assert made.answered_bad() == b""
    feed(made, [b"a NOOP\r\n"])
    assert made.answered_bad() == b"* BYE Too many errors\r\n"
    assert made.state is State.LOGOUT
    assert feed(made, [b"a NOOP\r\n"]) == []


def test_a_good_command_forgives_bads_of_both_kinds() -> None:
    made = machine()
    for _ in range(30):
        feed(made, [b"a NOOP\r\n"])
        assert made.answered_bad() == b""
        feed(made, [b"x NOSUCH\r\n"])
        feed(made, [b"a NOOP\r\n"])  # answered with OK


def test_between_commands_is_where_nothing_of_the_next_one_was_read() -> None:
    made = machine()
    assert made.is_between_commands
    feed(made, [b"a CREATE {3}\r\n"])
    assert not made.is_between_commands
    feed(made, [b"abc"])
    assert not made.is_between_commands
    feed(made, [b"\r\n"])
    assert made.is_between_commands
    feed(made, [b"a IDLE\r\n"])
    assert not made.is_between_commands
