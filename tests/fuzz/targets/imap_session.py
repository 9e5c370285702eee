"""A whole IMAP session as the machine reads it, in any state, with a shell that also refuses."""

from __future__ import annotations

import contextlib
import re

from chatmail.domain.model.errors import RemoteProtocolError
from chatmail.domain.wire.imap.commands import (
    AppendBegin,
    Authenticate,
    Close,
    Idle,
    Login,
    Logout,
    Select,
    StartTls,
)
from chatmail.domain.wire.imap.events import (
    NEED_DATA,
    AppendChunk,
    CommandReceived,
    ContinuationWanted,
    Event,
    Rejected,
)
from chatmail.domain.wire.imap.server import ServerMachine, State
from tests.fuzz.cutting import read, vector

MAX_APPEND = 1000
# What one octet of input may cause at most in replies, and what an idle session may be told.
MAX_AMPLIFICATION = 80
MAX_FAREWELL = 300

WORDS = (
    *(b"a ", b"\r\n", b"{3}\r\n", b"{3+}\r\n", b"{0+}\r\n", b"{70000+}\r\n", b"{9999999999+}\r\n"),
    *(b"a NOOP\r\n", b"a LOGIN u p\r\n", b"a LOGIN {1+}\r\nu {1+}\r\np\r\n", b"a LOGOUT\r\n"),
    *(b"a SELECT INBOX\r\n", b"a CLOSE\r\n", b"a IDLE\r\n", b"DONE\r\n", b"a APPEND x {5+}\r\n"),
    *(b"a AUTHENTICATE PLAIN\r\n", b"AHUAcA==\r\n", b"*\r\n", b"a UID FETCH 1:* (FLAGS)\r\n"),
    *(
        b"a STARTTLS\r\n",
        b"a SEARCH TEXT {2+}\r\nhi\r\n",
        b"a SETMETADATA INBOX (/a {1+}\r\nx)\r\n",
    ),
    *(
        b"{000000000000000000000000000000000000003+}\r\n",
        b"a APPEND INBOX (\\Seen) {5}\r\nhello\r\n",
    ),
)

_REPLY_LINE = re.compile(rb"[!-~]{1,64} [\x20-\x7e]+\Z")


class Session:
    """A machine, and a shell that says yes or no by the number of its decisions."""

    def __init__(self, options: int, refusals: int) -> None:
        self.machine = ServerMachine(tls_active=bool(options & 1), max_append_bytes=MAX_APPEND)
        if options & 2:
            self.machine.authenticated()
        if options & 6 == 6:
            self.machine.selected()
        self.log: list[Event] = []
        self.is_over = False
        self._refusals = refusals
        self._decisions = 0

    def say(self, octets: bytes) -> None:
        if self.is_over:
            return
        self.machine.receive_data(octets)
        while not self.is_over and (event := self.machine.next_event()) is not NEED_DATA:
            self._keep(event)
            if isinstance(event, CommandReceived):
                self._follow(event)
        assert self.is_over or self.machine.wants_input

    def _keep(self, event: Event) -> None:
        if isinstance(event, Rejected):
            check_reply(event.octets)
            self.is_over = event.close
        if isinstance(event, ContinuationWanted):
            assert event.octets == b"+ OK\r\n"
        last = self.log[-1] if self.log else None
        if isinstance(event, AppendChunk) and isinstance(last, AppendChunk):
            assert 0 < len(event.octets) <= 64 * 1024
            self.log[-1] = AppendChunk(last.octets + event.octets)
        else:
            self.log.append(event)

    def _no(self) -> bool:
        self._decisions += 1
        return bool(self._refusals >> (self._decisions % 8) & 1)

    def _follow(self, event: CommandReceived) -> None:
        machine = self.machine
        match event.command:
            case AppendBegin() if self._no():
                self.is_over = not machine.refuse_append()
            case AppendBegin():
                assert machine.accept_append() in (b"", b"+ OK\r\n")
            case Idle():
                machine.begin_idle(event.tag)
            case Authenticate(initial=None):
                machine.begin_response()
            case Login() | Authenticate() if not self._no():
                machine.authenticated()
            case Select() if not self._no():
                machine.selected()
            case Close():
                machine.deselected()
            case StartTls():
                self._start_tls()
            case Logout():
                self.is_over = True
            case _:
                pass

    def _start_tls(self) -> None:
        # What came in the same packet as STARTTLS ends the session; what comes later would be
        # read as a TLS handshake, so here the session ends as well.
        with contextlib.suppress(RemoteProtocolError):
            self.machine.starttls_done()
        self.is_over = True


def check_reply(octets: bytes) -> None:
    """Whole lines of printable ASCII (spec mail 4.2.4)."""
    assert octets.endswith(b"\r\n")
    for line in octets[:-2].split(b"\r\n"):
        assert _REPLY_LINE.match(line), line


def check(data: bytes) -> None:
    """However the octets are cut, the same events come out, and replies stay in proportion."""
    given = read(data)
    whole = _run(given.options, given.more, [given.payload])
    for pieces in given.ways():
        assert _run(given.options, given.more, pieces) == whole
    said = sum(len(event.octets) for event in whole[0] if isinstance(event, Rejected))
    assert said <= MAX_AMPLIFICATION * len(given.payload) + MAX_FAREWELL


def _run(options: int, refusals: int, pieces: list[bytes]) -> tuple[list[Event], State, bool]:
    session = Session(options, refusals)
    for piece in pieces:
        session.say(piece)
    return session.log, session.machine.state, session.is_over


VECTORS = (
    vector(b"a LOGIN u {6+}\r\nsecret\r\nb SELECT INBOX\r\nc UID FETCH 1:* (FLAGS UID)\r\n", 1),
    vector(b"a LOGIN {1}\r\nu {2}\r\npw\r\nb ID NIL\r\nc LOGOUT\r\nd NOOP\r\n", 1),
    vector(b"a AUTHENTICATE PLAIN\r\nAHUAcA==\r\nb NOOP\r\n", 1),
    vector(b"a STARTTLS\r\nb LOGIN u p\r\n", 0),
    vector(b'a APPEND INBOX (\\Seen) "01-Jan-2026 12:00:00 +0000" {5+}\r\nhello\r\nb NOOP\r\n', 7),
    vector(b"a APPEND INBOX {5}\r\nhello x\r\nb APPEND INBOX {2000+}\r\n" + b"y" * 2002, 7),
    vector(b"a APPEND INBOX {5+}\r\nhello\r\nb NOOP\r\n", 7, 0xFF),
    vector(b"a IDLE\r\nDONE\r\nb IDLE\r\nfoo {3+}\r\nabc\r\nc NOOP\r\n", 7),
    vector(b"a FOO {3+}\r\nabc {2+}\r\nde\r\nb NOOP\r\nc FOO {3}\r\nd NOOP\r\n", 7),
    vector(b"a SEARCH " + b"x" * 9000 + b"\r\nb NOOP\r\n", 1),
    vector(b"a NOOP\0\r\nb NO\rOP\r\nc\r\n* x\r\n\r\n", 7),
    vector(b"x\r\n" * 51, 7),
    vector(b"a FOO {99999999999999999999999+}\r\n", 7),
    vector(b"a FOO " + b"{" + b"0" * 60 + b"3+}\r\nabc\r\nb NOOP\r\n", 7),
)
