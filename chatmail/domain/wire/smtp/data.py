"""The content of DATA: where it ends, its dots, and what may not be in it.

The only end of data is CRLF . CRLF, the only line end CRLF: anything an upstream might take for
another end is content, makes the message refused, and never starts a command (SMTP smuggling,
CVE-2023-51764 to 51766). Content is otherwise byte-exact.

Theory of operation: octets gather, uncopied, in a window of at most 64 KiB of the stream. When
the window holds the end of data, or is full, it becomes one chunk. A full window keeps back up to
four octets that could begin the end of data, so a chunk never stops inside CRLF . and each chunk
can be judged and unstuffed by itself. Windows depend on stream positions alone, so the chunks are
the same however the stream was cut; a message of up to 64 KiB is one chunk. The end is looked for
in new octets plus the four before them; all passes are bytes methods.
Source:  RFC 5321 §4.5.2; spec mail 6.1.
"""

from __future__ import annotations

import enum
from typing import Final

from chatmail.domain.formats.line_ends import bare_line_ends

CHUNK_OCTETS: Final = 65536

_END: Final = b"\r\n.\r\n"
_END_PREFIXES: Final = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r")
_MAX_PIECES: Final = 64


class ContentFault(enum.Enum):
    """Why the content cannot be accepted whatever it says."""

    BAD_LINE = "bad_line"  # bare CR, bare LF or NUL
    TOO_BIG = "too_big"  # above the limit, but read to its end
    ENDLESS = "endless"  # above twice the limit: the end was not waited for


class DataReader:
    """Reads one content. `size` is the number of octets without stuffed dots so far."""

    __slots__ = ("_held", "_is_first", "_max_bytes", "_pieces", "_raw", "_tail", "fault", "size")

    def __init__(self, max_bytes: int) -> None:
        self.size = 0
        self.fault: ContentFault | None = None
        self._max_bytes = max_bytes
        self._raw = 0  # octets received, stuffing included
        self._pieces: list[bytes] = []  # the window, in order
        self._held = 0  # octets in the window
        self._tail = b"\r\n"  # the last octets before what comes next; DATA itself ended a line
        self._is_first = True

    def feed(self, octets: bytes) -> tuple[list[bytes], bytes | None]:
        """Take octets of the stream.

        Returns:  chunks of content, at most 64 KiB each, in order, none once a fault was seen;
            and what follows the end of data, None as long as that is not here. `ENDLESS`: what
            follows is empty.
        """
        chunks: list[bytes] = []
        position = 0
        while True:
            piece = octets[position : position + CHUNK_OCTETS - self._held]
            end = self._find_end(piece)
            if end is not None:
                self._take(piece[:end])
                self._emit(self._window()[:-3], chunks)
                return chunks, octets[position + end :]
            self._take(piece)
            self._tail = (self._tail + piece[-4:])[-4:]
            if self._held < CHUNK_OCTETS:
                return chunks, None
            self._cut(chunks)
            if self._raw > 2 * self._max_bytes:
                self.fault = ContentFault.ENDLESS
                return chunks, b""
            position += len(piece)

    def _find_end(self, piece: bytes) -> int | None:
        """Return how much of `piece` belongs to this content with its end mark, None: no end."""
        seam = self._tail + piece[:4]
        found = seam.find(_END)
        if found >= 0:
            return found + 5 - len(self._tail)
        dot = piece.find(b".")  # as above; the CRLF before it may be in this piece
        found = piece.find(_END, max(0, dot - 2)) if dot >= 0 else -1
        return found + 5 if found >= 0 else None

    def _take(self, piece: bytes) -> None:
        self._raw += len(piece)
        self._held += len(piece)
        self._pieces.append(piece)
        if len(self._pieces) > _MAX_PIECES:
            # A drip of tiny reads must not cost an object each.
            self._pieces = [b"".join(self._pieces)]

    def _window(self) -> bytes:
        window = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = []
        self._held = 0
        return window

    def _cut(self, chunks: list[bytes]) -> None:
        """Emit the full window but for what could begin the end of data."""
        window = self._window()
        for prefix in _END_PREFIXES:
            if window.endswith(prefix):
                self._pieces = [prefix]
                self._held = len(prefix)
                window = window[: -len(prefix)]
                break
        self._emit(window, chunks)

    def _emit(self, raw: bytes, chunks: list[bytes]) -> None:
        if self.fault is not ContentFault.BAD_LINE and (bare_line_ends(raw) or b"\0" in raw):
            self.fault = ContentFault.BAD_LINE
        if self._is_first and raw.startswith(b"."):
            raw = raw[1:]
        self._is_first = False
        # Ciphertext has no dots: to know that costs a twentieth of looking for line starts.
        content = raw.replace(b"\r\n.", b"\r\n") if b"." in raw else raw
        self.size += len(content)
        if self.size > self._max_bytes and self.fault is None:
            self.fault = ContentFault.TOO_BIG
        if content and self.fault is None:
            chunks.append(content)
