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
                                      APPEND_TAIL ──one more literal──▶ APPEND_DECISION
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
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import attrs

from chatmail.domain.model.errors import LocalProtocolError, RemoteProtocolError
from chatmail.domain.wire.imap.commands import Logout
from chatmail.domain.wire.imap.events import (
    NEED_DATA,
    AppendChunk,
    AppendEnd,
    AppendNext,
    CommandReceived,
    ContinuationWanted,
    Event,
    IdleDone,
    Rejected,
    ResponseLine,
)
from chatmail.domain.wire.imap.fragments import (
    LINE_TOO_LONG,
    FragmentReader,
    LiteralHeader,
    Skip,
    literal_header,
)
from chatmail.domain.wire.imap.grammar import parse_command
from chatmail.domain.wire.imap.grammar_store import parse_append, parse_append_message
from chatmail.domain.wire.imap.lexer import (
    LITERAL_MARK,
    UTF8_MODES,
    CommandRefused,
    Lexer,
    SyntaxProblem,
)
from chatmail.domain.wire.imap.states import (
    AFTER_LOGIN,
    BEFORE_LOGIN,
    NO_TAG,
    Head,
    Limits,
    literal_problem,
    problem_of,
    read_head,
    tag_of,
)
from chatmail.domain.wire.imap.states import State as State  # the shell needs machine and state

# A refused `{n+}` is read and dropped up to this much above the largest message.
SWALLOW_MARGIN_BYTES: Final = 64 * 1024
CONTINUE: Final = b"+ OK\r\n"

_OPEN_UTF8: Final = b" UTF8 (~"
_NO_HEAD: Final = Head(NO_TAG, b"", 0)
_BYE_ERRORS: Final = b"* BYE Too many errors\r\n"
_BYE_TOO_BIG: Final = b"* BYE [TOOBIG] Literal is too large\r\n"


_Mode = enum.Enum(
    "_Mode",
    "COMMAND LITERAL APPEND_DECISION APPEND_LITERAL APPEND_TAIL SKIP IDLE RESPONSE CLOSED",
)
_ReadLine: TypeAlias = "Callable[[ServerMachine, bytes], Event | None]"


@attrs.define(eq=False, repr=False, kw_only=True)
class ServerMachine:
    """One IMAP connection as the server reads it.

    Total: whatever the peer sends, cut anywhere, comes out as events; the cuts change nothing but
    where a streamed literal is split. Memory: what was handed to `receive_data`, one command.
    `max_append_bytes` may change at any time; an APPEND that has begun keeps what it was told.
    """

    tls_active: bool
    max_append_bytes: int
    state: State = attrs.field(default=State.NOT_AUTHENTICATED, init=False)
    is_compressed: bool = attrs.field(default=False, init=False)
    enabled: frozenset[str] = attrs.field(default=frozenset(), init=False)
    _reader: FragmentReader = attrs.field(factory=FragmentReader, init=False)
    _mode: _Mode = attrs.field(default=_Mode.COMMAND, init=False)
    _limits: Limits = attrs.field(default=BEFORE_LOGIN, init=False)
    _is_dry: bool = attrs.field(default=True, init=False)
    _bad_count: int = attrs.field(default=0, init=False)
    _bads_before: int = attrs.field(default=0, init=False)  # the command being executed
    _long_lines: int = attrs.field(default=0, init=False)
    _tag: bytes = attrs.field(default=NO_TAG, init=False)
    _head: Head = attrs.field(default=_NO_HEAD, init=False)
    # The fragments so far of a command that has literals.
    _text: bytes = attrs.field(default=b"", init=False)
    _literals: tuple[bytes, ...] = attrs.field(default=(), init=False)
    _literal: LiteralHeader = attrs.field(default=LiteralHeader(0, False, 0), init=False)
    _remaining: int = attrs.field(default=0, init=False)
    _closes_utf8: bool = attrs.field(default=False, init=False)

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
            read_line = _LINE_MODES.get(self._mode)
            event = self._line_step(read_line) if read_line else _OTHER_MODES[self._mode](self)
            if event is not None:
                self._is_dry = event is NEED_DATA
                return event

    def _line_step(self, read_line: _ReadLine) -> Event | None:
        line = self._reader.line(self._limits.line_bytes - len(self._text))
        if line is None:
            return NEED_DATA
        return self._line_too_long() if line is LINE_TOO_LONG else read_line(self, line)

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
        self._limits = AFTER_LOGIN
        self._bad_count = 0

    def selected(self) -> None:
        """A mailbox is selected now."""
        self.state = State.SELECTED

    def deselected(self) -> None:
        """No mailbox is selected any more."""
        self.state = State.AUTHENTICATED

    def enable(self, name: str) -> None:
        """Note an extension that ENABLE switched on."""
        self.enabled |= {name}

    @property
    def is_between_commands(self) -> bool:
        """Say whether nothing of a next command was read yet."""
        return self._mode is _Mode.COMMAND and not self._text

    @property
    def is_rev2(self) -> bool:
        """Say whether the client speaks IMAP4rev2 (RFC 9051)."""
        return "IMAP4REV2" in self.enabled

    @property
    def is_utf8(self) -> bool:
        """Say whether mailbox names are UTF-8 on the wire (RFC 6855, RFC 9051 §5.1)."""
        return not UTF8_MODES.isdisjoint(self.enabled)

    def starttls_done(self) -> None:
        """TLS is active from here on.

        Raises:  RemoteProtocolError: cleartext followed the STARTTLS command (RFC 3207 §6).
        """
        if self._reader.buffered:
            raise RemoteProtocolError("input behind STARTTLS")
        self.tls_active = True
        self._bad_count = 0

    def compressed(self) -> None:
        """COMPRESS is active. Tags may start again: they are never compared (trap T13)."""
        self.is_compressed = True

    def answered_bad(self) -> bytes:
        """Count a BAD that the shell said to the last command as one of ours (spec mail 4.1).

        Returns:  b"", or the last words: there were too many and the connection ends.
        """
        self._bad_count = self._bads_before + 1
        if self._bad_count < self._limits.bad_commands:
            return b""
        self._close()
        return _BYE_ERRORS

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
        """Go on with the APPEND whose AppendBegin or AppendNext was the last event.

        Returns:  what to send first: the continuation, b"" when the client does not wait for it.
        """
        self._decide()
        self._mode = _Mode.APPEND_LITERAL
        self._remaining = self._literal.size
        return CONTINUE if self._literal.is_synchronising else b""

    def refuse_append(self) -> bool:
        """Drop the APPEND whose AppendBegin or AppendNext was the last event; the shell answers.

        Returns:  False: its literal is too large to be skipped, so the connection must end.
        """
        self._decide()
        return self._drop_rest(self._literal)

    def _decide(self) -> None:
        if self._mode is not _Mode.APPEND_DECISION:
            raise LocalProtocolError("no APPEND waits for a decision")

    # --- commands ----------------------------------------------------------------------------

    def _command_line(self, line: bytes) -> Event | None:
        literal = literal_header(line)
        problem = None if self._text else self._begin(line)
        if b"\r" in line or b"\0" in line:
            problem = b"BAD Bare CR or NUL"
        if problem is not None:
            return self._reject(problem, literal)
        if literal is None:
            return self._execute(self._text + line)
        return self._continue(self._text + line[: literal.prefix_size], literal)

    def _begin(self, line: bytes) -> bytes | None:
        """Read tag and name of a command; return what forbids it here."""
        head = read_head(line)
        if head is None:
            self._tag = tag_of(line)
            return b"BAD Missing command" if self._tag != NO_TAG else b"BAD Missing or invalid tag"
        self._head = head
        self._tag = head.tag
        return problem_of(head.word, self.state, self.tls_active)

    def _continue(self, text: bytes, literal: LiteralHeader) -> Event | None:
        """Decide about an announced literal."""
        if self._head.word == b"APPEND" and text[self._head.args_at :].strip(b" "):
            return self._begin_append(text, literal)  # not the mailbox name, so the message
        problem = literal_problem(
            self._head.word, self.state, self._limits, self._literals, literal.size
        )
        if problem is not None:
            return self._reject(problem, literal)
        self._text = text + LITERAL_MARK
        self._literal = literal
        self._mode = _Mode.LITERAL
        return ContinuationWanted(CONTINUE) if literal.is_synchronising else None

    def _literal_step(self) -> Event | None:
        octets = self._reader.exactly(self._literal.size)
        if octets is None:
            return NEED_DATA
        self._literals = (*self._literals, octets)
        self._mode = _Mode.COMMAND
        return None

    def _execute(self, text: bytes) -> Event:
        head = self._head
        try:
            if head.word == b"APPEND":
                raise SyntaxProblem(b"Expected a literal")
            command = parse_command(head.word, text, head.args_at, self._literals, self.enabled)
        except SyntaxProblem as problem:
            return self._reject(b"BAD " + problem.text)
        except CommandRefused as refused:
            return self._reject(refused.response)
        self._bads_before = self._bad_count
        self._forget_command()
        if type(command) is Logout:
            self._close()
        return CommandReceived(head.tag, command)

    def _forget_command(self) -> None:
        self._bad_count = 0
        if self._text:
            self._text = b""
            self._literals = ()

    # --- APPEND ------------------------------------------------------------------------------

    def _begin_append(self, text: bytes, literal: LiteralHeader) -> Event:
        text = self._open_utf8(text)
        lexer = Lexer(text, self._head.args_at, self._literals, self.enabled)
        try:
            command = parse_append(lexer, literal.size, literal.is_synchronising)
        except SyntaxProblem as problem:
            return self._reject(b"BAD " + problem.text, literal)
        return self._offer(literal, CommandReceived(self._tag, command))

    def _offer(self, literal: LiteralHeader, event: Event) -> Event:
        """Let the shell decide about the literal of a message, unless its size decides."""
        if literal.size > self.max_append_bytes:
            return self._reject(b"NO [TOOBIG] message file too big", literal)
        self._forget_command()
        self._literal = literal
        self._mode = _Mode.APPEND_DECISION
        return event

    def _append_decision_step(self) -> Event | None:
        raise LocalProtocolError("an APPEND waits for a decision")

    def _append_literal_step(self) -> Event | None:
        if not self._remaining:
            self._mode = _Mode.APPEND_TAIL
            return None
        octets = self._reader.some(self._remaining)
        self._remaining -= len(octets)
        return AppendChunk(octets) if octets else NEED_DATA

    def _open_utf8(self, text: bytes) -> bytes:
        """Cut off what announces a literal8 with UTF-8 headers (RFC 6855 §4), if it is there."""
        self._closes_utf8 = "UTF8=ACCEPT" in self.enabled and text.upper().endswith(_OPEN_UTF8)
        return text[: 1 - len(_OPEN_UTF8)] if self._closes_utf8 else text

    def _append_tail_line(self, line: bytes) -> Event:
        if self._closes_utf8 and line.startswith(b")"):
            self._closes_utf8 = False
            line = line[1:]
        literal = literal_header(line)
        if self._closes_utf8:
            return self._reject(b"BAD Expected )", literal)
        if literal is not None and b"\r" not in line and b"\0" not in line:
            return self._next_message(line[: literal.prefix_size], literal)
        if line.strip(b" "):
            return self._reject(b"BAD Unexpected octets after the message", literal)
        self._mode = _Mode.COMMAND
        return AppendEnd(self._tag)

    def _next_message(self, text: bytes, literal: LiteralHeader) -> Event:
        text = self._open_utf8(text)
        try:
            flags, internal_date_s = parse_append_message(Lexer(text), literal.size)
        except SyntaxProblem as problem:
            return self._reject(b"BAD " + problem.text, literal)
        return self._offer(literal, AppendNext(flags, internal_date_s, literal.size))

    # --- IDLE and AUTHENTICATE ---------------------------------------------------------------

    def _idle_line(self, line: bytes) -> Event:
        if line.upper() != b"DONE":
            return self._reject(b"BAD Expected DONE", literal_header(line))
        self._mode = _Mode.COMMAND
        return IdleDone(self._tag)

    def _response_line(self, line: bytes) -> Event:
        self._mode = _Mode.COMMAND
        return ResponseLine(line)

    # --- refusals ----------------------------------------------------------------------------

    def _reject(self, response: bytes, literal: LiteralHeader | None = None) -> Rejected:
        """Refuse a command whose last line read announced `literal`, and skip what follows."""
        octets = self._tag + b" " + response + b"\r\n"
        bad_count = self._bad_count + response.startswith(b"BAD")
        if not self._drop_rest(literal):
            return Rejected(octets + _BYE_TOO_BIG, close=True)
        self._bad_count = bad_count
        if bad_count < self._limits.bad_commands:
            return Rejected(octets)
        self._close()
        return Rejected(octets + _BYE_ERRORS, close=True)

    def _drop_rest(self, literal: LiteralHeader | None) -> bool:
        """Leave the command; False: its literal is too large to be read, the machine closed."""
        self._forget_command()
        self._mode = _Mode.COMMAND
        # The client does not send a synchronising literal once it reads a tagged reply.
        if literal is None or literal.is_synchronising:
            return True
        if literal.size > self.max_append_bytes + SWALLOW_MARGIN_BYTES:
            self._close()
            return False
        self._reader.begin_skip(literal.size)
        self._mode = _Mode.SKIP
        return True

    def _line_too_long(self) -> Rejected:
        if self._mode is _Mode.COMMAND and not self._text:
            self._tag = tag_of(self._reader.peek(80))
        self._forget_command()
        self._long_lines += 1
        is_logged_in = self.state is not State.NOT_AUTHENTICATED
        octets = (self._tag if is_logged_in else NO_TAG) + b" BAD Command line too long\r\n"
        if is_logged_in and self._long_lines < 2:
            self._reader.begin_skip(0)
            self._mode = _Mode.SKIP
            return Rejected(octets)
        self._close()
        return Rejected(octets + b"* BYE Command line too long\r\n", close=True)

    def _skip_step(self) -> Event | None:
        skipped = self._reader.skip(self.max_append_bytes + SWALLOW_MARGIN_BYTES)
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


_LINE_MODES: Final[Mapping[_Mode, _ReadLine]] = {
    _Mode.COMMAND: ServerMachine._command_line,
    _Mode.APPEND_TAIL: ServerMachine._append_tail_line,
    _Mode.IDLE: ServerMachine._idle_line,
    _Mode.RESPONSE: ServerMachine._response_line,
}
_OTHER_MODES: Final[Mapping[_Mode, Callable[[ServerMachine], Event | None]]] = {
    _Mode.LITERAL: ServerMachine._literal_step,
    _Mode.APPEND_DECISION: ServerMachine._append_decision_step,
    _Mode.APPEND_LITERAL: ServerMachine._append_literal_step,
    _Mode.SKIP: ServerMachine._skip_step,
    _Mode.CLOSED: ServerMachine._closed_step,
}
