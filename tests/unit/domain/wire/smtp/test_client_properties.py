"""Whatever a server says, cut anywhere: events, never an exception."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.wire.smtp.client import SmtpClient
from chatmail.domain.wire.smtp.client_events import (
    NEED_DATA,
    READY,
    SEND_CONTENT,
    UPGRADE,
    Phase,
    SessionEnd,
    TlsUse,
    TransactionEnd,
)
from tests.unit.domain.wire.smtp.client_dialogue import DELIVERED, rcpt, transaction

SERVER = (
    b"220 peer.example\r\n250-peer.example\r\n250-SIZE 10000\r\n250 PIPELINING\r\n"
    b"250 ok\r\n250 ok\r\n550-5.1.1 no\r\n550 5.1.1 user\r\n354 go\r\n250 2.0.0 done\r\n"
)


def play(pieces: list[bytes], tls: TlsUse = TlsUse.NEVER) -> list[object]:
    """Drive a machine like a shell would; content is sent as soon as it is asked for."""
    machine = SmtpClient("relay.example", tls)
    story: list[object] = []

    def run() -> bool:
        while (event := machine.next_event()) is not NEED_DATA:
            if isinstance(event, SessionEnd):
                story.append(event)
                return False
            story.append(event)
            if event is READY and machine.transactions < 2 and machine.phase is Phase.READY:
                machine.begin(transaction("bob", "carol"), with_reset=machine.transactions > 0)
            elif event is SEND_CONTENT:
                machine.content_sent()
            elif event is UPGRADE:
                machine.tls_started()
        return True

    if not run():
        return story
    for piece in pieces:
        machine.receive_data(piece)
        if not run():
            return story
    machine.receive_eof()
    run()
    return story


def cut(octets: bytes, where: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(octets) + 1) for place in where), len(octets)]
    return [octets[a:b] for a, b in itertools.pairwise(bounds) if a < b]


@given(st.lists(st.integers(0, 500), max_size=8))
def test_cuts_change_nothing(where: list[int]) -> None:
    assert play(cut(SERVER, where)) == play([SERVER])


LINES = st.sampled_from(
    [
        *(text.encode() + b" x\r\n" for text in ["220", "250", "354", "421", "450", "452", "550"]),
        *(b"250-x\r\n", b"250 PIPELINING\r\n", b"250 STARTTLS\r\n", b"x\r\n", b"\xff\0\n", SERVER),
    ]
)


@given(
    st.lists(LINES | st.binary(max_size=5), max_size=14),
    st.lists(st.integers(0, 500), max_size=4),
    st.sampled_from(TlsUse),
)
def test_any_server_leads_to_events_and_no_exception(
    parts: list[bytes], where: list[int], tls: TlsUse
) -> None:
    octets = b"".join(parts)
    story = play(cut(octets, where), tls)
    assert story == play([octets] if octets else [], tls) or tls is not TlsUse.NEVER
    assert isinstance(story[-1], SessionEnd)
    for event in story:
        if isinstance(event, TransactionEnd):
            named = {o.recipient for o in event.outcomes} | set(event.postponed)
            assert named == {rcpt("bob"), rcpt("carol")}
            assert len(event.outcomes) + len(event.postponed) == 2
        if isinstance(event, TransactionEnd | SessionEnd):
            delivered = [o for o in event.outcomes if o.fate is DELIVERED]
            assert all(o.reply.startswith("2") for o in delivered)
