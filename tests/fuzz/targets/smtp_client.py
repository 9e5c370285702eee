"""What a server says to the SMTP client: two transactions, TLS, and a shell that loses patience.

Octet 0x1e in the payload stands for the moment at which a TLS handshake may happen.
"""

from __future__ import annotations

import re

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.federation import HopFault, RecipientFate, RecipientOutcome
from chatmail.domain.wire.smtp.client import SmtpClient
from chatmail.domain.wire.smtp.client_events import (
    NEED_DATA,
    READY,
    SEND_CONTENT,
    UPGRADE,
    ClientEvent,
    Phase,
    Send,
    SessionEnd,
    TlsUse,
    Transaction,
    TransactionEnd,
)
from tests.fuzz.cutting import read, vector

FLIGHT = b"\x1e"
MAX_TRANSACTIONS = 3

_SENDER = EmailAddress("alice", "relay.example")
_RECIPIENTS = tuple(EmailAddress(name, "peer.example") for name in ("bob", "carol", "dave"))
_COMMANDS = re.compile(rb"(?:[A-Z]{4,8}(?: [\x21-\x7e ]+)?\r\n|\.\r\n)+\Z")
_REPLY = re.compile(r"[2-5]\d\d [245]\.\d{1,3}\.\d{1,3} [\x20-\x7e]+\Z")

_OPEN = b"220 peer.example\r\n250-peer.example\r\n250-PIPELINING\r\n250 SIZE 1000\r\n"
_PLAIN_OPEN = b"220 peer.example\r\n250 peer.example\r\n"
_TLS_OPEN = b"220 x\r\n250-x\r\n250 STARTTLS\r\n220 go\r\n\x1e250-x\r\n250 PIPELINING\r\n"
_ACCEPTED = b"250 ok\r\n250 ok\r\n550 5.1.1 no\r\n452 4.5.3 many\r\n354 go\r\n250 2.0.0 ok\r\n"

WORDS = (
    *(b"220 x\r\n", b"250 ok\r\n", b"251 x\r\n", b"354 go\r\n", b"421 4.3.2 bye\r\n", b"450 x\r\n"),
    *(b"452 4.5.3 many\r\n", b"452 4.2.2 full\r\n", b"550 5.1.1 no\r\n", b"552 5.3.4 big\r\n"),
    *(b"554 no\r\n", b"250-", b"STARTTLS\r\n", b"PIPELINING\r\n", b"SIZE 10\r\n", b"8BITMIME\r\n"),
    *(b"5.5.0 ", b"\n", b"\r", FLIGHT, _OPEN, _TLS_OPEN, _ACCEPTED),
)


class Session:
    """A machine, and a shell that does at once what it is asked for."""

    def __init__(self, options: int) -> None:
        self.machine = SmtpClient("relay.example", list(TlsUse)[options % 3])
        self.log: list[ClientEvent] = []
        self.is_over = False
        self._size = 2000 if options & 4 else 500
        self._waiting = _RECIPIENTS

    def run(self) -> None:
        while not self.is_over and (event := self.machine.next_event()) is not NEED_DATA:
            self.log.append(event)
            match event:
                case Send():
                    assert _COMMANDS.match(event.octets), event.octets
                case TransactionEnd():
                    self._end(event)
                case SessionEnd():
                    self._close(event)
                case _:
                    self._act(event)

    def _act(self, event: ClientEvent) -> None:
        if event is READY and self.machine.phase is Phase.READY:
            if self._waiting and self.machine.transactions < MAX_TRANSACTIONS:
                mail = Transaction(reverse_path=_SENDER, recipients=self._waiting, size=self._size)
                self.machine.begin(mail, with_reset=self.machine.transactions % 2 == 1)
        elif event is SEND_CONTENT:
            self.machine.content_sent()

    def _end(self, event: TransactionEnd) -> None:
        named = [outcome.recipient for outcome in event.outcomes]
        assert sorted([*named, *event.postponed]) == sorted(self._waiting)
        assert len(event.postponed) < len(self._waiting)
        self._check(event.outcomes)
        self._waiting = event.postponed

    def _close(self, event: SessionEnd) -> None:
        self.is_over = True
        assert _REPLY.match(event.reply), event.reply
        assert event.reply[0] in "45"
        self._check(event.outcomes)
        assert all(outcome.fate is not RecipientFate.DELIVERED for outcome in event.outcomes)
        # Whether it arrived is unknown only when everything left.
        assert event.fault is not HopFault.AMBIGUOUS or SEND_CONTENT in self.log
        assert self.machine.next_event() == event

    @staticmethod
    def _check(outcomes: tuple[RecipientOutcome, ...]) -> None:
        for outcome in outcomes:
            assert _REPLY.match(outcome.reply), outcome.reply
            assert len(outcome.reply) <= 300
            assert (outcome.fate is RecipientFate.DELIVERED) == (outcome.reply[0] == "2")

    def handshake(self) -> None:
        if self.machine.phase is Phase.UPGRADE and UPGRADE in self.log:
            self.machine.tls_started()
            self.run()


def check(data: bytes) -> None:
    """However the octets are cut, the same happens, and every recipient has one fate."""
    given = read(data)
    flights = given.payload.split(FLIGHT)
    whole = _run(given.options, given.more, [[flight] for flight in flights])
    cuts = [list(given.ways(flight)) for flight in flights]
    for way in range(min(map(len, cuts))):
        assert _run(given.options, given.more, [each[way] for each in cuts]) == whole


def _run(options: int, more: int, flights: list[list[bytes]]) -> list[object]:
    session = Session(options)
    for pieces in flights:
        for piece in pieces:
            if not session.is_over:
                session.machine.receive_data(piece)
                session.run()
        session.handshake()
    if more & 1:
        session.machine.time_out()
    else:
        session.machine.receive_eof()
    session.run()
    assert session.is_over
    return [*session.log, session.machine.transactions]


VECTORS = (
    vector(_OPEN + _ACCEPTED + b"250 reset\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n", 2),
    vector(_PLAIN_OPEN + b"250 ok\r\n250 ok\r\n550 no\r\n450 no\r\n354 go\r\n554 5.5.0 no\r\n", 2),
    vector(_PLAIN_OPEN + b"250 ok\r\n550 a\r\n550 b\r\n550 c\r\n250 reset\r\n", 2),
    vector(_OPEN + b"250 ok\r\n550 a\r\n550 b\r\n550 c\r\n354 go\r\n250 x\r\n", 2),
    vector(_OPEN + b"250 ok\r\n250 a\r\n250 b\r\n250 c\r\n554 no\r\n250 x\r\n", 2),
    vector(_OPEN + b"552 too big\r\n503 x\r\n503 x\r\n", 2),
    vector(_OPEN, 6),
    vector(_TLS_OPEN + _ACCEPTED, 0),
    vector(b"220 x\r\n250-x\r\n250 STARTTLS\r\n220 go\r\n250 injected\r\n\x1e250 x\r\n", 0),
    vector(b"220 x\r\n250 x\r\n", 0),
    vector(b"220 x\r\n502 what\r\n250 x\r\n", 1),
    vector(b"220 x\r\n250-x\r\n250 STARTTLS\r\n454 no\r\n", 1),
    vector(b"421 busy\r\n", 2),
    vector(b"HTTP/1.1 400 Bad Request\r\n\r\n", 2),
    vector(_OPEN + _ACCEPTED[:-16] + b"\xff\0\r\n", 2, 1),
    vector(b"220-" + b"x" * 5000, 2),
    vector(b"220-x\r\n" * 201, 2),
)
