"""The client machine against a server whose lines the test says."""

from __future__ import annotations

from collections.abc import Iterator

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.federation import RecipientFate
from chatmail.domain.wire.smtp.client import SmtpClient
from chatmail.domain.wire.smtp.client_events import (
    NEED_DATA,
    READY,
    ClientEvent,
    Send,
    SessionEnd,
    TlsUse,
    Transaction,
    TransactionEnd,
)

DELIVERED, TEMPORARY, PERMANENT = RecipientFate
ALICE = EmailAddress("alice", "relay.example")


def rcpt(name: str) -> EmailAddress:
    return EmailAddress(name, "peer.example")


def transaction(*names: str, size: int = 100, is_eight_bit: bool = True) -> Transaction:
    return Transaction(
        reverse_path=ALICE,
        recipients=tuple(map(rcpt, names or ("bob",))),
        size=size,
        is_eight_bit=is_eight_bit,
    )


class Dialogue:
    """A machine and what it did: `C:` lines sent, names of signals, ends."""

    def __init__(self, tls: TlsUse = TlsUse.NEVER) -> None:
        self.machine = SmtpClient("relay.example", tls)
        self.events: list[ClientEvent] = []

    def hear(self, *lines: str) -> list[object]:
        """Give the server's lines; return what happened, `Send` as lists of lines."""
        if lines:
            self.machine.receive_data("".join(line + "\r\n" for line in lines).encode("latin-1"))
        happened: list[object] = []
        for event in self.run():
            happened.append(
                event.octets.decode().splitlines() if isinstance(event, Send) else event
            )
        return happened

    def run(self) -> Iterator[ClientEvent]:
        while (event := self.machine.next_event()) is not NEED_DATA:
            yield event
            if isinstance(event, SessionEnd):
                return

    def open(self, *capabilities: str) -> Dialogue:
        self.hear("220 peer.example ready")
        last = ["250-peer.example", *(f"250-{name}" for name in capabilities), "250 HELP"]
        assert self.hear(*last)[-1] is READY
        return self

    def begin(self, what: Transaction, *, with_reset: bool = False) -> list[object]:
        self.machine.begin(what, with_reset=with_reset)
        return self.hear()

    def lose(self) -> SessionEnd:
        self.machine.receive_eof()
        end = self.machine.next_event()
        assert isinstance(end, SessionEnd)
        return end


PIPELINING = ("PIPELINING", "SIZE 1000", "8BITMIME")


def pipelined(*names: str) -> Dialogue:
    dialogue = Dialogue().open(*PIPELINING)
    dialogue.begin(transaction(*names))
    return dialogue


def end_of(happened: list[object]) -> TransactionEnd:
    (end,) = [event for event in happened if isinstance(event, TransactionEnd)]
    return end


def fates(end: TransactionEnd | SessionEnd) -> list[tuple[str, RecipientFate, str]]:
    return [(outcome.recipient.local, outcome.fate, outcome.reply) for outcome in end.outcomes]


def delivered() -> Dialogue:
    dialogue = pipelined("bob")
    dialogue.hear("250 ok", "250 ok", "354 go")
    dialogue.machine.content_sent()
    dialogue.hear("250 ok")
    return dialogue
