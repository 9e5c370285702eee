"""A bounded line splitter for the text protocols.

It slices the one bytes object that the stream handed over and copies only a torn line. Whoever
takes lines until there is none before giving more octets keeps at most one line in memory.
"""

from __future__ import annotations

from typing import Final

from chatmail.domain.model.errors import RemoteProtocolError

MAX_SKIPPED_OCTETS: Final = 1 << 20
"""How much of one overlong line is thrown away before the peer counts as hopeless."""


class LineTooLongError(RemoteProtocolError):
    """A line exceeds its limit. It is being skipped: the next line taken is the one after it."""


class LineBuffer:
    """Octets received and not yet taken."""

    __slots__ = ("_is_skipping", "_octets", "_position", "_scanned", "_skipped")

    def __init__(self) -> None:
        self._octets = b""
        self._position = 0
        self._scanned = 0  # no LF between _position and here
        self._skipped = 0
        self._is_skipping = False

    def __len__(self) -> int:
        return len(self._octets) - self._position

    def receive(self, octets: bytes) -> None:
        """Add what the stream gave."""
        if self._position < len(self._octets):
            self._octets = self._octets[self._position :] + octets
            self._scanned -= self._position
        else:
            self._octets = octets
            self._scanned = 0
        self._position = 0

    def take_line(self, limit: int) -> bytes | None:
        """Take one line with its LF, whatever stands before that LF.

        Args:  limit: longest line allowed, in octets with the LF.
        Returns:  None: no whole line yet.
        Raises:  LineTooLongError: once per overlong line, which is then skipped.
            RemoteProtocolError: `MAX_SKIPPED_OCTETS` of a line were skipped and it has no end.
        """
        if self._is_skipping and not self._skip():
            return None
        start = self._position
        end = self._octets.find(b"\n", self._scanned) + 1
        if end == 0:
            self._scanned = len(self._octets)
            if self._scanned - start >= limit:
                self._is_skipping = True
                raise LineTooLongError("line too long")
            return None
        if end - start > limit:
            self._is_skipping = True
            raise LineTooLongError("line too long")
        self._position = self._scanned = end
        return self._octets[start:end]

    def take(self, count: int) -> bytes:
        """Take up to `count` octets."""
        start = self._position
        self._position = self._scanned = min(start + count, len(self._octets))
        return self._octets[start : self._position]

    def take_all(self) -> bytes:
        """Take everything; no copy when nothing of the last octets given was taken before."""
        octets = self._octets[self._position :]
        self.clear()
        return octets

    def clear(self) -> None:
        """Forget everything."""
        self._octets = b""
        self._position = self._scanned = 0
        self._skipped = 0
        self._is_skipping = False

    def _skip(self) -> bool:
        """Drop octets up to the end of the overlong line; False: it is not here yet."""
        end = self._octets.find(b"\n", self._position) + 1
        stop = end or len(self._octets)
        self._skipped += stop - self._position
        self._position = self._scanned = stop
        if self._skipped > MAX_SKIPPED_OCTETS:
            raise RemoteProtocolError("line has no end")
        if end:
            self._skipped = 0
            self._is_skipping = False
        return end > 0
