"""One SMTP command line: a value that survives being written again, or a reply."""

from __future__ import annotations

import re

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.wire.smtp.commands import Auth, CommandError, Mail, Rcpt, Verify, parse_command

WORDS = (
    *(b"EHLO ", b"HELO ", b"AUTH PLAIN ", b"AUTH LOGIN", b"MAIL FROM:<", b"RCPT TO:<", b"DATA"),
    *(b"> SIZE=", b" BODY=7BIT", b" BODY=8BITMIME", b" AUTH=<>", b"@[IPv6:::1]>", b"@x:", b'"'),
    *(b"@example.org>", b"VRFY ", b"EXPN ", b"RSET", b"GET / HTTP/1.1", b"\x16\x03", b"+detail"),
)
MAX_LINE = 2048

_REPLY = re.compile(rb"[45]\d\d [45]\.\d\.\d [\x20-\x7e]+\r\n\Z")
_CLEAN = re.compile(r"[^\x00-\x20\x7f-\xff<>]+\Z")


def check(data: bytes) -> None:
    """No line raises anything but CommandError; an address is normal, printable and unique."""
    line = re.sub(rb"[\r\n\0]", b" ", data[:MAX_LINE])
    try:
        command = parse_command(line)
    except CommandError as error:
        _check_reply(error.reply.octets)
        return
    match command:
        case Mail(path, size):
            assert size is None or 0 <= size < 10**20
            _check_address(path)
            assert parse_command(_mail(path, size)) == command
        case Rcpt(path):
            _check_address(path)
            assert parse_command(b"rcpt to: <%b>" % str(path).encode()) == command
        case Auth(mechanism, initial):
            assert " " not in mechanism
            assert initial is None or b" " not in initial
            assert repr(command) == f"Auth(mechanism={mechanism!r})"  # a secret is not shown
        case Verify(argument):
            assert argument
        case _:
            pass


def _check_reply(octets: bytes) -> None:
    assert _REPLY.match(octets), octets


def _check_address(path: EmailAddress | None) -> None:
    if path is None:
        return
    text = str(path)
    assert _CLEAN.match(text), text
    assert len(text) <= 320
    assert EmailAddress.parse(text) == path
    assert EmailAddress.parse(text.upper().replace("IPV6:", "IPv6:")) == path
    assert path.without_detail().without_detail() == path.without_detail()


def _mail(path: EmailAddress | None, size: int | None) -> bytes:
    line = b"MAIL FROM:<%b>" % (b"" if path is None else str(path).encode())
    return line if size is None else b"%b SIZE=%d" % (line, size)


VECTORS = (
    b"EHLO [127.0.0.1]",
    b"helo relay.example",
    b"MAIL FROM:<u@relay.example> BODY=8BITMIME SIZE=123 AUTH=<>",
    b"MAIL FROM:<>",
    b"MAIL FROM: <@a,@b:User+x@[192.0.2.1]>",
    b'RCPT TO:<"user"@[IPv6:2001:db8::1]>',
    b"RCPT TO:<a@b.example> NOTIFY=NEVER",
    b"AUTH PLAIN AHUAcA==",
    b"AUTH LOGIN",
    b"VRFY \xc3\xa4",
    b"EXPN x",
    b"GET / HTTP/1.1",
    b"\x16\x03\x01\x02",
)
