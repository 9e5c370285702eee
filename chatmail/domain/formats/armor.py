"""OpenPGP ASCII armor, decoded strictly while it arrives (rules A-01 to A-10).

Every octet of the armored text belongs to a rule; nothing is skipped, nothing is searched for. The
state is one line. Octets are taken to be free of bare CR, bare LF and NUL (P-02, P-03).
"""

from __future__ import annotations

import enum
import re
from typing import Final

from chatmail.domain.formats.crc24 import INITIAL, crc24
from chatmail.domain.formats.facts import NO_FINDING, Finding, broken
from chatmail.domain.formats.transfer_encoding import decode_groups

MAX_LINE_OCTETS: Final = 998
MAX_BLANK_BEFORE: Final = 8
MAX_BLANK_BEFORE_END: Final = 2
MAX_OCTETS_AFTER: Final = 16
MAX_ARMOR_HEADERS: Final = 4
MAX_ARMOR_HEADER_OCTETS: Final = 100

STANDARD_HEADERS: Final = frozenset((b"Version", b"Comment", b"Charset", b"MessageID", b"Hash"))

_BEGIN: Final = b"-----BEGIN PGP MESSAGE-----"
_ANY_BEGIN: Final = b"-----BEGIN PGP "
_END: Final = b"-----END PGP MESSAGE-----"
_HEADER: Final = re.compile(rb"([A-Za-z-]+): [ -~]*\Z")
_DATA: Final = re.compile(rb"[A-Za-z0-9+/]++(={0,2})\Z")
_CHECKSUM: Final = re.compile(rb"=([A-Za-z0-9+/]{4})\Z")


class _State(enum.Enum):
    BEFORE = enum.auto()  # blank lines, then BEGIN
    HEADERS = enum.auto()  # armor headers, then a blank line
    DATA = enum.auto()  # base64
    PADDED = enum.auto()  # data ended with padding: checksum, blank lines or END
    TRAILER = enum.auto()  # after the checksum or a blank line: blank lines, then END
    AFTER = enum.auto()  # END was seen


# The rule that an over-long line breaks, by the state it is met in.
_TOO_LONG: Final = {
    _State.BEFORE: "A-01",
    _State.HEADERS: "A-02",
    _State.DATA: "A-04",
    _State.PADDED: "A-04",
    _State.TRAILER: "A-06",
}


class ArmorReader:
    """Decodes one armored message.

    `finding` holds the first broken rule; once `finding.inbound` is set, nothing more is decoded.
    """

    def __init__(
        self,
        *,
        strict_headers: frozenset[bytes] = frozenset(),
        inbound_headers: frozenset[bytes] = STANDARD_HEADERS,
    ) -> None:
        """Begin before the first line.

        Args:  strict_headers, inbound_headers: names of armor headers that our own users' doors,
            and those for other relays, let pass (A-02); the first is part of the second.
        """
        self.finding = NO_FINDING
        self._strict_headers = strict_headers
        self._inbound_headers = inbound_headers
        self._state = _State.BEFORE
        self._line = b""
        self._blank_lines = 0
        self._header_lines = 0
        self._octets_after = 0
        self._digits = b""
        self._decoded_any = False
        self._crc = INITIAL

    def feed(self, octets: bytes) -> bytes:
        """Take more armored text; return the octets it decodes to."""
        if self.finding.inbound:
            return b""
        if self._state is _State.AFTER:
            self._after(octets)
            return b""
        decoded: list[bytes] = []
        text = self._line + octets if self._line else octets
        self._line = self._lines(text, decoded)
        return decoded[0] if len(decoded) == 1 else b"".join(decoded)

    def finish(self) -> bytes:
        """Take the end of the text: the last line needs no CRLF. Return the last octets."""
        decoded: list[bytes] = []
        line, self._line = self._line, b""
        if not self.finding.inbound and self._state is not _State.AFTER and line:
            self._one_line(line, decoded)
        if self._state is not _State.AFTER:
            self._break("A-01" if self._state is _State.BEFORE else "A-06")
        return b"".join(decoded)

    def _break(self, rule: str) -> None:
        self.finding = self.finding.then(broken(rule))

    def _lines(self, text: bytes, decoded: list[bytes]) -> bytes:
        """Read all complete lines; return the open one."""
        end = text.rfind(b"\r\n") + 2 if b"\r\n" in text else 0
        start = 0
        while start < end and not self.finding.inbound and self._state is not _State.AFTER:
            if self._state is _State.DATA:
                after, digits = _plain_lines(text, start, end)
                if after > start:
                    self._decode(digits, decoded)
                    start = after
                    continue
            line_end = text.find(b"\r\n", start)
            self._one_line(text[start:line_end], decoded)
            start = line_end + 2
        if self.finding.inbound:
            return b""
        if self._state is _State.AFTER:
            self._after(text[start:])
            return b""
        if len(text) - start > MAX_LINE_OCTETS + 1:  # its CRLF may be cut
            self._break(_TOO_LONG[self._state])
        return text[start:]

    def _decode(self, digits: bytes | None, decoded: list[bytes]) -> None:
        if digits is None:
            self._break("A-04")
            return
        digits = self._digits + digits
        whole = len(digits) & ~3
        self._digits = digits[whole:]
        octets = decode_groups(digits[:whole])
        if octets is None:
            self._break("A-04")
        elif octets:
            self._decoded_any = True
            self._crc = crc24(octets, self._crc)
            decoded.append(octets)

    # --- single lines ------------------------------------------------------------------------

    def _one_line(self, line: bytes, decoded: list[bytes]) -> None:
        if len(line) > MAX_LINE_OCTETS:
            self._break(_TOO_LONG[self._state])
            return
        text = line.rstrip(b" \t")
        if self._state is _State.BEFORE:
            self._before(text)
        elif self._state is _State.HEADERS:
            self._header(line, text, decoded)
        else:
            self._data_line(text, decoded)

    def _before(self, text: bytes) -> None:
        if text == _BEGIN:
            self._state = _State.HEADERS
        elif not text:
            self._blank_lines += 1
            if self._blank_lines > MAX_BLANK_BEFORE:
                self._break("A-01")
        elif text.startswith(_ANY_BEGIN):
            self._break("A-10")
        else:
            self._break("A-09" if text[0] >= 0x80 else "A-01")

    def _header(self, line: bytes, text: bytes, decoded: list[bytes]) -> None:
        header = _HEADER.match(line)
        if not text:
            self._state = _State.DATA
        elif header is not None:
            self._armor_header(line, header[1])
        elif self._header_lines == 0 and _DATA.match(text):
            self._state = _State.DATA
            self._data_line(text, decoded)
        else:
            self._break("A-02" if b":" in text else "A-03")

    def _armor_header(self, line: bytes, name: bytes) -> None:
        self._header_lines += 1
        is_small = len(line) <= MAX_ARMOR_HEADER_OCTETS and self._header_lines <= MAX_ARMOR_HEADERS
        if not is_small or name not in self._inbound_headers:
            self._break("A-02")
        elif name not in self._strict_headers:
            self.finding = self.finding.then(Finding("A-02", None))

    def _data_line(self, text: bytes, decoded: list[bytes]) -> None:
        if text.startswith(b"-"):
            self._end_line(text)
        elif not text:
            self._blank_lines = 1 if self._state is not _State.TRAILER else self._blank_lines + 1
            self._state = _State.TRAILER
            if self._blank_lines > MAX_BLANK_BEFORE_END:
                self._break("A-06")
        elif self._state is _State.TRAILER:
            self._break("A-06")
        elif text.startswith(b"="):
            self._checksum(text)
        else:
            self._last_data_line(text, decoded)

    def _last_data_line(self, text: bytes, decoded: list[bytes]) -> None:
        data = _DATA.match(text)
        if data is None or self._state is _State.PADDED:
            self._break("A-04")
            return
        if data[1]:
            self._state = _State.PADDED
        self._decode(text, decoded)

    def _checksum(self, text: bytes) -> None:
        # The shape is enforced everywhere; RFC 9580 §6.1 tells receivers to ignore the value.
        checksum = _CHECKSUM.match(text)
        if checksum is None:
            self._break("A-05")
            return
        if decode_groups(checksum[1]) != self._crc.to_bytes(3, "big"):
            self.finding = self.finding.then(Finding("A-05", None))
        self._state = _State.TRAILER
        self._blank_lines = 0

    def _end_line(self, text: bytes) -> None:
        if text != _END:
            self._break("A-06")
        elif self._digits or not self._decoded_any:
            self._break("A-08")
        else:
            self._state = _State.AFTER

    def _after(self, octets: bytes) -> None:
        self._octets_after += len(octets)
        if self._octets_after > MAX_OCTETS_AFTER or octets.strip(b" \t\r\n"):
            self._break("A-07")


# --- many lines at once ------------------------------------------------------------------------


def _plain_lines(text: bytes, start: int, end: int) -> tuple[int, bytes | None]:
    """Take the lines, from `start`, that need no look of their own.

    A line needs one when it is blank or begins with a space, or holds `=` (padding, checksum) or
    `-` (END).

    Returns:  the offset after the plain lines, and their digits; `start` if the first line is not
        plain. The digits are None if a line is longer than 998 octets.
    """
    for mark in (b"=", b"-"):
        found = text.find(mark, start, end)
        if found >= 0:
            line_end = text.rfind(b"\r\n", start, found)
            end = line_end + 2 if line_end >= 0 else start
    digits = _join_equal_lines(text[start:end])
    if digits is not None:
        return end, digits
    if text.startswith((b"\r\n", b" ", b"\t"), start):
        return start, b""
    for mark in (b"\r\n\r\n", b"\r\n ", b"\r\n\t"):
        found = text.find(mark, start, end)
        if found >= 0:
            end = found + 2
    return end, _join_lines(text[start:end])


def _join_equal_lines(lines: bytes) -> bytes | None:
    """Return the digits of lines of one length, as every program writes them.

    Three slices prove that there is a CRLF at every place where it belongs and nowhere else, in a
    tenth of the time that a list of lines takes; a test holds it against `_join_lines`.

    Returns:  None if the lines are not that simple: they may still be right.
    """
    length = lines.find(b"\r\n")
    if not 0 < length <= MAX_LINE_OCTETS or b" " in lines or b"\t" in lines:
        return None
    count, rest = divmod(len(lines), length + 2)
    returns, feeds = lines[length :: length + 2], lines[length + 1 :: length + 2]
    if rest or returns != b"\r" * count or feeds != b"\n" * count:
        return None
    digits = lines.translate(None, b"\r\n")
    return digits if len(digits) == count * length else None


def _join_lines(lines: bytes) -> bytes | None:
    """Return the digits of complete lines, without line ends and the spaces before them.

    Returns:  None if a line is longer than 998 octets.
    """
    pieces = lines.split(b"\r\n")
    if max(map(len, pieces)) > MAX_LINE_OCTETS:
        return None
    return b"".join([piece.rstrip(b" \t") for piece in pieces])
