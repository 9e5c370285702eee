"""The SMTP server as a state machine without I/O: greeting to QUIT.

Theory of operation. The shell gives octets to `receive_data` and asks `next_event` until it says
NEED_DATA. What needs no decision the machine answers itself (`Answered`): syntax, sequence, SASL
prompts, the small commands. Every other event is owed exactly one reply, given to `send` (for
Data also `accept_content`, for Hello also `hello`); only a positive reply moves the state, so the
machine knows what the peer was told and nothing else:

    CONNECTED --Hello--> READY --Mail--> MAIL --Rcpt--> RCPT --Data--> CONTENT --end--> READY
        |                  |--Auth--> SASL --Login--> READY
        '--StartTls--> PAUSED --tls_started--> CONNECTED

Whatever the table lacks is a bad sequence. A 421 closes from any state. Limits come before
grammar, and errors are counted: 20 of syntax or sequence, 10 failed logins, 100 idle commands
without a message end the session.
Invariant: for any octets, cut anywhere, the events are the same and no exception leaves.
Source:  RFC 5321 §4; RFC 3207, 4954, 2920; spec mail 6.1 to 6.4.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from chatmail.domain.model.account import Credentials
from chatmail.domain.model.errors import LocalProtocolError, RemoteProtocolError
from chatmail.domain.wire import sasl
from chatmail.domain.wire.line_buffer import LineBuffer, LineTooLongError
from chatmail.domain.wire.smtp import replies
from chatmail.domain.wire.smtp.commands import (
    Auth,
    Command,
    CommandError,
    Data,
    Hello,
    Help,
    Mail,
    Quit,
    Rcpt,
    Reset,
    StartTls,
    Verify,
    parse_command,
)
from chatmail.domain.wire.smtp.data import ContentFault, DataReader
from chatmail.domain.wire.smtp.events import (
    CLOSED,
    NEED_DATA,
    PAUSED,
    Answered,
    ContentChunk,
    ContentEnd,
    Event,
    Login,
)
from chatmail.domain.wire.smtp.replies import Reply
from chatmail.domain.wire.smtp.sequence import (
    NEXT,
    Role,
    State,
    refusal,
    refusal_of_malformed,
)

MAX_COMMAND_OCTETS: Final = 2048
MAX_ERRORS: Final = 20
MAX_FAILED_LOGINS: Final = 10
MAX_IDLE_COMMANDS: Final = 100


class SmtpServer:
    """One connection. `is_tls`: it is encrypted from the start. `needs_tls`: MAIL waits for it."""

    def __init__(self, role: Role, *, is_tls: bool, needs_tls: bool = True) -> None:
        self._role = role
        self._is_tls = is_tls
        self._needs_tls = needs_tls
        self._is_logged_in = False
        self._state = State.CONNECTED
        self._buffer = LineBuffer()
        self._ready: deque[Event] = deque()
        self._owed: type | None = None
        self._exchange: sasl.Exchange = sasl.PlainExchange()
        self._reader = DataReader(0)
        self._is_extended = False
        self._errors = self._failed_logins = self._idle_commands = 0

    @property
    def state(self) -> State:
        """Where the dialogue stands."""
        return self._state

    def receive_data(self, octets: bytes) -> None:
        """Take octets of the stream.

        Cleartext that follows STARTTLS closes the session (CVE-2011-0411, RFC 3207 §6).
        """
        if self._state is State.PAUSED:
            self._close()
        elif self._state is not State.CLOSED:
            self._buffer.receive(octets)

    def receive_eof(self) -> None:
        """The peer closed its side: what is unfinished never happened."""
        self._close()

    def next_event(self) -> Event:
        """Return what happens next.

        Raises:  LocalProtocolError: the last event still waits for its reply.
        """
        if self._ready:
            return self._ready.popleft()
        if self._owed is not None:
            raise LocalProtocolError("a reply is owed")
        match self._state:
            case State.CLOSED:
                return CLOSED
            case State.PAUSED:
                return PAUSED
            case State.CONTENT:
                return self._read_content()
            case State.SASL:
                return self._read_line(sasl.MAX_RESPONSE_OCTETS, self._respond)
            case _:
                return self._read_line(MAX_COMMAND_OCTETS, self._command)

    def send(self, reply: Reply) -> bytes:
        """Answer the last event and return the octets to send.

        Raises:  LocalProtocolError: no reply is owed, or content is accepted by a plain reply.
        """
        owed, self._owed = self._owed, None
        if reply.code == 421:
            self._close()
            return reply.octets
        if owed is None:
            raise LocalProtocolError("no reply is owed")
        if owed is Login:
            return self._finish_login(reply)
        if owed is ContentEnd:
            self._finish_content()
        elif reply.code < 400:
            if owed is Data:
                raise LocalProtocolError("content is accepted by accept_content")
            self._state = NEXT[self._state, owed]
            if owed is StartTls and self._buffer:
                # Whatever was sent in clear behind STARTTLS was not sent by the TLS peer.
                self._close()
        return reply.octets

    def hello(self, hostname: str, max_bytes: int) -> bytes:
        """Answer EHLO or HELO; `max_bytes` is announced as SIZE."""
        is_extended = self._owed is Hello and self._is_extended
        if not is_extended:
            return self.send(replies.helo(hostname))
        return self.send(
            replies.capabilities(
                hostname,
                max_bytes,
                offers_tls=not self._is_tls,
                offers_login=self._is_tls and self._role is Role.SUBMISSION,
            )
        )

    def accept_content(self, max_bytes: int) -> bytes:
        """Answer DATA with 354; content above `max_bytes` is read but not handed out."""
        if self._owed is not Data:
            raise LocalProtocolError("DATA was not asked")
        self._owed = None
        self._state = State.CONTENT
        self._reader = DataReader(max_bytes)
        return replies.START_CONTENT.octets

    def tls_started(self) -> None:
        """Forget everything said in clear; there is no second greeting (spec mail 1.5)."""
        if self._state is not State.PAUSED:
            raise LocalProtocolError("STARTTLS was not granted")
        self._is_tls = True
        self._state = State.CONNECTED

    # --- input --------------------------------------------------------------------------------

    def _read_line(self, limit: int, handle: Callable[[bytes], Event]) -> Event:
        try:
            line = self._buffer.take_line(limit)
        except LineTooLongError:
            if self._state is State.SASL:
                self._state = State.READY
                return self._error(replies.RESPONSE_TOO_LONG)
            return self._error(replies.LINE_TOO_LONG)
        except RemoteProtocolError:
            return self._answer_and_close(replies.TOO_MANY_ERRORS.octets)
        if line is None:
            return NEED_DATA
        command = line[:-2]
        if line[-2:] != b"\r\n" or b"\r" in command or b"\0" in command:
            return self._answer_and_close(replies.BARE_LINE_END.octets)
        return handle(command)

    def _read_content(self) -> Event:
        if not self._buffer:
            return NEED_DATA
        chunks, rest = self._reader.feed(self._buffer.take_all())
        self._ready.extend(map(ContentChunk, chunks))
        if rest is not None:
            self._buffer.receive(rest)
            self._owed = ContentEnd
            self._ready.append(ContentEnd(self._reader.size, self._reader.fault))
        return self._ready.popleft() if self._ready else NEED_DATA

    def _command(self, line: bytes) -> Event:
        try:
            command = parse_command(line)
        except CommandError as error:
            return self._misparsed(line, error)
        refused = refusal(
            command,
            self._state,
            self._role,
            is_tls=self._is_tls,
            is_logged_in=self._is_logged_in,
            needs_tls=self._needs_tls,
        )
        if refused is not None:
            return self._error(refused)
        match command:
            case Mail() | Rcpt() | Data() | StartTls():
                self._owed = type(command)
                return command
            case Hello():
                self._owed = Hello
                self._is_extended = command.is_extended
                return command
            case Auth():
                return self._begin_login(command)
            case _:
                return self._small_command(command)

    def _misparsed(self, line: bytes, error: CommandError) -> Event:
        if error.is_foreign:
            return self._answer_and_close(error.reply.octets)
        early = refusal_of_malformed(
            line, self._role, is_tls=self._is_tls, needs_tls=self._needs_tls
        )
        return self._error(early or error.reply)

    # --- what the machine answers itself ------------------------------------------------------

    def _small_command(self, command: Command) -> Event:
        match command:
            case Quit():
                return self._answer_and_close(replies.BYE.octets)
            case Reset():
                self._leave_transaction()
                return self._idle(replies.OK)
            case Verify():
                return self._idle(Reply(252, "2.0.0", command.argument))
            case Help():
                return self._idle(replies.HELP)
            case _:  # NOOP
                return self._idle(replies.OK)

    def _leave_transaction(self) -> None:
        if self._state in (State.MAIL, State.RCPT):
            self._state = State.READY

    def _idle(self, reply: Reply) -> Event:
        self._idle_commands += 1
        if self._idle_commands >= MAX_IDLE_COMMANDS:
            return self._answer_and_close(reply.octets + replies.TOO_MANY_ERRORS.octets)
        return Answered(reply.octets)

    def _error(self, reply: Reply) -> Event:
        # What follows a refused recipient is no mistake of the client.
        if reply is not replies.NO_RECIPIENTS:
            self._errors += 1
        if self._errors >= MAX_ERRORS:
            return self._answer_and_close(reply.octets + replies.TOO_MANY_ERRORS.octets)
        return Answered(reply.octets)

    def _answer_and_close(self, octets: bytes) -> Event:
        self._close()
        return Answered(octets)

    def _close(self) -> None:
        self._state = State.CLOSED
        self._buffer.clear()
        self._ready.clear()

    # --- login --------------------------------------------------------------------------------

    def _begin_login(self, command: Auth) -> Event:
        exchange = sasl.exchange(command.mechanism)
        if exchange is None:
            return self._error(replies.UNKNOWN_MECHANISM)
        initial = None
        if command.initial is not None:
            try:
                initial = sasl.decode_initial(command.initial)
            except sasl.SaslEncodingError:
                return self._error(replies.BAD_BASE64)
        self._exchange = exchange
        self._state = NEXT[self._state, Auth]
        return self._step(exchange.begin(initial))

    def _respond(self, line: bytes) -> Event:
        if line == b"*":
            self._state = State.READY
            return self._error(replies.LOGIN_CANCELLED)
        try:
            response = sasl.decode_response(line)
        except sasl.SaslEncodingError:
            self._state = State.READY
            return self._error(replies.BAD_BASE64)
        return self._step(self._exchange.respond(response))

    def _step(self, step: sasl.Step) -> Event:
        if isinstance(step, sasl.Challenge):
            return Answered(replies.continuation(step.encoded))
        self._owed = Login
        return Login(step if isinstance(step, Credentials) else None)

    def _finish_login(self, reply: Reply) -> bytes:
        self._state = NEXT[self._state, Login]
        if reply.is_positive:
            self._is_logged_in = True
            return reply.octets
        self._failed_logins += 1
        if self._failed_logins >= MAX_FAILED_LOGINS:
            self._close()
            return reply.octets + replies.TOO_MANY_FAILURES.octets
        return reply.octets

    # --- content ------------------------------------------------------------------------------

    def _finish_content(self) -> None:
        fault = self._reader.fault
        self._idle_commands = 0
        if fault in (ContentFault.BAD_LINE, ContentFault.ENDLESS):
            self._close()
        else:
            self._state = NEXT[self._state, ContentEnd]
