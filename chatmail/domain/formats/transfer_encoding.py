"""Content-Transfer-Encodings, decoded strictly and piece by piece (rule M-14).

A decoder takes octets cut anywhere, keeps at most one line, and remembers that it failed. The lines
of base64 are checked in bulk: no loop per line or octet.
"""

from __future__ import annotations

import binascii
import re
from typing import Final, Protocol

from chatmail.domain.formats.rfc5322 import HeaderBlock

MAX_LINE_OCTETS: Final = 998

# Octets that may stand in quoted-printable text as they are; `=` only as =XX or before a line end.
_QP_TEXT: Final = re.compile(rb"(?:[\t -<>-~]++|=[0-9A-Fa-f]{2}|=?\r\n)*+\Z")
_QP_TRAILING_SPACE: Final = re.compile(rb"(?<![\t ])[\t ]++(?=\r\n|\Z)")


class Decoder(Protocol):
    """One transfer encoding being undone."""

    failed: bool

    def feed(self, octets: bytes) -> bytes:
        """Return what these octets decode to, together with what was held back before."""

    def finish(self) -> bytes:
        """Return the rest; `failed` is final after this."""


def encoding_of(block: HeaderBlock) -> bytes:
    """Return the Content-Transfer-Encoding of a block in lower case; 7bit when there is none.

    An empty one is no encoding at all.
    """
    value = block.first(b"content-transfer-encoding")
    return b"7bit" if value is None else value.lower()


def decoder_for(encoding: bytes) -> Decoder | None:
    """Return a decoder for a lower-case encoding name, None if M-13 does not know it."""
    if encoding in (b"7bit", b"8bit"):
        return Identity()
    if encoding == b"base64":
        return Base64()
    if encoding == b"quoted-printable":
        return QuotedPrintable()
    return None


def decode(octets: bytes, encoding: bytes) -> bytes | None:
    """Decode a whole small body; None if the encoding is unknown or violated."""
    decoder = decoder_for(encoding)
    if decoder is None:
        return None
    decoded = decoder.feed(octets) + decoder.finish()
    return None if decoder.failed else decoded


class Identity:
    """7bit and 8bit: nothing to undo."""

    failed = False

    def feed(self, octets: bytes) -> bytes:
        """Return the octets."""
        return octets

    def finish(self) -> bytes:
        """Return nothing: nothing was held back."""
        return b""


class Base64:
    """base64: the alphabet, CRLF between lines of at most 998 octets, padding at the very end."""

    def __init__(self) -> None:
        self.failed = False
        self._line_octets = 0  # length of the line that is still open
        self._open = b""  # a CR at the cut, or digits of an unfinished group of four
        self._padded = False

    def feed(self, octets: bytes) -> bytes:
        """Decode complete groups of four digits."""
        if self.failed:
            return b""
        if self._open.endswith(b"\r"):
            octets, self._open = b"\r" + octets, self._open[:-1]
        held = b"\r" if octets.endswith(b"\r") else b""
        lines = octets[: len(octets) - len(held)].split(b"\r\n")
        if not self._lengths_fit(lines):
            return self._fail()
        digits = self._open + b"".join(lines)
        whole = len(digits) & ~3
        self._open = digits[whole:] + held
        return self._groups(digits[:whole])

    def finish(self) -> bytes:
        """Demand that the last group was complete."""
        if self._open:
            self.failed = True
        return b""

    def _lengths_fit(self, lines: list[bytes]) -> bool:
        first = self._line_octets + len(lines[0])
        self._line_octets = len(lines[-1]) if len(lines) > 1 else first
        return max(first, *map(len, lines)) <= MAX_LINE_OCTETS

    def _groups(self, digits: bytes) -> bytes:
        if not digits:
            return b""
        if self._padded:
            return self._fail()
        self._padded = digits.endswith(b"=")
        decoded = decode_groups(digits)
        return self._fail() if decoded is None else decoded

    def _fail(self) -> bytes:
        self.failed = True
        return b""


def decode_groups(digits: bytes) -> bytes | None:
    """Decode complete groups of four base64 digits; padding may end them.

    Returns:  None if any octet is out of place.
    """
    padding = digits.find(b"=")
    if padding >= 0 and digits[padding:] not in (b"=", b"=="):
        return None  # binascii lets `ABCD====` pass, even in strict mode (Python 3.11)
    try:
        return binascii.a2b_base64(digits, strict_mode=True)
    except binascii.Error:
        return None


class QuotedPrintable:
    """quoted-printable: printable ASCII, tabs, `=XX`, soft line breaks; lines up to 998 octets."""

    def __init__(self) -> None:
        self.failed = False
        self._line = b""

    def feed(self, octets: bytes) -> bytes:
        """Decode complete lines."""
        if self.failed:
            return b""
        octets = self._line + octets
        end = octets.rfind(b"\r\n") + 2 if b"\r\n" in octets else 0
        self._line = octets[end:]
        if len(self._line) > MAX_LINE_OCTETS + 1:  # its CRLF may be cut
            self.failed = True
            return b""
        return self._decode(octets[:end])

    def finish(self) -> bytes:
        """Decode the line that has no end."""
        return b"" if self.failed else self._decode(self._line)

    def _decode(self, octets: bytes) -> bytes:
        too_long = max(map(len, octets.split(b"\r\n"))) > MAX_LINE_OCTETS
        if too_long or _QP_TEXT.match(octets) is None:
            self.failed = True
            return b""
        # RFC 2045 §6.7 (3): spaces at the end of a line were added on the way.
        return binascii.a2b_qp(_QP_TRAILING_SPACE.sub(b"", octets))
