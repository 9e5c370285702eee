"""The server machine: transcripts, limits, content, its use by the shell."""

from __future__ import annotations

import itertools

import pytest

from chatmail.domain.model.account import Credentials
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.errors import LocalProtocolError
from chatmail.domain.wire.sasl import MAX_RESPONSE_OCTETS
from chatmail.domain.wire.smtp import replies
from chatmail.domain.wire.smtp.commands import Data, Hello, Mail, Rcpt
from chatmail.domain.wire.smtp.data import ContentFault
from chatmail.domain.wire.smtp.events import Answered, ContentChunk, ContentEnd, Login
from chatmail.domain.wire.smtp.replies import Reply
from chatmail.domain.wire.smtp.sequence import Role, State
from chatmail.domain.wire.smtp.server import (
    MAX_COMMAND_OCTETS,
    MAX_ERRORS,
    MAX_FAILED_LOGINS,
    MAX_IDLE_COMMANDS,
    SmtpServer,
)
from tests.unit.domain.wire.smtp.server_dialogue import PLAIN, Dialogue, logged_in


def test_the_session_of_delta_chat_core() -> None:
    dialogue = Dialogue()
    assert dialogue.say(b"EHLO [127.0.0.1]\r\n").endswith(b"250 8BITMIME\r\n")
    assert dialogue.say(PLAIN) == b"235 2.7.0 Authentication successful\r\n"
    replies_ = dialogue.say(
        b"MAIL FROM:<u@relay.example> BODY=8BITMIME\r\nRCPT TO:<a@relay.example>\r\n"
        b"RCPT TO:<b@relay.example>\r\nRCPT TO:<c@relay.example>\r\nDATA\r\n"
    )
    assert replies_ == (
        b"250 2.1.0 Ok\r\n" + b"250 2.1.5 Ok\r\n" * 3 + b"354 End data with <CR><LF>.<CR><LF>\r\n"
    )
    assert dialogue.say(b"From: u\r\n\r\nhi\r\n\r\n.\r\n") == b"250 2.0.0 Ok\r\n"
    assert dialogue.say(b"QUIT\r\n") == b"221 2.0.0 Bye\r\n"
    assert dialogue.is_closed
    kinds = [type(event) for event in dialogue.events]
    assert kinds == [Hello, Login, Mail, Rcpt, Rcpt, Rcpt, Data, ContentChunk, ContentEnd, Answered]
    assert dialogue.events[1] == Login(Credentials("u@relay.example", b"secret"))
    assert dialogue.events[2] == Mail(EmailAddress("u", "relay.example"), None)


def test_two_transactions_in_one_segment() -> None:
    dialogue = logged_in()
    one = b"MAIL FROM:<u@relay.example>\r\nRCPT TO:<a@b.example>\r\nDATA\r\nx\r\n.\r\n"
    dialogue.say(one + one)
    contents = [event for event in dialogue.events if isinstance(event, ContentChunk)]
    assert contents == [ContentChunk(b"x\r\n")] * 2


def test_a_small_message_is_one_chunk_although_it_came_in_many_reads() -> None:
    dialogue = logged_in()
    dialogue.say(b"MAIL FROM:<u@relay.example>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n")
    dialogue.events.clear()
    for piece in (b"Subject: x\r\n", b"\r\n..b", b"\r\n", b".\r", b"\n"):
        dialogue.say(piece)
    assert dialogue.events == [
        ContentChunk(b"Subject: x\r\n\r\n.b\r\n"),
        ContentEnd(18, None),
    ]


def test_a_refused_command_does_not_move_the_state() -> None:
    machine = SmtpServer(Role.INBOUND, is_tls=True)
    machine.receive_data(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n")
    machine.next_event()
    machine.hello("x", 1)
    assert machine.next_event() == Mail(None, None)
    machine.send(replies.MAIL_OK)
    assert isinstance(machine.next_event(), Rcpt)
    machine.send(Reply(550, "5.7.1", "no"))
    assert machine.next_event() == Answered(b"554 5.5.1 No valid recipients\r\n")
    assert machine.state is State.MAIL


def test_data_that_is_refused_leaves_command_mode() -> None:
    machine = SmtpServer(Role.INBOUND, is_tls=True)
    machine.receive_data(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\nNOOP\r\n")
    for reply in (replies.OK, replies.MAIL_OK, replies.RCPT_OK, Reply(452, "4.3.1", "busy")):
        machine.next_event()
        machine.send(reply)
    assert machine.next_event() == Answered(b"250 2.0.0 Ok\r\n")


def test_after_refused_recipients_core_quits_inside_content_and_nothing_ends() -> None:
    # T25: one RCPT was refused, another not, so content is awaited while core says QUIT.
    dialogue = logged_in()
    dialogue.say(b"MAIL FROM:<u@relay.example>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n")
    dialogue.events.clear()
    assert dialogue.say(b"half a message\r\nQUIT\r\n") == b""
    dialogue.machine.receive_eof()
    assert dialogue.is_closed
    assert dialogue.events == []


# --- limits and garbage -------------------------------------------------------------------------


@pytest.mark.parametrize("line", [b"NOOP\n", b"NO\rOP\r\n", b"NOOP\0\r\n", b"\n", b"RSET\r\r\n"])
def test_bare_line_ends_in_commands_close(line: bytes) -> None:
    dialogue = logged_in()
    assert dialogue.say(line + b"NOOP\r\n") == b"500 5.5.2 Bare CR, LF or NUL not allowed\r\n"
    assert dialogue.is_closed


def test_limits_are_those_published() -> None:
    limits = (MAX_COMMAND_OCTETS, MAX_RESPONSE_OCTETS, MAX_ERRORS, MAX_FAILED_LOGINS)
    assert limits == (2048, 12288, 20, 10)
    assert MAX_IDLE_COMMANDS == 100


def test_a_command_line_at_the_limit_passes_and_a_longer_one_is_skipped() -> None:
    dialogue = logged_in()
    fits = b"NOOP " + b"x" * (MAX_COMMAND_OCTETS - 7) + b"\r\n"
    assert dialogue.say(fits) == b"250 2.0.0 Ok\r\n"
    assert dialogue.say(b"NOOP x" + fits[5:]) == b"500 5.5.2 Line too long\r\n"
    assert dialogue.say(b"NOOP\r\n") == b"250 2.0.0 Ok\r\n"


def test_an_endless_line_closes() -> None:
    dialogue = logged_in()
    out = b"".join(dialogue.say(b"x" * 65536) for _ in range(20))
    assert out == b"500 5.5.2 Line too long\r\n421 4.7.0 Too many errors\r\n"
    assert dialogue.is_closed


def test_twenty_errors_close_and_refusals_by_the_shell_do_not_count() -> None:
    dialogue = logged_in()
    for _ in range(MAX_ERRORS - 1):
        assert dialogue.say(b"XYZZY\r\n").startswith(b"500 5.5.2")
    dialogue.machine.receive_data(b"MAIL FROM:<u@relay.example>\r\n")
    for _ in range(50):
        assert isinstance(dialogue.machine.next_event(), Mail)
        dialogue.machine.send(Reply(552, "5.3.4", "message file too big"))
        dialogue.machine.receive_data(b"MAIL FROM:<u@relay.example>\r\n")
    dialogue.say(b"")
    for _ in range(50):
        assert dialogue.say(b"DATA\r\n") == replies.NO_RECIPIENTS.octets
    out = dialogue.say(b"RCPT TO:nobody\r\n")
    assert out == replies.BAD_RECIPIENT.octets + replies.TOO_MANY_ERRORS.octets
    assert dialogue.is_closed


def test_sequence_errors_count() -> None:
    dialogue = Dialogue()
    out = b"".join(dialogue.say(b"DATA\r\n") for _ in range(MAX_ERRORS + 3))
    assert out == replies.MAIL_FIRST.octets * MAX_ERRORS + replies.TOO_MANY_ERRORS.octets


def test_a_hundred_idle_commands_close() -> None:
    dialogue = Dialogue(Role.INBOUND)
    commands = itertools.cycle([b"NOOP\r\n", b"RSET\r\n", b"VRFY x\r\n"])
    for _, command in zip(range(MAX_IDLE_COMMANDS - 1), commands, strict=False):
        assert dialogue.say(command)[:3] in (b"250", b"252")
    assert dialogue.say(b"NOOP\r\n").endswith(replies.TOO_MANY_ERRORS.octets)
    assert dialogue.is_closed


def test_a_message_resets_the_count_of_idle_commands() -> None:
    dialogue = logged_in()
    message = b"MAIL FROM:<u@relay.example>\r\nRCPT TO:<a@b.example>\r\nDATA\r\nx\r\n.\r\n"
    for _ in range(3):
        for _ in range(MAX_IDLE_COMMANDS - 1):
            assert dialogue.say(b"NOOP\r\n") == b"250 2.0.0 Ok\r\n"
        assert dialogue.say(message).endswith(b"250 2.0.0 Ok\r\n")


def test_a_web_request_is_not_read_on() -> None:
    dialogue = Dialogue()
    out = dialogue.say(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nEHLO x\r\n")
    assert out == replies.UNKNOWN_COMMAND.octets
    assert dialogue.is_closed


def test_small_commands() -> None:
    dialogue = logged_in()
    assert dialogue.say(b"HELP\r\n").startswith(b"214 2.0.0 ")
    assert dialogue.say(b"EXPN x\r\n").startswith(b"502 5.5.1 ")
    assert dialogue.say(b"VRFY \xc3\xa4\r\n") == b"252 2.0.0 ??\r\n"
    assert dialogue.say(b"HELO x\r\n") == b"250 relay.example\r\n"


def test_reset_and_a_new_hello_end_the_transaction() -> None:
    for command in (b"RSET\r\n", b"EHLO x\r\n"):
        dialogue = logged_in()
        dialogue.say(b"MAIL FROM:<u@relay.example>\r\nRCPT TO:<a@b.example>\r\n" + command)
        assert dialogue.machine.state is State.READY
        assert dialogue.say(b"DATA\r\n").startswith(b"503")
    dialogue = Dialogue()
    dialogue.say(b"RSET\r\n")
    assert dialogue.machine.state is State.CONNECTED


# --- content ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fake_end", [b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n", b"\r\n\0.\r\n"])
def test_smuggled_commands_are_content_and_the_session_closes(fake_end: bytes) -> None:
    dialogue = logged_in()
    envelope = b"MAIL FROM:<u@relay.example>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n"
    dialogue.say(envelope)
    dialogue.events.clear()
    dialogue.say(b"one\r\n" + fake_end + envelope + b"two\r\n.\r\n" + envelope)
    assert dialogue.is_closed
    assert [type(event) for event in dialogue.events] == [ContentEnd]
    assert dialogue.events[0] == ContentEnd(_size(dialogue), ContentFault.BAD_LINE)


def _size(dialogue: Dialogue) -> int:
    event = dialogue.events[0]
    assert isinstance(event, ContentEnd)
    return event.size


def test_too_big_leaves_the_session_usable_and_endless_does_not() -> None:
    dialogue = logged_in()
    envelope = b"MAIL FROM:<u@relay.example>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n"
    dialogue.say(envelope)
    dialogue.say(b"x" * 999 + b"\r\n.\r\n")
    assert dialogue.events[-1] == ContentEnd(1001, ContentFault.TOO_BIG)
    dialogue.say(envelope)
    dialogue.say(b"x" * 70_000)
    assert dialogue.events[-1] == ContentEnd(65536, ContentFault.ENDLESS)
    assert dialogue.is_closed


# --- use by the shell ---------------------------------------------------------------------------


def test_an_event_is_owed_exactly_one_reply() -> None:
    machine = SmtpServer(Role.INBOUND, is_tls=True)
    with pytest.raises(LocalProtocolError):
        machine.send(replies.OK)
    machine.receive_data(b"EHLO x\r\n")
    machine.next_event()
    with pytest.raises(LocalProtocolError):
        machine.next_event()
    with pytest.raises(LocalProtocolError):
        machine.accept_content(1)
    machine.hello("x", 1)
    with pytest.raises(LocalProtocolError):
        machine.tls_started()


def test_content_is_not_accepted_by_a_plain_reply() -> None:
    machine = SmtpServer(Role.INBOUND, is_tls=True)
    machine.receive_data(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n")
    for _ in range(3):
        machine.next_event()
        machine.send(replies.OK)
    machine.next_event()
    with pytest.raises(LocalProtocolError):
        machine.send(replies.OK)


def test_421_closes_at_any_time() -> None:
    dialogue = logged_in()
    dialogue.say(b"MAIL FROM:<u@relay.example>\r\n")
    assert dialogue.machine.send(replies.SHUTTING_DOWN) == replies.SHUTTING_DOWN.octets
    assert dialogue.is_closed
