"""The server side of an IMAP connection, without I/O: octets in, commands out.

Theory of operation.  Input goes through two stages. Stage 1 (`fragments`) cuts it into lines and
literals and knows limits only; stage 2 (`grammar`) parses a command once all its fragments are
there. Between them stands one decision per announced literal: may this command have it, now, in
this size? Only then the continuation is sent. Whatever is refused is skipped to its end, with
every non-synchronising literal it announces, so octets of a literal are never read as commands.

What the machine reads next is its mode:

    COMMAND ──literal──▶ LITERAL ──▶ COMMAND           the fragments of one command
    COMMAND ──APPEND literal──▶ APPEND_DECISION        the shell accepts or refuses
        accept ──▶ APPEND_LITERAL ──▶ APPEND_TAIL ──▶ COMMAND
        refuse ──▶ SKIP or COMMAND
    COMMAND ──refused──▶ SKIP ──▶ COMMAND              nothing of it is kept
    COMMAND ──begin_idle──▶ IDLE ──one line──▶ COMMAND
    COMMAND ──begin_response──▶ RESPONSE ──one line──▶ COMMAND
    any ──close, LOGOUT──▶ CLOSED                      input is dropped

The session state (RFC 3501 §3) is told by the shell, because only it knows how a command ended.
Source:  RFC 3501 §2.2, §3, §4.3, §7.5; RFC 7888; RFC 2177; RFC 4978; spec mail 4.1.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from typing import Final

from chatmail.domain.model.errors import LocalProtocolError, RemoteProtocolError
from chatmail.domain.wire.imap.commands import Logout
from chatmail.domain.wire.imap.events import (
    NEED_DATA,
    AppendChunk,
    AppendEnd,
    CommandReceived,
    ContinuationWanted,
    Event,
    IdleDone,
    Rejected,
    ResponseLine,
)
from chatmail.domain.wire.imap.fragments import (
    LINE_TOO_LONG,
    MAX_NUMBER,
    FragmentReader,
    LiteralHeader,
    Skip,
    literal_header,
)
from chatmail.domain.wire.imap.grammar import PARSERS, parse_command
from chatmail.domain.wire.imap.grammar_store import parse_append
from chatmail.domain.wire.imap.lexer import (
    LITERAL_MARK,
    CommandRefused,
    Lexer,
    SyntaxProblem,
)

# Spec mail 0 and 4.1; the first of each pair holds before login.
LINE_BYTES: Final = (8 * 1024, 64 * 1024)
LITERAL_BYTES: Final = (4 * 1024, 64 * 1024)
MAX_BAD: Final = (10, 50)
MAX_LITERALS: Final = 256
# A refused `{n+}` is read and dropped up to this much above the largest message.
SWALLOW_MARGIN_BYTES: Final = 64 * 1024
CONTINUE: Final = b"+ OK\r\n"

_TAG: Final = rb"([!#$&',\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]{1,64})"
_HEAD: Final = re.compile(_TAG + rb" +([!-~]+)")
_TAG_ALONE: Final = re.compile(_TAG + rb"(?= |\Z)")

_TOO_LONG: Final = b"BAD Command line too long"
_TOO_BIG: Final = b"NO [TOOBIG] Message is too large"
_BYE_ERRORS: Final = b"* BYE Too many errors\r\n"
_BYE_TOO_BIG: Final = b"* BYE [TOOBIG] Literal is too large\r\n"


class State(enum.Enum):
    """RFC 3501 §3."""

    NOT_AUTHENTICATED = "not_authenticated"
    AUTHENTICATED = "authenticated"
    SELECTED = "selected"
    LOGOUT = "logout"


_ANY: Final = frozenset({State.NOT_AUTHENTICATED, State.AUTHENTICATED, State.SELECTED})
_BEFORE_LOGIN: Final = frozenset({State.NOT_AUTHENTICATED})
_AFTER_LOGIN: Final = frozenset({State.AUTHENTICATED, State.SELECTED})
_SELECTED: Final = frozenset({State.SELECTED})
_LOGINS: Final = frozenset({b"LOGIN", b"AUTHENTICATE"})

# Where a command may be given; those not named here need a login and nothing more.
ALLOWED_IN: Final[Mapping[bytes, frozenset[State]]] = {
    **dict.fromkeys((*PARSERS, b"APPEND"), _AFTER_LOGIN),
    **dict.fromkeys((b"CAPABILITY", b"NOOP", b"LOGOUT", b"ID"), _ANY),
    **dict.fromkeys((b"STARTTLS", *_LOGINS), _BEFORE_LOGIN),
    **dict.fromkeys((b"CHECK", b"CLOSE", b"UNSELECT", b"EXPUNGE", b"UID"), _SELECTED),
    **dict.fromkeys((b"FETCH", b"STORE", b"SEARCH", b"COPY", b"MOVE"), _SELECTED),
}


class _Mode(enum.Enum):
    COMMAND = enum.auto()
    LITERAL = enum.auto()
    APPEND_DECISION = enum.auto()
    APPEND_LITERAL = enum.auto()
    APPEND_TAIL = enum.auto()
    SKIP = enum.auto()
    IDLE = enum.auto()
    RESPONSE = enum.auto()
    CLOSED = enum.auto()


class ServerMachine:
    """One IMAP connection as the server reads it.

    Total: whatever the peer sends, cut anywhere, comes out as events; the cuts change nothing but
    where a streamed literal is split. Memory: what was handed to `receive_data`, one command.
    """

    __slots__ = (
        "_args_at",
        "_bad_count",
        "_enabled",
        "_is_dry",
        "_literal",
        "_literals",
        "_long_lines",
        "_max_append_bytes",
        "_mode",
        "_reader",
        "_remaining",
        "_tag",
        "_text",
        "_word",
        "is_compressed",
        "state",
        "tls_active",
    )

    def __init__(self, *, tls_active: bool, max_append_bytes: int) -> None:
        self.state = State.NOT_AUTHENTICATED
        self.tls_active = tls_active
        self.is_compressed = False
        self._max_append_bytes = max_append_bytes
        self._reader = FragmentReader()
        self._mode = _Mode.COMMAND
        self._is_dry = True
        self._bad_count = 0
        self._long_lines = 0
        self._enabled: frozenset[str] = frozenset()
        self._tag = b"*"
        self._word = b""
        self._args_at = 0
        self._text = b""  # the lines of a command that has literals, so far
        self._literals: list[bytes] = []
        self._literal = LiteralHeader(0, False, 0)
        self._remaining = 0

    # --- input and events --------------------------------------------------------------------

    def receive_data(self, octets: bytes) -> None:
        """Add what the peer sent. The shell reads only while `wants_input`."""
        if self._mode is not _Mode.CLOSED:
            self._reader.receive(octets)
            self._is_dry = False

    def next_event(self) -> Event:
        """Return the next event, NEED_DATA when more octets are needed.

        Raises:  LocalProtocolError: an APPEND was neither accepted nor refused.
        """
        while True:
            event = _STEPS[self._mode](self)
            if event is not None:
                self._is_dry = event is NEED_DATA
                return event

    @property
    def wants_input(self) -> bool:
        """Say whether all that was received has become events."""
        return self._is_dry

    @property
    def has_buffered_input(self) -> bool:
        """Say whether octets wait behind the last event (STARTTLS injection, spec mail 1.5)."""
        return self._reader.buffered > 0

    # --- what the shell tells ----------------------------------------------------------------

    def authenticated(self) -> None:
        """LOGIN or AUTHENTICATE succeeded: larger limits, other commands."""
        self.state = State.AUTHENTICATED
        self._bad_count = 0

    def selected(self) -> None:
        """A mailbox is selected now."""
        self.state = State.SELECTED

    def deselected(self) -> None:
        """No mailbox is selected any more."""
        self.state = State.AUTHENTICATED

    def enable(self, name: str) -> None:
        """Note an extension that ENABLE switched on."""
        self._enabled |= {name}

    @property
    def enabled(self) -> frozenset[str]:
        """The extensions switched on so far."""
        return self._enabled

    def starttls_done(self) -> None:
        """TLS is active from here on.

        Raises:  RemoteProtocolError: cleartext followed the STARTTLS command (RFC 3207 §6).
        """
        if self._reader.buffered:
            raise RemoteProtocolError("input behind STARTTLS")
        self.tls_active = True
        self._bad_count = self._long_lines = 0

    def compressed(self) -> None:
        """COMPRESS is active. Tags may start again: they are never compared (trap T13)."""
        self.is_compressed = True

    def begin_idle(self, tag: bytes) -> None:
        """Expect DONE: the next event is IdleDone, or Rejected and IDLE is over as well."""
        self._enter(_Mode.IDLE)
        self._tag = tag

    def begin_response(self) -> None:
        """Expect one line that answers our `+` in AUTHENTICATE."""
        self._enter(_Mode.RESPONSE)

    def _enter(self, mode: _Mode) -> None:
        if self._mode is not _Mode.COMMAND or self._text:
            raise LocalProtocolError(f"{mode.name} begins between commands only")
        self._mode = mode

    def accept_append(self) -> bytes:
        """Go on with the APPEND whose AppendBegin was the last event.

        Returns:  what to send first: the continuation, b"" when the client does not wait for it.
        """
        self._decide()
        self._mode = _Mode.APPEND_LITERAL
        self._remaining = self._literal.size
        return CONTINUE if self._literal.is_synchronising else b""

    def refuse_append(self) -> bool:
        """Drop the APPEND whose AppendBegin was the last event; the shell answers it.

        Returns:  False: its literal is too large to be skipped, so the connection must end.
        """
        self._decide()
        return self._drop_rest(self._literal)

    def _decide(self) -> None:
        if self._mode is not _Mode.APPEND_DECISION:
            raise LocalProtocolError("no APPEND waits for a decision")

    # --- commands ----------------------------------------------------------------------------

    @property
    def _is_logged_in(self) -> bool:
        return self.state is not State.NOT_AUTHENTICATED

    def _command_step(self) -> Event | None:
        line = self._reader.line(LINE_BYTES[self._is_logged_in] - len(self._text))
        if line is None:
            return NEED_DATA
        if line is LINE_TOO_LONG:
            return self._line_too_long()
        literal = literal_header(line)
        problem = None if self._text else self._begin(line)
        if problem is None and (b"\r" in line or b"\0" in line):
            problem = b"BAD Bare CR or NUL"
        if problem is not None:
            return self._reject(problem, literal)
        if literal is None:
            return self._execute(self._text + line)
        self._text += line[: literal.prefix_size]
        if self._word == b"APPEND" and self._is_message_literal():
            return self._begin_append(literal)
        problem = self._literal_problem(literal)
        if problem is not None:
            return self._reject(problem, literal)
        self._text += LITERAL_MARK
        self._literal = literal
        self._mode = _Mode.LITERAL
        return ContinuationWanted(CONTINUE) if literal.is_synchronising else None

    def _begin(self, line: bytes) -> bytes | None:
        """Read tag and name of a command; return what forbids it here."""
        head = _HEAD.match(line)
        if head is None:
            tag = _TAG_ALONE.match(line)
            self._tag = tag[1] if tag else b"*"
            return b"BAD Missing command" if tag else b"BAD Missing or invalid tag"
        self._tag = head[1]
        self._word = word = head[2].upper()
        self._args_at = head.end()
        states = ALLOWED_IN.get(word)
        if states is None:
            return b"BAD Unknown command"
        if self.state not in states:
            return b"BAD Command not allowed in this state"
        if states is _BEFORE_LOGIN:
            return self._login_problem(word)
        return None

    def _login_problem(self, word: bytes) -> bytes | None:
        """Refuse secrets without TLS before looking at them (spec mail 1.4)."""
        if word in _LOGINS:
            return None if self.tls_active else b"NO [PRIVACYREQUIRED] TLS required."
        return b"BAD TLS is already active" if self.tls_active else None

    def _literal_problem(self, literal: LiteralHeader) -> bytes | None:
        if not self._is_logged_in and self._word not in _LOGINS:
            return b"BAD Literal not allowed before login"
        used = sum(map(len, self._literals))
        if used + literal.size > LITERAL_BYTES[self._is_logged_in]:
            return b"BAD Literal is too large"
        return b"BAD Too many literals" if len(self._literals) >= MAX_LITERALS else None

    def _literal_step(self) -> Event | None:
        octets = self._reader.exactly(self._literal.size)
        if octets is None:
            return NEED_DATA
        self._literals.append(octets)
        self._mode = _Mode.COMMAND
        return None

    def _execute(self, text: bytes) -> Event:
        try:
            if self._word == b"APPEND":
                raise SyntaxProblem(b"Expected a literal")
            command = parse_command(self._word, text, self._args_at, self._literals)
        except SyntaxProblem as problem:
            return self._reject(b"BAD " + problem.text, None)
        except CommandRefused as refused:
            return self._reject(refused.response, None)
        self._forget_command()
        self._bad_count = 0
        if type(command) is Logout:
            self._close()
        return CommandReceived(self._tag, command)

    def _forget_command(self) -> None:
        if self._text:
            self._text = b""
            self._literals = []

    # --- APPEND ------------------------------------------------------------------------------

    def _is_message_literal(self) -> bool:
        """Say whether the announced literal is the message, not the mailbox name."""
        return self._text[self._args_at :].strip(b" ") != b""

    def _begin_append(self, literal: LiteralHeader) -> Event:
        lexer = Lexer(self._text, self._args_at, self._literals)
        try:
            command = parse_append(lexer, literal.size, literal.is_synchronising)
        except SyntaxProblem as problem:
            return self._reject(b"BAD " + problem.text, literal)
        if literal.size > MAX_NUMBER:
            return self._reject(b"BAD Number out of range", literal)
        if literal.size > self._max_append_bytes:
            return self._reject(_TOO_BIG, literal)
        self._forget_command()
        self._bad_count = 0
        self._literal = literal
        self._mode = _Mode.APPEND_DECISION
        return CommandReceived(self._tag, command)

    def _append_decision_step(self) -> Event | None:
        raise LocalProtocolError("an APPEND waits for a decision")

    def _append_literal_step(self) -> Event | None:
        if not self._remaining:
            self._mode = _Mode.APPEND_TAIL
            return None
        octets = self._reader.some(self._remaining)
        self._remaining -= len(octets)
        return AppendChunk(octets) if octets else NEED_DATA

    def _append_tail_step(self) -> Event | None:
        line = self._reader.line(LINE_BYTES[self._is_logged_in])
        if line is None:
            return NEED_DATA
        if line is LINE_TOO_LONG:
            return self._line_too_long()
        if line.strip(b" "):
            return self._reject(b"BAD Unexpected octets after the message", literal_header(line))
        self._mode = _Mode.COMMAND
        return AppendEnd(self._tag)

    # --- IDLE and AUTHENTICATE ---------------------------------------------------------------

    def _idle_step(self) -> Event | None:
        line = self._reader.line(LINE_BYTES[True])
        if line is None:
            return NEED_DATA
        if line is LINE_TOO_LONG:
            return self._line_too_long()
        if line.upper() != b"DONE":
            return self._reject(b"BAD Expected DONE", literal_header(line))
        self._mode = _Mode.COMMAND
        return IdleDone(self._tag)

    def _response_step(self) -> Event | None:
        line = self._reader.line(LINE_BYTES[False])
        if line is None:
            return NEED_DATA
        if line is LINE_TOO_LONG:
            return self._line_too_long()
        self._mode = _Mode.COMMAND
        return ResponseLine(line)

    # --- refusals ----------------------------------------------------------------------------

    def _reject(self, response: bytes, literal: LiteralHeader | None) -> Rejected:
        """Refuse a command whose last line read announced `literal`, and skip what follows."""
        octets = self._tag + b" " + response + b"\r\n"
        if not self._drop_rest(literal):
            return Rejected(octets + _BYE_TOO_BIG, close=True)
        if not response.startswith(b"BAD"):
            return Rejected(octets)
        self._bad_count += 1
        if self._bad_count < MAX_BAD[self._is_logged_in]:
            return Rejected(octets)
        self._close()
        return Rejected(octets + _BYE_ERRORS, close=True)

    def _drop_rest(self, literal: LiteralHeader | None) -> bool:
        """Leave the command; False: its literal is too large to be read and the machine closed."""
        self._forget_command()
        self._mode = _Mode.COMMAND
        # The client does not send a synchronising literal once it reads a tagged reply.
        if literal is None or literal.is_synchronising:
            return True
        if literal.size > self._largest_skip:
            self._close()
            return False
        self._reader.begin_skip(literal.size)
        self._mode = _Mode.SKIP
        return True

    @property
    def _largest_skip(self) -> int:
        return self._max_append_bytes + SWALLOW_MARGIN_BYTES

    def _line_too_long(self) -> Rejected:
        if not self._text and self._mode is _Mode.COMMAND:
            found = _TAG_ALONE.match(self._reader.peek(80))
            self._tag = found[1] if found else b"*"
        self._forget_command()
        self._long_lines += 1
        if self._is_logged_in and self._long_lines < 2:
            self._reader.begin_skip(0)
            self._mode = _Mode.SKIP
            return Rejected(self._tag + b" " + _TOO_LONG + b"\r\n")
        tag = self._tag if self._is_logged_in else b"*"
        self._close()
        return Rejected(tag + b" " + _TOO_LONG + b"\r\n* BYE Command line too long\r\n", close=True)

    def _skip_step(self) -> Event | None:
        skipped = self._reader.skip(self._largest_skip)
        if skipped is Skip.NEED_DATA:
            return NEED_DATA
        if skipped is Skip.HOPELESS:
            self._close()
            return Rejected(_BYE_TOO_BIG, close=True)
        self._mode = _Mode.COMMAND
        return None

    def _close(self) -> None:
        self.state = State.LOGOUT
        self._mode = _Mode.CLOSED
        self._reader.clear()

    def _closed_step(self) -> Event | None:
        return NEED_DATA


_STEPS: Final[Mapping[_Mode, Callable[[ServerMachine], Event | None]]] = {
    _Mode.COMMAND: ServerMachine._command_step,
    _Mode.LITERAL: ServerMachine._literal_step,
    _Mode.APPEND_DECISION: ServerMachine._append_decision_step,
    _Mode.APPEND_LITERAL: ServerMachine._append_literal_step,
    _Mode.APPEND_TAIL: ServerMachine._append_tail_step,
    _Mode.SKIP: ServerMachine._skip_step,
    _Mode.IDLE: ServerMachine._idle_step,
    _Mode.RESPONSE: ServerMachine._response_step,
    _Mode.CLOSED: ServerMachine._closed_step,
}
