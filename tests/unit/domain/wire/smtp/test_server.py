"""The server machine: transcripts, limits, injection, totality."""

from __future__ import annotations

import base64
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatmail.domain.model.account import Credentials
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.errors import LocalProtocolError
from chatmail.domain.wire.sasl import MAX_RESPONSE_OCTETS
from chatmail.domain.wire.smtp import replies
from chatmail.domain.wire.smtp.commands import Data, Hello, Mail, Rcpt, StartTls
from chatmail.domain.wire.smtp.data import ContentFault
from chatmail.domain.wire.smtp.events import (
    CLOSED,
    NEED_DATA,
    PAUSED,
    Answered,
    ContentChunk,
    ContentEnd,
    Event,
    Login,
    Signal,
)
from chatmail.domain.wire.smtp.replies import Reply
from chatmail.domain.wire.smtp.sequence import Role, State
from chatmail.domain.wire.smtp.server import (
    MAX_COMMAND_OCTETS,
    MAX_ERRORS,
    MAX_FAILED_LOGINS,
    MAX_IDLE_COMMANDS,
    SmtpServer,
)

PLAIN = b"AUTH PLAIN " + base64.b64encode(b"\0u@relay.example\0secret") + b"\r\n"
WRONG = Reply(535, "5.7.8", "no")


def answer(machine: SmtpServer, event: Event, login: Reply) -> bytes:
    """Answer an event positively (a login as told); return what goes out."""
    match event:
        case Answered():
            return event.octets
        case Hello():
            return machine.hello("relay.example", 1000)
        case Mail():
            return machine.send(replies.MAIL_OK)
        case Rcpt():
            return machine.send(replies.RCPT_OK)
        case Data():
            return machine.accept_content(1000)
        case Login():
            return machine.send(login if event.credentials else WRONG)
        case StartTls():
            return machine.send(replies.READY_FOR_TLS)
        case ContentEnd():
            return machine.send(replies.OK if event.fault is None else replies.BARE_LINE_END)
        case _:
            return b""


class Dialogue:
    """A machine with a shell that says yes."""

    def __init__(
        self, role: Role = Role.SUBMISSION, *, tls: bool = True, login: Reply = replies.LOGGED_IN
    ) -> None:
        self.machine = SmtpServer(role, is_tls=tls)
        self.login = login
        self.events: list[Event] = []

    def say(self, octets: bytes) -> bytes:
        """Feed octets; return the replies and keep the events."""
        out = []
        self.machine.receive_data(octets)
        while not isinstance(event := self.machine.next_event(), Signal):
            self.events.append(event)
            out.append(answer(self.machine, event, self.login))
        return b"".join(out)

    @property
    def is_closed(self) -> bool:
        return self.machine.next_event() is CLOSED


def logged_in() -> Dialogue:
    dialogue = Dialogue()
    dialogue.say(b"EHLO [127.0.0.1]\r\n" + PLAIN)
    dialogue.events.clear()
    return dialogue


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


# --- AUTH ---------------------------------------------------------------------------------------


def test_plain_without_initial_response() -> None:
    dialogue = Dialogue()
    dialogue.say(b"EHLO x\r\n")
    assert dialogue.say(b"AUTH PLAIN\r\n") == b"334 \r\n"
    password = 'a"b\\c d{} \u00e4'.encode()
    dialogue.say(base64.b64encode(b"\0u@relay.example\0" + password) + b"\r\n")
    assert dialogue.events[-1] == Login(Credentials("u@relay.example", password))


def test_login_prompts() -> None:
    dialogue = Dialogue()
    dialogue.say(b"EHLO x\r\n")
    assert dialogue.say(b"AUTH LOGIN\r\n") == b"334 VXNlcm5hbWU6\r\n"
    assert dialogue.say(base64.b64encode(b"u@d") + b"\r\n") == b"334 UGFzc3dvcmQ6\r\n"
    dialogue.say(base64.b64encode(b"p") + b"\r\n")
    assert dialogue.events[-1] == Login(Credentials("u@d", b"p"))


@pytest.mark.parametrize(
    ("lines", "reply"),
    [
        (b"AUTH PLAIN !!\r\n", b"501 5.5.2 "),
        (b"AUTH PLAIN\r\n!!\r\n", b"334 \r\n501 5.5.2 "),
        (b"AUTH PLAIN\r\n*\r\n", b"334 \r\n501 5.7.0 "),
        (b"AUTH XOAUTH2 abc\r\n", b"504 5.5.4 "),
        (b"AUTH\r\n", b"501 5.5.4 "),
        (b"AUTH PLAIN =\r\n", b"535 5.7.8 "),
        (b"AUTH PLAIN\r\n" + b"x" * 12288 + b"\r\n", b"334 \r\n500 5.5.6 "),
    ],
)
def test_exchanges_that_fail_leave_the_session_usable(lines: bytes, reply: bytes) -> None:
    dialogue = Dialogue()
    dialogue.say(b"EHLO x\r\n")
    out = dialogue.say(lines)
    assert out.startswith(reply)
    assert out.count(b"\r\n") == reply.count(b"\r\n") + 1
    assert dialogue.say(PLAIN).startswith(b"235")


def test_a_long_continuation_passes() -> None:
    dialogue = Dialogue()
    dialogue.say(b"EHLO x\r\nAUTH PLAIN\r\n")
    dialogue.say(base64.b64encode(b"\0u@d\0" + b"p" * 9000) + b"\r\n")
    assert dialogue.events[-1] == Login(Credentials("u@d", b"p" * 9000))


def test_exchange_that_cannot_succeed_asks_for_a_failure() -> None:
    dialogue = Dialogue()
    dialogue.say(b"EHLO x\r\nAUTH PLAIN " + base64.b64encode(b"a@d\0u@d\0p") + b"\r\n")
    assert dialogue.events[-1] == Login(None)


def test_second_login_and_login_inside_a_transaction_are_out_of_sequence() -> None:
    dialogue = logged_in()
    assert dialogue.say(PLAIN).startswith(b"503 5.5.1")
    dialogue.say(b"MAIL FROM:<u@relay.example>\r\n")
    assert dialogue.say(PLAIN).startswith(b"503 5.5.1")


def test_no_login_without_tls() -> None:
    dialogue = Dialogue(tls=False)
    out = dialogue.say(b"EHLO x\r\n" + PLAIN + b"AUTH PLAIN\r\nMAIL FROM:<>\r\n")
    assert b"AUTH" not in out.split(b"530")[0]
    assert out.count(b"530 5.7.0 Must issue a STARTTLS command first\r\n") == 3


def test_ten_failed_logins_end_the_session() -> None:
    dialogue = Dialogue(login=WRONG)
    dialogue.say(b"EHLO x\r\n")
    for _ in range(MAX_FAILED_LOGINS - 1):
        assert dialogue.say(PLAIN) == WRONG.octets
    assert dialogue.say(PLAIN) == WRONG.octets + replies.TOO_MANY_FAILURES.octets
    assert dialogue.is_closed


# --- port 25 ------------------------------------------------------------------------------------


def test_port_25_needs_tls_offers_no_login_and_verifies_nobody() -> None:
    dialogue = Dialogue(Role.INBOUND, tls=False)
    assert dialogue.say(b"VRFY a@relay.example\r\n") == b"252 2.0.0 a@relay.example\r\n"
    assert b"250-STARTTLS\r\n" in dialogue.say(b"EHLO peer.example\r\n")
    assert dialogue.say(b"MAIL FROM:<a@b.example>\r\n").startswith(b"530 5.7.0")
    assert dialogue.say(PLAIN).startswith(b"502 5.5.1")
    assert dialogue.say(b"STARTTLS\r\n") == b"220 2.0.0 Ready to start TLS\r\n"
    dialogue.machine.tls_started()
    out = dialogue.say(b"EHLO peer.example\r\n")
    assert b"AUTH" not in out
    assert b"STARTTLS" not in out
    assert dialogue.say(PLAIN).startswith(b"502 5.5.1")
    assert dialogue.say(b"MAIL FROM:<>\r\n") == b"250 2.1.0 Ok\r\n"


# --- STARTTLS -----------------------------------------------------------------------------------


def test_starttls_forgets_the_dialogue_and_greets_no_second_time() -> None:
    dialogue = Dialogue(tls=False)
    dialogue.say(b"EHLO x\r\n")
    assert dialogue.say(b"STARTTLS\r\n") == b"220 2.0.0 Ready to start TLS\r\n"
    assert dialogue.machine.next_event() is PAUSED
    dialogue.machine.tls_started()
    assert dialogue.machine.next_event() is NEED_DATA
    assert dialogue.say(PLAIN).startswith(b"503 5.5.1 Send EHLO")
    assert b"AUTH PLAIN LOGIN" in dialogue.say(b"EHLO x\r\n")
    assert dialogue.say(b"STARTTLS\r\n").startswith(b"503 5.5.1")


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("injected", [b"EHLO x\r\n", b"RSET\r\n", b"x", PLAIN])
def test_cleartext_behind_starttls_closes_unread(role: Role, injected: bytes) -> None:
    dialogue = Dialogue(role, tls=False)
    dialogue.say(b"EHLO x\r\nSTARTTLS\r\n" + injected)
    assert dialogue.is_closed
    assert [type(event) for event in dialogue.events] == [Hello, StartTls]


def test_cleartext_that_comes_while_paused_closes_too() -> None:
    dialogue = Dialogue(tls=False)
    dialogue.say(b"STARTTLS\r\n")
    assert dialogue.say(b"EHLO x\r\n") == b""
    assert dialogue.is_closed
    with pytest.raises(LocalProtocolError):
        dialogue.machine.tls_started()


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


# --- properties ---------------------------------------------------------------------------------

LINES = st.sampled_from(
    [
        b"EHLO x\r\n",
        b"HELO x\r\n",
        PLAIN,
        b"AUTH LOGIN\r\n",
        b"AUTH PLAIN\r\n",
        b"dUBk\r\n",
        b"*\r\n",
        b"MAIL FROM:<u@relay.example> SIZE=5\r\n",
        b"RCPT TO:<a@b.example>\r\n",
        b"DATA\r\n",
        b"line\r\n",
        b"..dot\r\n",
        b".\r\n",
        b"\r\n.\r\n",
        b"RSET\r\n",
        b"NOOP\r\n",
        b"STARTTLS\r\n",
        b"QUIT\r\n",
        b"VRFY x\r\n",
        b"BOGUS\r\n",
        b"x" * 2500 + b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b"\xff\xfe\r\n",
    ]
)


def events_of(role: Role, tls: bool, pieces: list[bytes]) -> tuple[list[Event], bytes, bool]:
    dialogue = Dialogue(role, tls=tls)
    out = b"".join([dialogue.say(piece) for piece in pieces])
    return dialogue.events, out, dialogue.is_closed


@settings(max_examples=200)
@given(
    st.sampled_from(Role),
    st.booleans(),
    st.lists(st.one_of(LINES, st.binary(max_size=12)), max_size=25),
    st.lists(st.integers(1, 40), max_size=60),
)
def test_cutting_never_changes_events_or_replies(
    role: Role, tls: bool, parts: list[bytes], cuts: list[int]
) -> None:
    preamble = [b"EHLO x\r\n", PLAIN] if tls else []
    stream = b"".join([*preamble, *parts])
    expected = events_of(role, tls, [stream])
    pieces = []
    for size in [*cuts, len(stream)]:
        pieces.append(stream[:size])
        stream = stream[size:]
    pieces = [piece for piece in pieces if piece]  # nothing at all would be the end of input
    assert events_of(role, tls, pieces) == expected
