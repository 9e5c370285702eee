"""Replies of an SMTP server: octets in, `PeerReply` out, bounded in every direction.

Bare LF is taken for a line end, as many servers' clients do; a reply whose lines have different
codes has the code of its last.
Source:  RFC 5321 §4.2; spec federation-web.md A6.5.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

from chatmail.domain.formats.reply_line import reply_line
from chatmail.domain.model.errors import RemoteProtocolError
from chatmail.domain.wire.line_buffer import LineBuffer

MAX_LINE_OCTETS: Final = 4096
MAX_LINES: Final = 200
MAX_REPLY_OCTETS: Final = 65536
"""Two hundred lines of 4 KiB would be a weight; what a server has to say in a reply is short."""

_LINE: Final = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?\Z", re.DOTALL)
_ENHANCED: Final = re.compile(r"[245]\.(\d{1,3}\.\d{1,3})(?![\d.])")


@attrs.frozen
class PeerReply:
    """One reply; `lines` are its texts without the codes, as Latin-1."""

    code: int
    lines: tuple[str, ...]

    @property
    def line(self) -> str:
        """The reply on one clean line, `550 5.1.1 text`."""
        return reply_line(self.code, self.lines)

    @property
    def subject(self) -> str:
        """Subject and detail of the enhanced code (`5.3` of `4.5.3`); "": there is none."""
        match = _ENHANCED.match(self.lines[0])
        return match[1] if match else ""

    @property
    def kind(self) -> int:
        """The first digit: 2 done, 3 go on, 4 not now, 5 no."""
        return self.code // 100


class ReplyReader:
    """Octets received and not yet understood."""

    __slots__ = ("_buffer", "_lines", "_octets")

    def __init__(self) -> None:
        self._buffer = LineBuffer()
        self._lines: list[str] = []
        self._octets = 0

    def receive(self, octets: bytes) -> None:
        """Add what the stream gave."""
        self._buffer.receive(octets)

    def clear(self) -> None:
        """Forget everything."""
        self._buffer.clear()
        self._lines = []
        self._octets = 0

    def next_reply(self) -> PeerReply | None:
        """Take one whole reply; None: it is not here yet.

        Raises:  RemoteProtocolError: this is no SMTP, or too much of it.
        """
        while (line := self._buffer.take_line(MAX_LINE_OCTETS)) is not None:
            match = _LINE.match(line.rstrip(b"\r\n"))
            if match is None:
                raise RemoteProtocolError("not an SMTP reply")
            code, separator, text = match.groups()
            self._octets += len(line)
            self._lines.append((text or b"").decode("latin-1"))
            if len(self._lines) > MAX_LINES or self._octets > MAX_REPLY_OCTETS:
                raise RemoteProtocolError("reply has no end")
            if separator != b"-":
                reply = PeerReply(int(code), tuple(self._lines))
                self._lines, self._octets = [], 0
                return reply
        return None
