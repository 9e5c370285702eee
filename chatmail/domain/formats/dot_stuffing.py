"""Content on its way into SMTP's DATA: dots doubled, the end marked.

Content has CRLF line ends and nothing else that could be one; that was made sure when it came in.
Source:  RFC 5321 §4.5.2; federation-web.md A6.3.
"""

from __future__ import annotations


class DotStuffer:
    """Stuffs one content that comes in pieces, cut anywhere."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b"\r\n"  # the last two octets so far; DATA itself ended a line

    def feed(self, piece: bytes) -> bytes:
        """Return the piece with the first dot of every line doubled."""
        if not piece:
            return b""
        stuffed = piece.replace(b"\r\n.", b"\r\n..")
        if self._tail == b"\r\n" and piece[:1] == b".":
            stuffed = b"." + stuffed
        elif self._tail[-1:] == b"\r" and piece[:2] == b"\n.":
            stuffed = b"\n." + stuffed[1:]
        self._tail = (self._tail + piece)[-2:] if len(piece) < 2 else piece[-2:]
        return stuffed

    def finish(self) -> bytes:
        """Return the end of data; it completes the last line where that is torn."""
        return b".\r\n" if self._tail == b"\r\n" else b"\r\n.\r\n"
