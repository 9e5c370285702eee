"""Command grammar."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.wire.smtp import replies
from chatmail.domain.wire.smtp.commands import (
    Auth,
    Command,
    CommandError,
    Data,
    Hello,
    Help,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Reset,
    StartTls,
    Verify,
    parse_command,
)
from chatmail.domain.wire.smtp.replies import Reply

A = EmailAddress("alice", "relay.example")


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b"EHLO [127.0.0.1]", Hello(True)),
        (b"helo x", Hello(False)),
        (b"STARTTLS", StartTls()),
        (b"AUTH PLAIN AGEAYg==", Auth("PLAIN", b"AGEAYg==")),
        (b"AUTH login", Auth("login", None)),
        (b"DATA", Data()),
        (b"data ", Data()),
        (b"RSET", Reset()),
        (b"NOOP", Noop()),
        (b"NOOP whatever you say", Noop()),
        (b"VRFY alice@relay.example", Verify("alice@relay.example")),
        (b"HELP mail", Help()),
        (b"QUIT", Quit()),
        (b"MAIL FROM:<>", Mail(None, None)),
        (b"MAIL FROM:<alice@relay.example>", Mail(A, None)),
        (b"mail from: <Alice@Relay.Example>", Mail(A, None)),
        (b"MAIL FROM:<alice@relay.example> BODY=8BITMIME", Mail(A, None)),
        (b"MAIL FROM:<alice@relay.example> body=7bit size=12", Mail(A, 12)),
        (b"MAIL FROM:<alice@relay.example> SIZE=31457281 AUTH=<>", Mail(A, 31457281)),
        (b"MAIL FROM:<alice+x@relay.example>", Mail(EmailAddress("alice+x", A.domain), None)),
        (b"MAIL FROM:<@hop.example,@hop2.example:alice@relay.example>", Mail(A, None)),
        (b"RCPT TO:<alice@relay.example>", Rcpt(A)),
        (b"RCPT TO:<ALICE@relay.example.>", Rcpt(A)),
        (b'RCPT TO:<"alice"@relay.example>', Rcpt(A)),
        (b"RCPT TO:<@hop.example:alice@relay.example>", Rcpt(A)),
        (b"RCPT TO:<u@[127.0.0.1]>", Rcpt(EmailAddress("u", "[127.0.0.1]"))),
        (b"RCPT TO:<u@127.0.0.1>", Rcpt(EmailAddress("u", "[127.0.0.1]"))),
        (b"RCPT TO:<u@[IPv6:::1]>", Rcpt(EmailAddress("u", "[IPv6:::1]"))),
        (b"RCPT TO:<u@[ipv6:0:0:0:0:0:0:0:1]>", Rcpt(EmailAddress("u", "[IPv6:::1]"))),
        (b"RCPT TO:<u@_x.relay.example>", Rcpt(EmailAddress("u", "_x.relay.example"))),
        (b"RCPT TO:<u+tag@relay.example>", Rcpt(EmailAddress("u+tag", A.domain))),
    ],
)
def test_valid_commands(line: bytes, command: Command) -> None:
    assert parse_command(line) == command


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"", replies.UNKNOWN_COMMAND),
        (b"BDAT 10 LAST", replies.UNKNOWN_COMMAND),
        (b"DATAX", replies.UNKNOWN_COMMAND),
        (b"\xff\xfe", replies.UNKNOWN_COMMAND),
        (b"EXPN staff", replies.NOT_IMPLEMENTED),
        (b"EHLO", replies.BAD_ARGUMENT),
        (b"EHLO a b", replies.BAD_ARGUMENT),
        (b"EHLO " + b"x" * 256, replies.BAD_ARGUMENT),
        (b"STARTTLS now", replies.BAD_ARGUMENT),
        (b"DATA now", replies.BAD_ARGUMENT),
        (b"RSET now", replies.BAD_ARGUMENT),
        (b"QUIT now", replies.BAD_ARGUMENT),
        (b"AUTH", replies.BAD_ARGUMENT),
        (b"AUTH PLAIN a b", replies.BAD_ARGUMENT),
        (b"VRFY", replies.BAD_ARGUMENT),
        (b"MAIL", replies.BAD_ARGUMENT),
        (b"MAIL TO:<a@b.example>", replies.BAD_ARGUMENT),
        (b"MAIL FROM:a@b.example", replies.BAD_SENDER),
        (b"MAIL FROM:<a@b.example", replies.BAD_SENDER),
        (b"MAIL FROM:<a@b.example>x", replies.BAD_SENDER),
        (b"MAIL FROM:<a>", replies.BAD_SENDER),
        (b"MAIL FROM:<a b@c.example>", replies.BAD_SENDER),
        (b"MAIL FROM:<\xc3\xa4@b.example>", replies.BAD_SENDER),
        (b"MAIL FROM:<a@b.example> SMTPUTF8", replies.UNKNOWN_PARAMETER),
        (b"MAIL FROM:<a@b.example> RET=HDRS", replies.UNKNOWN_PARAMETER),
        (b"MAIL FROM:<a@b.example> SIZE=", replies.BAD_ARGUMENT),
        (b"MAIL FROM:<a@b.example> SIZE=-1", replies.BAD_ARGUMENT),
        (b"MAIL FROM:<a@b.example> SIZE=" + b"9" * 21, replies.BAD_ARGUMENT),
        (b"MAIL FROM:<a@b.example> SIZE=1 SIZE=2", replies.BAD_ARGUMENT),
        (b"MAIL FROM:<a@b.example> BODY=BINARYMIME", replies.BAD_ARGUMENT),
        (b"MAIL FROM:<a@b.example> AUTH=", replies.BAD_ARGUMENT),
        (b"RCPT", replies.BAD_ARGUMENT),
        (b"RCPT FROM:<a@b.example>", replies.BAD_ARGUMENT),
        (b"RCPT TO:<>", replies.BAD_RECIPIENT),
        (b"RCPT TO:<a@>", replies.BAD_RECIPIENT),
        (b"RCPT TO:<@b.example>", replies.BAD_RECIPIENT),
        (b"RCPT TO:<a@b@c.example>", replies.BAD_RECIPIENT),
        (b"RCPT TO:<a,b@c.example>", replies.BAD_RECIPIENT),
        (b"RCPT TO:<a@-b.example>", replies.BAD_RECIPIENT),
        (b"RCPT TO:<a@b..example>", replies.BAD_RECIPIENT),
        (b"RCPT TO:<a@[999.0.0.1]>", replies.BAD_RECIPIENT),
        (b"RCPT TO:<a@[IPv6:zz]>", replies.BAD_RECIPIENT),
        (b"RCPT TO:<a@b\xc3\xa4.example>", replies.BAD_RECIPIENT),
        (b"RCPT TO:<" + b"x" * 65 + b"@b.example>", replies.BAD_RECIPIENT),
        (b"RCPT TO:<a@" + b"x." * 126 + b"example>", replies.BAD_RECIPIENT),
        (b'RCPT TO:<"a@b"@c.example>', replies.BAD_RECIPIENT),
        (b"RCPT TO:<a@b.example> NOTIFY=NEVER", replies.UNKNOWN_PARAMETER),
    ],
)
def test_invalid_commands(line: bytes, reply: Reply) -> None:
    with pytest.raises(CommandError) as raised:
        parse_command(line)
    assert raised.value.reply is reply
    assert not raised.value.is_foreign


def test_the_longest_address_passes() -> None:
    domain = ".".join(["d" * 62] * 3) + ".example"
    line = f"RCPT TO:<{'l' * (253 - len(domain))}@{domain}>".encode()
    assert parse_command(line) == Rcpt(EmailAddress("l" * (253 - len(domain)), domain))


@pytest.mark.parametrize(
    "line", [b"POST /login HTTP/1.1", b"GET / HTTP/1.0", b"CONNECT a:25 HTTP/1.1", b"\x16\x03\x01"]
)
def test_another_protocol_is_recognised(line: bytes) -> None:
    with pytest.raises(CommandError) as raised:
        parse_command(line)
    assert raised.value.is_foreign


def test_the_initial_response_is_in_no_repr() -> None:
    assert "AGEAYg" not in repr(parse_command(b"AUTH PLAIN AGEAYg=="))


VERBS = [b"MAIL FROM:<", b"RCPT TO:<", b"AUTH ", b"EHLO ", b"VRFY ", b""]


@given(st.sampled_from(VERBS), st.binary(max_size=60))
def test_any_octets_are_a_command_or_a_command_error(verb: bytes, rest: bytes) -> None:
    with suppress(CommandError):
        parse_command(verb + rest)
