"""Reply values and their encoding, as strict clients read them."""

from __future__ import annotations

import re

import pytest

from chatmail.domain.wire.smtp import replies
from chatmail.domain.wire.smtp.replies import Reply

CONSTANTS = {name: value for name, value in vars(replies).items() if isinstance(value, Reply)}


@pytest.mark.parametrize("name", sorted(CONSTANTS))
def test_every_reply_is_one_clean_line_with_enhanced_code(name: str) -> None:
    reply = CONSTANTS[name]
    pattern = rb"[2-5][0-5]\d [\x21-\x7e][\x20-\x7e]*\r\n"
    assert re.fullmatch(pattern, reply.octets)
    assert reply.enhanced or reply is replies.START_CONTENT


@pytest.mark.parametrize(
    ("reply", "octets"),
    [
        (replies.MAIL_OK, b"250 2.1.0 Ok\r\n"),
        (replies.RCPT_OK, b"250 2.1.5 Ok\r\n"),
        (replies.START_CONTENT, b"354 End data with <CR><LF>.<CR><LF>\r\n"),
        (replies.READY_FOR_TLS, b"220 2.0.0 Ready to start TLS\r\n"),
        (replies.LOGGED_IN, b"235 2.7.0 Authentication successful\r\n"),
        (replies.BYE, b"221 2.0.0 Bye\r\n"),
        (replies.SHUTTING_DOWN, b"421 4.3.2 Service shutting down\r\n"),
        (replies.TLS_FIRST, b"530 5.7.0 Must issue a STARTTLS command first\r\n"),
        (replies.TOO_MANY_RECIPIENTS, b"452 4.5.3 Too many recipients\r\n"),
        (replies.BAD_RECIPIENT, b"501 5.1.3 Bad recipient address syntax\r\n"),
        (replies.NO_RECIPIENTS, b"554 5.5.1 No valid recipients\r\n"),
        (replies.BARE_LINE_END, b"500 5.5.2 Bare CR, LF or NUL not allowed\r\n"),
    ],
)
def test_texts_that_are_interface(reply: Reply, octets: bytes) -> None:
    assert reply.octets == octets


@pytest.mark.parametrize(
    ("reply", "codes"),
    [
        (replies.OK, b"250 2.0.0 "),
        (replies.HELP, b"214 2.0.0 "),
        (replies.IDLE_TOO_LONG, b"421 4.4.2 "),
        (replies.TOO_MANY_ERRORS, b"421 4.7.0 "),
        (replies.TOO_MANY_FAILURES, b"421 4.7.0 "),
        (replies.SESSION_ENDED, b"421 4.7.0 "),
        (replies.NO_ROOM, b"452 4.3.1 "),
        (replies.UNKNOWN_COMMAND, b"500 5.5.2 "),
        (replies.LINE_TOO_LONG, b"500 5.5.2 "),
        (replies.BAD_ARGUMENT, b"501 5.5.4 "),
        (replies.BAD_BASE64, b"501 5.5.2 "),
        (replies.BAD_SENDER, b"501 5.1.7 "),
        (replies.NOT_IMPLEMENTED, b"502 5.5.1 "),
        (replies.BAD_SEQUENCE, b"503 5.5.1 "),
        (replies.HELLO_FIRST, b"503 5.5.1 "),
        (replies.MAIL_FIRST, b"503 5.5.1 "),
        (replies.NESTED_MAIL, b"503 5.5.1 "),
        (replies.TLS_ACTIVE, b"503 5.5.1 "),
        (replies.ALREADY_LOGGED_IN, b"503 5.5.1 "),
        (replies.LOGIN_IN_TRANSACTION, b"503 5.5.1 "),
        (replies.UNKNOWN_MECHANISM, b"504 5.5.4 "),
        (replies.LOGIN_FIRST, b"530 5.7.0 "),
        (replies.UNKNOWN_PARAMETER, b"555 5.5.4 "),
    ],
)
def test_codes_of_the_command_table(reply: Reply, codes: bytes) -> None:
    assert reply.octets.startswith(codes)


def test_greeting_names_the_host_and_no_product() -> None:
    assert replies.greeting("mx.relay.example").octets == b"220 mx.relay.example ESMTP\r\n"


def test_capabilities_before_tls() -> None:
    reply = replies.capabilities("relay.example", 31457280, offers_tls=True, offers_login=False)
    assert reply.octets == (
        b"250-relay.example\r\n250-PIPELINING\r\n250-SIZE 31457280\r\n250-STARTTLS\r\n"
        b"250-ENHANCEDSTATUSCODES\r\n250 8BITMIME\r\n"
    )


def test_capabilities_of_submission_after_tls() -> None:
    reply = replies.capabilities("relay.example", 1000, offers_tls=False, offers_login=True)
    assert reply.octets == (
        b"250-relay.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-AUTH PLAIN LOGIN\r\n"
        b"250-ENHANCEDSTATUSCODES\r\n250 8BITMIME\r\n"
    )
    assert b"SMTPUTF8" not in reply.octets


def test_an_empty_challenge_keeps_its_space() -> None:
    assert replies.continuation(b"") == b"334 \r\n"
    assert replies.continuation(b"VXNlcm5hbWU6") == b"334 VXNlcm5hbWU6\r\n"


def test_echoed_text_cannot_break_out_of_its_line() -> None:
    reply = Reply(252, "2.0.0", "x\r\n250 OK \u00e4\0" + "y" * 600)
    assert reply.octets.startswith(b"252 2.0.0 x??250 OK ??y")
    assert reply.octets.count(b"\n") == 1
    assert len(reply.octets) <= 512


@pytest.mark.parametrize(
    ("code", "enhanced", "text"),
    [
        pytest.param(550, "5.5.0", "no", id="T27-core-retries-it"),
        pytest.param(250, "", "", id="T28-no-text"),
        pytest.param(250, "", "  ", id="T28-blank"),
        pytest.param(560, "5.6.0", "no", id="T28-second-digit"),
        pytest.param(550, "4.7.1", "no", id="classes-differ"),
        pytest.param(550, "5.7", "no", id="short-enhanced"),
    ],
)
def test_replies_that_clients_misread_cannot_be_built(code: int, enhanced: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"reply|enhanced"):
        Reply(code, enhanced, text)


def test_sign() -> None:
    assert replies.START_CONTENT.is_positive
    assert not replies.SHUTTING_DOWN.is_positive
