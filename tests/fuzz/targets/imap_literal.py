"""What is announced as a literal is never read as a command, whoever refuses it and why."""

from __future__ import annotations

from chatmail.domain.wire.imap.commands import Login, Noop
from chatmail.domain.wire.imap.events import (
    AppendChunk,
    AppendEnd,
    CommandReceived,
    ContinuationWanted,
    Rejected,
)
from chatmail.domain.wire.imap.server import State
from tests.fuzz.cutting import Input, read, vector
from tests.fuzz.targets.imap_session import Session

WORDS = (b"\r\nz NOOP\r\n", b"z NOOP\r\n", b"{3+}\r\n", b"\0", b"\r", b"\n", b"z LOGOUT\r\n")

# Commands that refuse a literal, each for another reason, and in which state they are said.
_REFUSED = (
    (b"a XBAD", 7),  # unknown
    (b"a NOOP", 1),  # not before login
    (b"a LOGIN u", 7),  # not in this state
    (b"a LOGIN u", 0),  # TLS first
    (b"a APPEND x (\\Seen", 7),  # no grammar
    (b"a SELECT a", 7),  # one argument too many
    (b"a\0b", 7),  # no command at all
    (b"", 7),
)


def check(data: bytes) -> None:
    """The command behind the literal is the next one that is executed, in every way of saying."""
    given = read(data)
    _refused(*_REFUSED[given.options % len(_REFUSED)], given)
    _password(given.payload)
    _message(given)


def _refused(line: bytes, options: int, given: Input) -> None:
    middle = len(given.payload) * given.more // 256
    one, two = given.payload[:middle], given.payload[middle:]
    stream = b"%b {%d+}\r\n%b {%d+}\r\n%b\r\n" % (line, len(one), one, len(two), two)
    stream += b"z NOOP\r\n"
    session = Session(options, 0xFF)
    for piece in given.pieces(stream):
        session.say(piece)
    events = [event for event in session.log if not isinstance(event, ContinuationWanted)]
    if session.is_over:
        # Too large, or more literals announced in what is skipped: nothing is executed.
        assert not any(isinstance(event, CommandReceived) for event in session.log)
        return
    executed = [event for event in events if isinstance(event, CommandReceived)]
    assert isinstance(events[0], Rejected)
    assert executed == [CommandReceived(b"z", Noop())], events
    assert len(events) == 2


def _password(octets: bytes) -> None:
    if len(octets) > 4000 or b"\0" in octets:
        return
    session = Session(1, 0xFF)
    session.say(b"a LOGIN u {%d+}\r\n%b\r\nz NOOP\r\n" % (len(octets), octets))
    assert session.log == [
        CommandReceived(b"a", Login(b"u", octets)),
        CommandReceived(b"z", Noop()),
    ]


def _message(given: Input) -> None:
    octets = given.payload[:1000]
    stream = b"a APPEND x {%d+}\r\n%b\r\nz NOOP\r\n" % (len(octets), octets)
    session = Session(7, 0)
    for piece in given.pieces(stream):
        session.say(piece)
    begin, *middle, last = session.log
    assert isinstance(begin, CommandReceived)
    assert middle == ([AppendChunk(octets)] if octets else []) + [AppendEnd(b"a")]
    assert last == CommandReceived(b"z", Noop())
    assert session.machine.state is State.SELECTED


VECTORS = tuple(
    vector(payload, options, more)
    for options in range(len(_REFUSED))
    for more in (0, 128)
    for payload in (b"abc", b"\r\nz LOGOUT\r\n", b"x {5+}\r\nhello\0")
)
