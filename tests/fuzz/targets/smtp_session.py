"""A whole SMTP session: commands, SASL, content, STARTTLS, against a shell that also refuses.

Octet 0x1e in the payload stands for the moments at which a TLS handshake may happen: what is
before it travels before, what is behind it after.
"""

from __future__ import annotations

import re

from chatmail.domain.wire.smtp import replies
from chatmail.domain.wire.smtp.commands import Data, Hello, Mail, Rcpt, StartTls
from chatmail.domain.wire.smtp.data import CHUNK_OCTETS
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
from chatmail.domain.wire.smtp.sequence import Role
from chatmail.domain.wire.smtp.server import SmtpServer
from tests.fuzz.cutting import read, vector

MAX_CONTENT = 500
FLIGHT = b"\x1e"
# No reply may be longer than this for each line that asked for it; EHLO's is the longest.
MAX_ANSWER = 2000

_LINES = re.compile(rb"(?:[2-5]\d\d[ -][\x20-\x7e]*\r\n)+\Z")
_WRONG = Reply(535, "5.7.8", "Authentication failed")
_REFUSED = Reply(550, "5.1.1", "No")
_LATER = Reply(451, "4.3.0", "Later")

_PLAIN = b"AUTH PLAIN AHVAcmVsYXkuZXhhbXBsZQBzZWNyZXQ=\r\n"
_BEGIN = b"EHLO [127.0.0.1]\r\n" + _PLAIN
_ENVELOPE = b"MAIL FROM:<u@relay.example> SIZE=5 BODY=8BITMIME\r\nRCPT TO:<a+b@relay.example>\r\n"

WORDS = (
    *(b"EHLO x\r\n", b"HELO x\r\n", b"MAIL FROM:<", b"RCPT TO:<", b"DATA\r\n", b"RSET\r\n"),
    *(b"NOOP\r\n", b"QUIT\r\n", b"VRFY x\r\n", b"HELP\r\n", b"STARTTLS\r\n", b"AUTH LOGIN\r\n"),
    *(b"AUTH PLAIN ", b"\r\n.\r\n", b"\n.\n", b"\r.\r", b"\r\n..", b"*\r\n", b"dUBk\r\n", _PLAIN),
    *(b" SIZE=", b" BODY=8BITMIME", b" AUTH=<>", b"<>", b"@[127.0.0.1]>", b"GET / HTTP/1.1\r\n"),
    *(FLIGHT, _BEGIN, _ENVELOPE),
)


class Session:
    """A machine and a shell whose refusals depend on how many events there were."""

    def __init__(self, options: int, refusals: int) -> None:
        role = Role.SUBMISSION if options & 1 else Role.INBOUND
        self.machine = SmtpServer(role, is_tls=bool(options & 2))
        self.log: list[Event | bytes] = []
        self._refusals = refusals
        self._answers = 0

    def say(self, octets: bytes) -> None:
        self.machine.receive_data(octets)
        while not isinstance(event := self.machine.next_event(), Signal):
            self._keep(event)
            answer = self._answer(event)
            assert not answer or _LINES.match(answer) or event == Answered(answer), answer
            assert len(answer) <= MAX_ANSWER
            self.log.append(answer)
        assert event in (NEED_DATA, PAUSED, CLOSED)

    def handshake(self) -> None:
        if self.machine.next_event() is PAUSED:
            self.machine.tls_started()

    def _keep(self, event: Event) -> None:
        if isinstance(event, ContentChunk):
            assert 0 < len(event.octets) <= CHUNK_OCTETS
            assert b"\0" not in event.octets
        if isinstance(event, ContentEnd) and event.fault is None:
            assert event.size <= MAX_CONTENT
        self.log.append(event)

    def _no(self) -> bool:
        self._answers += 1
        return bool(self._refusals >> (self._answers % 8) & 1)

    def _answer(self, event: Event) -> bytes:
        match event:
            case Answered():
                return event.octets
            case Hello():
                return self.machine.hello("relay.example", MAX_CONTENT)
            case Mail() | Rcpt():
                return self.machine.send(_REFUSED if self._no() else replies.OK)
            case Data():
                return self._answer_data()
            case Login():
                is_wrong = event.credentials is None or self._no()
                return self.machine.send(_WRONG if is_wrong else replies.LOGGED_IN)
            case StartTls():
                return self.machine.send(_LATER if self._no() else replies.READY_FOR_TLS)
            case ContentEnd():
                is_bad = event.fault is not None or self._no()
                return self.machine.send(_REFUSED if is_bad else replies.OK)
            case _:
                return b""

    def _answer_data(self) -> bytes:
        if self._no():
            return self.machine.send(_LATER)
        return self.machine.accept_content(MAX_CONTENT)


def check(data: bytes) -> None:
    """However the octets are cut, the same events and replies come out, all of them lines."""
    given = read(data)
    flights = given.payload.split(FLIGHT)
    whole = _run(given.options, given.more, [[flight] for flight in flights])
    cuts = [list(given.ways(flight)) for flight in flights]
    for way in range(min(map(len, cuts))):
        assert _run(given.options, given.more, [each[way] for each in cuts]) == whole


def _run(options: int, refusals: int, flights: list[list[bytes]]) -> list[object]:
    session = Session(options, refusals)
    for pieces in flights:
        for piece in pieces:
            session.say(piece)
        session.handshake()
    return [*session.log, session.machine.state]


VECTORS = (
    vector(_BEGIN + _ENVELOPE + b"DATA\r\nFrom: u\r\n\r\n..hi\r\n\r\n.\r\nQUIT\r\n", 3),
    vector(_BEGIN + _ENVELOPE + b"DATA\r\nx\r\n.\r\n" + _ENVELOPE + b"DATA\r\ny\r\n.\r\n", 3, 0x24),
    vector(_BEGIN + _ENVELOPE + b"DATA\r\n" + b"x" * 600 + b"\r\n.\r\nRSET\r\n", 3),
    vector(_BEGIN + _ENVELOPE + b"DATA\r\n" + b"x" * 1200 + b"\r\n.\r\nRSET\r\n", 3),
    vector(_BEGIN + _ENVELOPE + b"DATA\r\none\r\n\n.\n" + _ENVELOPE + b"\r\n.\r\nNOOP\r\n", 3),
    vector(b"EHLO x\r\nSTARTTLS\r\n\x1e" + _BEGIN + _ENVELOPE, 1),
    vector(b"EHLO x\r\nSTARTTLS\r\nMAIL FROM:<>\r\n\x1eNOOP\r\n", 1),
    vector(b"HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@[127.0.0.1]>\r\nDATA\r\n.\r\n", 2),
    vector(b"EHLO x\r\nAUTH LOGIN\r\ndUBk\r\ncA==\r\nAUTH LOGIN\r\n*\r\nAUTH PLAIN =\r\n", 3, 0xFF),
    vector(b"VRFY \xc3\xa4\r\nHELP\r\nEXPN x\r\nNOOP\n", 3),
    vector(b"NOOP\r\n" * 101, 0),
    vector(b"XYZZY\r\n" * 21, 0),
    vector(b"NOOP " + b"x" * 2100 + b"\r\nNOOP\r\n", 3),
    vector(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nEHLO x\r\n", 2),
)
