"""The server machine: AUTH, STARTTLS, and port 25, which has the one without the other."""

from __future__ import annotations

import base64

import pytest

from chatmail.domain.model.account import Credentials
from chatmail.domain.model.errors import LocalProtocolError
from chatmail.domain.wire.smtp import replies
from chatmail.domain.wire.smtp.commands import Hello, StartTls
from chatmail.domain.wire.smtp.events import NEED_DATA, PAUSED, Login
from chatmail.domain.wire.smtp.sequence import Role
from chatmail.domain.wire.smtp.server import MAX_FAILED_LOGINS
from tests.unit.domain.wire.smtp.server_dialogue import PLAIN, WRONG, Dialogue, logged_in

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
