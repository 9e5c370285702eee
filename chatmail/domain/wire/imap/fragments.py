"""First stage of reading IMAP: lines and literals out of octets, limits before any grammar.

Invariant: what is announced as a literal is never read as a line, accepted or not. The reader
holds at most what was handed to it; a line longer than its limit is reported before it is whole.
Source:  RFC 3501 §4.3, RFC 7888; spec mail 4.1.
"""

from __future__ import annotations

import enum
from typing import Final, Literal

import attrs

CHUNK_BYTES: Final = 64 * 1024
# More digits than any number of the grammar has: such a size is never read, only refused.
_HUGE: Final = 2**64
_MAX_DIGITS: Final = 20
# Enough of a skipped line to see `{n+}` at its end.
_TAIL_BYTES: Final = 40


class LineTooLong(enum.Enum):
    """A line exceeds its limit; nothing of it was consumed."""

    LINE_TOO_LONG = "line_too_long"


LINE_TOO_LONG: Final = LineTooLong.LINE_TOO_LONG


class Skip(enum.Enum):
    """How far the rest of a refused command was thrown away."""

    DONE = "done"
    NEED_DATA = "need_data"
    HOPELESS = "hopeless"  # a literal larger than anything we are willing to read


@attrs.frozen
class LiteralHeader:
    """`{n}` or `{n+}` at the end of a line; `prefix_size` octets stand before it."""

    size: int
    is_synchronising: bool
    prefix_size: int


def literal_header(line: bytes) -> LiteralHeader | None:
    """Return the literal that a line announces at its end, if it does.

    Args:  line: without its line end.
    """
    if not line.endswith(b"}"):
        return None
    start = line.rfind(b"{")
    is_synchronising = not line.endswith(b"+}")
    digits = line[start + 1 : -1 if is_synchronising else -2]
    if start < 0 or not digits.isdigit():
        return None
    size = int(digits) if len(digits) <= _MAX_DIGITS else _HUGE
    return LiteralHeader(size, is_synchronising, start)


class FragmentReader:
    """The input buffer of one connection, read by lines or by counted octets."""

    __slots__ = ("_at", "_buffer", "_searched", "_skip_octets", "_skip_tail")

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
        self._searched = 0  # no line end lies between _at and here
        self._skip_octets = 0
        self._skip_tail = b""

    def receive(self, octets: bytes) -> None:
        """Add input. A fully consumed buffer is replaced, not copied."""
        if self._at == len(self._buffer):
            self._buffer = octets
            self._searched = 0
        else:
            self._buffer = self._buffer[self._at :] + octets
            self._searched -= self._at
        self._at = 0

    @property
    def buffered(self) -> int:
        """Octets not yet consumed."""
        return len(self._buffer) - self._at

    def clear(self) -> None:
        """Forget all input."""
        self._buffer = b""
        self._at = self._searched = 0

    def peek(self, size: int) -> bytes:
        """Return the next octets without consuming them."""
        return self._buffer[self._at : self._at + size]

    def line(self, limit: int) -> bytes | Literal[LineTooLong.LINE_TOO_LONG] | None:
        """Return the next line without its CRLF or LF; None: it is not complete yet.

        Args:  limit: octets before the LF.
        """
        end = self._buffer.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._buffer)
            return LINE_TOO_LONG if self.buffered > limit else None
        if end - self._at > limit:
            self._searched = self._at
            return LINE_TOO_LONG
        # A bare LF ends a command too: the relay's own tests send it (spec mail 4.1).
        line = self._buffer[self._at : end]
        self._consume(end + 1)
        return line[:-1] if line.endswith(b"\r") else line

    def exactly(self, size: int) -> bytes | None:
        """Return `size` octets, None until they are all there."""
        if self.buffered < size:
            return None
        octets = self._buffer[self._at : self._at + size]
        self._consume(self._at + size)
        return octets

    def some(self, limit: int) -> bytes:
        """Return what is there, at most `limit` octets and at most one chunk."""
        octets = self._buffer[self._at : self._at + min(limit, CHUNK_BYTES)]
        self._consume(self._at + len(octets))
        return octets

    def begin_skip(self, octets: int) -> None:
        """Prepare to throw away `octets` of a literal and the lines that continue its command."""
        self._skip_octets = octets
        self._skip_tail = b""

    def skip(self, largest: int) -> Skip:
        """Throw away input until the refused command has ended.

        A synchronising literal ends it: the client reads our refusal instead of a continuation.

        Args:  largest: size of the largest literal that is worth reading to stay in step.
        """
        while True:
            if self._skip_octets:
                self._skip_octets -= self._drop(self._skip_octets)
            if self._skip_octets or not self._skip_line():
                return Skip.NEED_DATA
            tail, self._skip_tail = self._skip_tail, b""
            header = literal_header(tail)
            if header is None:
                return Skip.HOPELESS if _hides_a_number(tail) else Skip.DONE
            if header.is_synchronising:
                return Skip.DONE
            if header.size > largest:
                return Skip.HOPELESS
            self._skip_octets = header.size

    def _skip_line(self) -> bool:
        """Drop up to a line end, keeping the last octets before it; False: no line end yet."""
        end = self._buffer.find(b"\n", self._at)
        stop = len(self._buffer) if end < 0 else end
        recent = self._buffer[max(self._at, stop - _TAIL_BYTES) : stop]
        self._skip_tail = (self._skip_tail + recent)[-_TAIL_BYTES:]
        self._consume(stop if end < 0 else end + 1)
        if end < 0:
            return False
        self._skip_tail = self._skip_tail.removesuffix(b"\r")
        return True

    def _drop(self, size: int) -> int:
        dropped = min(size, self.buffered)
        self._consume(self._at + dropped)
        return dropped

    def _consume(self, to: int) -> None:
        if to == len(self._buffer):
            self.clear()
        else:
            self._at = self._searched = to


def _hides_a_number(tail: bytes) -> bool:
    """Say whether the kept tail is the end of `{000…n+}` whose brace was already dropped."""
    return len(tail) >= _TAIL_BYTES - 1 and tail.endswith(b"+}") and tail[:-2].isdigit()
