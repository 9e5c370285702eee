"""Both machines back to back: what one sends the other understands."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.formats.dot_stuffing import DotStuffer
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.federation import RecipientFate
from chatmail.domain.wire.smtp import events, replies
from chatmail.domain.wire.smtp.client import SmtpClient
from chatmail.domain.wire.smtp.client_events import (
    NEED_DATA,
    READY,
    SEND_CONTENT,
    UPGRADE,
    Phase,
    Send,
    TlsUse,
    Transaction,
    TransactionEnd,
)
from chatmail.domain.wire.smtp.commands import Data, Hello, Mail, Rcpt, StartTls
from chatmail.domain.wire.smtp.replies import Reply
from chatmail.domain.wire.smtp.sequence import Role
from chatmail.domain.wire.smtp.server import SmtpServer

REFUSED = Reply(550, "5.1.1", "No such user")
SENDER = EmailAddress("alice", "relay.example")


class Pair:
    """A client and a server; octets travel in pieces of the sizes given, round and round."""

    def __init__(self, content: bytes, sizes: list[int], refused: set[str]) -> None:
        self.client = SmtpClient("relay.example", TlsUse.REQUIRED)
        self.server = SmtpServer(Role.INBOUND, is_tls=False)
        self.content = content
        self.sizes = sizes
        self.refused = refused
        self.received = b""
        self.seen: list[object] = []
        self.end: TransactionEnd | None = None
        self.upgraded = 0

    def run(self, transaction: Transaction) -> TransactionEnd:
        to_client, to_server = replies.greeting("peer.example").octets, b""
        for _ in range(100):
            to_server += self._client(to_client, transaction)
            if self.end is not None:
                return self.end
            to_client = self._server(to_server)
            to_server = b""
        raise AssertionError("the dialogue does not end")

    def _pieces(self, octets: bytes) -> list[bytes]:
        cut, at = [], 0
        while at < len(octets):
            size = self.sizes[len(cut) % len(self.sizes)]
            cut.append(octets[at : at + size])
            at += size
        return cut

    def _client(self, octets: bytes, transaction: Transaction) -> bytes:
        out = b""
        for piece in self._pieces(octets):
            self.client.receive_data(piece)
            while (event := self.client.next_event()) is not NEED_DATA:
                match event:
                    case Send():
                        out += event.octets
                    case TransactionEnd():
                        self.end = event
                    case _:
                        out += self._act(event, transaction)
        return out

    def _act(self, event: object, transaction: Transaction) -> bytes:
        if event is READY and self.client.phase is Phase.READY and self.end is None:
            self.client.begin(transaction)
        elif event is UPGRADE:
            self.server.tls_started()
            self.client.tls_started()
            self.upgraded += 1
        elif event is SEND_CONTENT:
            stuffer = DotStuffer()
            wire = b"".join(map(stuffer.feed, self._pieces(self.content))) + stuffer.finish()
            self.client.content_sent()
            return wire
        return b""

    def _server(self, octets: bytes) -> bytes:
        out = b""
        for piece in self._pieces(octets):
            self.server.receive_data(piece)
            while not isinstance(event := self.server.next_event(), events.Signal):
                out += self._answer(event)
        return out

    def _answer(self, event: events.Event) -> bytes:
        self.seen.append(event)
        match event:
            case events.Answered():
                return event.octets
            case Hello():
                return self.server.hello("peer.example", 1_000_000)
            case StartTls():
                return self.server.send(replies.READY_FOR_TLS)
            case Mail():
                return self.server.send(replies.MAIL_OK)
            case Rcpt():
                is_refused = event.forward_path.local in self.refused
                return self.server.send(REFUSED if is_refused else replies.RCPT_OK)
            case Data():
                return self.server.accept_content(1_000_000)
            case events.ContentChunk():
                self.received += event.octets
                return b""
            case events.ContentEnd():
                assert event.fault is None
                return self.server.send(replies.OK)
            case _:
                raise AssertionError(event)


LINES = st.lists(st.sampled_from([b"", b".", b"..", b"text", b".text", b"x" * 300]), max_size=12)
NAMES = ("bob", "carol", "dave")


@given(
    LINES, st.lists(st.integers(1, 700), min_size=1, max_size=5), st.sets(st.sampled_from(NAMES))
)
def test_a_message_arrives_for_those_who_are_not_refused(
    lines: list[bytes], sizes: list[int], refused: set[str]
) -> None:
    content = b"Subject: x\r\n\r\n" + b"".join(line + b"\r\n" for line in lines)
    pair = Pair(content, sizes, refused)
    recipients = tuple(EmailAddress(name, "peer.example") for name in NAMES)
    end = pair.run(Transaction(reverse_path=SENDER, recipients=recipients, size=len(content)))
    fates = {outcome.recipient.local: outcome.fate for outcome in end.outcomes}
    assert fates == {
        name: RecipientFate.PERMANENT if name in refused else RecipientFate.DELIVERED
        for name in NAMES
    }
    assert pair.upgraded == 1
    assert pair.received == (content if len(refused) < len(NAMES) else b"")
    senders = [event.reverse_path for event in pair.seen if isinstance(event, Mail)]
    assert senders == [SENDER]
