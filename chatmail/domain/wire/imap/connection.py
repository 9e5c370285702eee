"""What an IMAP connection is between two lines: its buffers, its state, its errors.

Whatever is refused is skipped to its end, with every non-synchronising literal it announces, so
octets of a literal are never read as commands. Too many errors close the machine.
Source:  RFC 3501 §3; RFC 7888; spec mail 4.1.
"""

from __future__ import annotations

import enum
from typing import Final

import attrs

from chatmail.domain.model.errors import RemoteProtocolError
from chatmail.domain.wire.imap.events import NEED_DATA, Event, Rejected
from chatmail.domain.wire.imap.fragments import FragmentReader, LiteralHeader, Skip
from chatmail.domain.wire.imap.lexer import UTF8_MODES
from chatmail.domain.wire.imap.states import (
    AFTER_LOGIN,
    BEFORE_LOGIN,
    NO_TAG,
    Head,
    Limits,
    State,
    tag_of,
)

# A refused `{n+}` is read and dropped up to this much above the largest message.
SWALLOW_MARGIN_BYTES: Final = 64 * 1024

_NO_HEAD: Final = Head(NO_TAG, b"", 0)
_BYE_ERRORS: Final = b"* BYE Too many errors\r\n"
_BYE_TOO_BIG: Final = b"* BYE [TOOBIG] Literal is too large\r\n"


Mode = enum.Enum(
    "Mode",
    "COMMAND LITERAL APPEND_DECISION APPEND_LITERAL APPEND_TAIL SKIP IDLE RESPONSE CLOSED",
)


@attrs.define(eq=False, repr=False, kw_only=True)
class Connection:
    """What was read and not yet executed, and what the shell has told.

    `max_append_bytes` may change at any time; an APPEND that has begun keeps what it was told.
    """

    tls_active: bool
    max_append_bytes: int
    state: State = attrs.field(default=State.NOT_AUTHENTICATED, init=False)
    is_compressed: bool = attrs.field(default=False, init=False)
    enabled: frozenset[str] = attrs.field(default=frozenset(), init=False)
    _reader: FragmentReader = attrs.field(factory=FragmentReader, init=False)
    _mode: Mode = attrs.field(default=Mode.COMMAND, init=False)
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

    # --- input -------------------------------------------------------------------------------

    def receive_data(self, octets: bytes) -> None:
        """Add what the peer sent. The shell reads only while `wants_input`."""
        if self._mode is not Mode.CLOSED:
            self._reader.receive(octets)
            self._is_dry = False

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
        return self._mode is Mode.COMMAND and not self._text

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

    # --- commands that end -------------------------------------------------------------------

    def _forget_command(self) -> None:
        self._bad_count = 0
        if self._text:
            self._text = b""
            self._literals = ()

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
        self._mode = Mode.COMMAND
        # The client does not send a synchronising literal once it reads a tagged reply.
        if literal is None or literal.is_synchronising:
            return True
        if literal.size > self.max_append_bytes + SWALLOW_MARGIN_BYTES:
            self._close()
            return False
        self._reader.begin_skip(literal.size)
        self._mode = Mode.SKIP
        return True

    def _line_too_long(self) -> Rejected:
        if self._mode is Mode.COMMAND and not self._text:
            self._tag = tag_of(self._reader.peek(80))
        self._forget_command()
        self._long_lines += 1
        is_logged_in = self.state is not State.NOT_AUTHENTICATED
        octets = (self._tag if is_logged_in else NO_TAG) + b" BAD Command line too long\r\n"
        if is_logged_in and self._long_lines < 2:
            self._reader.begin_skip(0)
            self._mode = Mode.SKIP
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
        self._mode = Mode.COMMAND
        return None

    def _close(self) -> None:
        self.state = State.LOGOUT
        self._mode = Mode.CLOSED
        self._reader.clear()
