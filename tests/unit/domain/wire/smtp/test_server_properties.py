"""Whatever a client says, cut anywhere: the same events and replies."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from chatmail.domain.wire.smtp.events import Event
from chatmail.domain.wire.smtp.sequence import Role
from tests.unit.domain.wire.smtp.server_dialogue import PLAIN, Dialogue

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
