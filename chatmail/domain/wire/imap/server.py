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

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import attrs

from chatmail.domain.model.errors import LocalProtocolError
from chatmail.domain.wire.imap.commands import Logout
from chatmail.domain.wire.imap.connection import Connection, Mode
from chatmail.domain.wire.imap.events import (
    NEED_DATA,
    AppendChunk,
    AppendEnd,
    AppendNext,
    CommandReceived,
    ContinuationWanted,
    Event,
    IdleDone,
    ResponseLine,
)
from chatmail.domain.wire.imap.fragments import (
    LINE_TOO_LONG,
    LiteralHeader,
    literal_header,
)
from chatmail.domain.wire.imap.grammar import parse_command
from chatmail.domain.wire.imap.grammar_store import parse_append, parse_append_message
from chatmail.domain.wire.imap.lexer import (
    LITERAL_MARK,
    CommandRefused,
    Lexer,
    SyntaxProblem,
)
from chatmail.domain.wire.imap.states import (
    NO_TAG,
    literal_problem,
    problem_of,
    read_head,
    tag_of,
)
from chatmail.domain.wire.imap.states import State as State  # the shell needs machine and state

CONTINUE: Final = b"+ OK\r\n"

_OPEN_UTF8: Final = b" UTF8 (~"
_ReadLine: TypeAlias = "Callable[[ServerMachine, bytes], Event | None]"


@attrs.define(eq=False, repr=False, kw_only=True)
class ServerMachine(Connection):
    """One IMAP connection as the server reads it.

    Total: whatever the peer sends, cut anywhere, comes out as events; the cuts change nothing but
    where a streamed literal is split. Memory: what was handed to `receive_data`, one command.
    """

    # --- input and events --------------------------------------------------------------------

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

    # --- what the shell tells ----------------------------------------------------------------

    def begin_idle(self, tag: bytes) -> None:
        """Expect DONE: the next event is IdleDone, or Rejected and IDLE is over as well."""
        self._enter(Mode.IDLE)
        self._tag = tag

    def begin_response(self) -> None:
        """Expect one line that answers our `+` in AUTHENTICATE."""
        self._enter(Mode.RESPONSE)

    def _enter(self, mode: Mode) -> None:
        if self._mode is not Mode.COMMAND or self._text:
            raise LocalProtocolError(f"{mode.name} begins between commands only")
        self._mode = mode

    def accept_append(self) -> bytes:
        """Go on with the APPEND whose AppendBegin or AppendNext was the last event.

        Returns:  what to send first: the continuation, b"" when the client does not wait for it.
        """
        self._decide()
        self._mode = Mode.APPEND_LITERAL
        self._remaining = self._literal.size
        return CONTINUE if self._literal.is_synchronising else b""

    def refuse_append(self) -> bool:
        """Drop the APPEND whose AppendBegin or AppendNext was the last event; the shell answers.

        Returns:  False: its literal is too large to be skipped, so the connection must end.
        """
        self._decide()
        return self._drop_rest(self._literal)

    def _decide(self) -> None:
        if self._mode is not Mode.APPEND_DECISION:
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
        self._mode = Mode.LITERAL
        return ContinuationWanted(CONTINUE) if literal.is_synchronising else None

    def _literal_step(self) -> Event | None:
        octets = self._reader.exactly(self._literal.size)
        if octets is None:
            return NEED_DATA
        self._literals = (*self._literals, octets)
        self._mode = Mode.COMMAND
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
        self._mode = Mode.APPEND_DECISION
        return event

    def _append_decision_step(self) -> Event | None:
        raise LocalProtocolError("an APPEND waits for a decision")

    def _append_literal_step(self) -> Event | None:
        if not self._remaining:
            self._mode = Mode.APPEND_TAIL
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
        self._mode = Mode.COMMAND
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
        self._mode = Mode.COMMAND
        return IdleDone(self._tag)

    def _response_line(self, line: bytes) -> Event:
        self._mode = Mode.COMMAND
        return ResponseLine(line)

    def _closed_step(self) -> Event | None:
        return NEED_DATA


_LINE_MODES: Final[Mapping[Mode, _ReadLine]] = {
    Mode.COMMAND: ServerMachine._command_line,
    Mode.APPEND_TAIL: ServerMachine._append_tail_line,
    Mode.IDLE: ServerMachine._idle_line,
    Mode.RESPONSE: ServerMachine._response_line,
}
_OTHER_MODES: Final[Mapping[Mode, Callable[[ServerMachine], Event | None]]] = {
    Mode.LITERAL: ServerMachine._literal_step,
    Mode.APPEND_DECISION: ServerMachine._append_decision_step,
    Mode.APPEND_LITERAL: ServerMachine._append_literal_step,
    Mode.SKIP: ServerMachine._skip_step,
    Mode.CLOSED: ServerMachine._closed_step,
}
