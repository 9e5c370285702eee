"""Multipart bodies cut into parts, octet by octet accounted for (rules M-04, M-06, M-08, M-13).

`MultipartSplitter` takes a body cut anywhere and returns what it saw: preamble, part headers, part
content, part ends, epilogue. It keeps at most one part header block (2 KiB) and one possible
delimiter line. The events of two cuts of the same body differ only in how content is sliced.
"""

from __future__ import annotations

import enum
import re
from functools import lru_cache
from typing import Final, TypeAlias

import attrs

from chatmail.domain.formats.content_type import TEXT_PLAIN, ContentType, parse_content_type
from chatmail.domain.formats.facts import NO_FINDING, Finding, broken
from chatmail.domain.formats.rfc5322 import HeaderBlock, parse_header
from chatmail.domain.formats.transfer_encoding import encoding_of

MAX_PART_HEADER_OCTETS: Final = 2048
MAX_PART_FIELDS: Final = 8
MAX_LINE_OCTETS: Final = 998

_BOUNDARY: Final = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]\Z")
_NOT_SPACE: Final = re.compile(rb"[^ \t]")


class Piece(enum.Enum):
    """What the octets of an event are."""

    PREAMBLE = enum.auto()  # before the first delimiter, with the CRLF before the body in front
    PART = enum.auto()  # a part begins; its header block with the empty line
    CONTENT = enum.auto()  # content of the part
    END = enum.auto()  # the part ended, no octets
    CLOSE = enum.auto()  # the close delimiter was seen, no octets
    EPILOGUE = enum.auto()  # after the line of the close delimiter
    BAD = enum.auto()  # the id of the broken rule; nothing follows


Event: TypeAlias = tuple[Piece, bytes]


def is_boundary(boundary: bytes | None) -> bool:
    """Say whether a boundary parameter obeys M-02."""
    return boundary is not None and _BOUNDARY.match(boundary) is not None


class _State(enum.Enum):
    PREAMBLE = enum.auto()
    PART_HEADER = enum.auto()
    CONTENT = enum.auto()
    EPILOGUE = enum.auto()
    BAD = enum.auto()


class _Line(enum.Enum):
    """What a line that begins like a delimiter is."""

    DELIMITER = enum.auto()
    CLOSE = enum.auto()
    CONTENT = enum.auto()
    UNDECIDED = enum.auto()
    TOO_LONG = enum.auto()


class MultipartSplitter:
    """Cuts one multipart body.

    Theory of operation.  A delimiter is CRLF `--` boundary, so that the CRLF before it belongs to
    it. `_buffer` always begins with the CRLF of the line before the first octet that was not
    handed out, and `_credit` says how many of its octets were counted elsewhere: the body begins
    after the CRLF of the empty line, a part after the CRLF of its delimiter line, content after the
    CRLF of its own empty line. So the same search finds a delimiter in all these places.
    """

    def __init__(self, boundary: bytes) -> None:
        """Begin before the first octet of the body. `boundary` obeys M-02."""
        self._delimiter = b"\r\n--" + boundary
        self._state = _State.PREAMBLE
        self._buffer = b"\r\n"
        # The CRLF before the first delimiter line counts as the end of the preamble's last line,
        # and the one before the body stands for it: a preamble has as many lines as CRLFs.
        self._credit = 0
        self._events: list[Event] = []

    def feed(self, octets: bytes) -> list[Event]:
        """Take more octets of the body; return what is known now."""
        self._events = []
        if self._state is not _State.BAD:
            self._buffer = self._buffer + octets if self._buffer else octets
            self._run(at_end=False)
        return self._events

    def finish(self) -> list[Event]:
        """Take the end of the body; return the last events."""
        self._events = []
        if self._state is not _State.BAD:
            self._run(at_end=True)
        if self._state not in (_State.EPILOGUE, _State.BAD):
            self._bad(b"M-06")
        return self._events

    def _run(self, *, at_end: bool) -> None:
        going = True
        while going:
            if self._state is _State.PART_HEADER:
                going = self._part_header(at_end=at_end)
            elif self._state is _State.EPILOGUE:
                going = self._epilogue()
            else:
                going = self._text(at_end=at_end)

    # --- preamble and content --------------------------------------------------------------------

    def _text(self, *, at_end: bool) -> bool:
        """Hand out text up to the next delimiter, or up to what may become one."""
        buffer, start = self._buffer, 0
        while (found := buffer.find(self._delimiter, start)) >= 0:
            line, after = self._classify(found, at_end=at_end)
            if line is _Line.CONTENT:
                start = found + 2
                continue
            if line is _Line.TOO_LONG:
                self._bad(b"M-04")
                return False
            self._hand_out(found)
            if line is _Line.UNDECIDED:
                return False
            self._cross(line, after - found)
            return True
        self._hand_out(len(buffer) if at_end else self._safe_end())
        return False

    def _hand_out(self, end: int) -> None:
        """Emit the buffer up to `end`, less what was counted elsewhere."""
        credit = min(self._credit, end)
        if end > credit:
            piece = Piece.PREAMBLE if self._state is _State.PREAMBLE else Piece.CONTENT
            self._events.append((piece, self._buffer[credit:end]))
        self._credit -= credit
        self._buffer = self._buffer[end:]

    def _safe_end(self) -> int:
        """Return where a delimiter may begin that is cut off; CR occurs only at its start."""
        buffer = self._buffer
        last = buffer.rfind(b"\r", max(0, len(buffer) - len(self._delimiter) + 1))
        if last >= 0 and self._delimiter.startswith(buffer[last:]):
            return last
        return len(buffer)

    def _classify(self, found: int, *, at_end: bool) -> tuple[_Line, int]:
        """Decide what the line is that follows the CRLF at `found`; and where its octets end.

        Source:  spec policy M-04; RFC 2046 §5.1.1.
        """
        buffer = self._buffer
        begin = found + len(self._delimiter)
        is_close = buffer.startswith(b"--", begin)
        end = _skip_spaces(buffer, begin + 2 if is_close else begin)
        if end - found - 2 > MAX_LINE_OCTETS:
            return _Line.TOO_LONG, end
        after = buffer[end : end + 2]
        if after == b"\r\n" or (at_end and not after):
            return (_Line.CLOSE if is_close else _Line.DELIMITER), end
        can_grow = after in (b"", b"\r") or (after == b"-" and end == begin)
        if can_grow and not at_end:
            return _Line.UNDECIDED, end
        return _Line.CONTENT, end

    def _cross(self, line: _Line, size: int) -> None:
        """Step over a delimiter that begins the buffer; the CRLF of its line stays for the next."""
        if self._state is _State.CONTENT:
            self._events.append((Piece.END, b""))
        self._buffer = self._buffer[size:]
        self._credit = 2
        self._state = _State.PART_HEADER
        if line is _Line.CLOSE:
            self._events.append((Piece.CLOSE, b""))
            self._buffer = self._buffer[2:]
            self._state = _State.EPILOGUE

    # --- part headers ----------------------------------------------------------------------------

    def _part_header(self, *, at_end: bool) -> bool:
        """Wait for the empty line that ends a part's header block."""
        buffer, limit = self._buffer, MAX_PART_HEADER_OCTETS + 2
        empty_line = buffer.find(b"\r\n\r\n", 0, limit)
        start = 0
        while True:
            found = buffer.find(self._delimiter, start, limit + len(self._delimiter))
            if empty_line >= 0 and (found < 0 or empty_line < found):
                return self._begin_content(empty_line)
            if found < 0:
                break
            line, _ = self._classify(found, at_end=at_end)
            if line is _Line.UNDECIDED:
                return False
            if line is not _Line.CONTENT:  # the part has no empty line
                self._bad(b"M-04" if line is _Line.TOO_LONG else b"M-08")
                return False
            start = found + 2
        if len(buffer) >= limit + len(self._delimiter):
            self._bad(b"M-08")
        return False

    def _begin_content(self, empty_line: int) -> bool:
        self._events.append((Piece.PART, self._buffer[2 : empty_line + 4]))
        self._buffer = self._buffer[empty_line + 2 :]
        self._credit = 2
        self._state = _State.CONTENT
        return True

    def _epilogue(self) -> bool:
        if self._buffer:
            self._events.append((Piece.EPILOGUE, self._buffer))
            self._buffer = b""
        return False

    def _bad(self, rule: bytes) -> None:
        self._events.append((Piece.BAD, rule))
        self._state = _State.BAD
        self._buffer = b""


def _skip_spaces(octets: bytes, start: int) -> int:
    found = _NOT_SPACE.search(octets, start)
    return found.start() if found else len(octets)


# --- part headers ------------------------------------------------------------------------------

_PART_NAMES: Final = frozenset(
    (
        b"content-type", b"content-transfer-encoding", b"content-description",
        b"content-disposition", b"content-id", b"mime-version",
    )
)  # fmt: skip
_MAX_OTHER_FIELD_OCTETS: Final = 256


@attrs.frozen
class PartHeader:
    """What the header block of a part says. `encoding` is lower case."""

    content_type: ContentType
    encoding: bytes
    finding: Finding  # M-08


_BROKEN_PART: Final = PartHeader(TEXT_PLAIN, b"7bit", broken("M-08"))


# The same few blocks come with every message of a client; each is at most 2 KiB.
@lru_cache(maxsize=256)
def parse_part_header(octets: bytes) -> PartHeader:
    """Parse the header block of a part, with its empty line.

    Source:  spec policy M-08.
    """
    block = parse_header(octets)
    names = [field[0] for field in block.fields]
    content_type = _part_type(block)
    if (
        block.fault is not None
        or content_type is None
        or len(octets) > MAX_PART_HEADER_OCTETS
        or len(names) > MAX_PART_FIELDS
        or len(set(names)) < len(names)
        or not octets.isascii()  # no text may hide here
        or max(map(len, octets.split(b"\r\n"))) > MAX_LINE_OCTETS
    ):
        return _BROKEN_PART
    return PartHeader(content_type, encoding_of(block), _other_fields(block))


def _part_type(block: HeaderBlock) -> ContentType | None:
    value = block.first(b"content-type")
    return TEXT_PLAIN if value is None else parse_content_type(value)


def _other_fields(block: HeaderBlock) -> Finding:
    others = [field for field in block.fields if field[0] not in _PART_NAMES]
    if not others:
        return NO_FINDING
    if any(end - start > _MAX_OTHER_FIELD_OCTETS for _, start, _, end in others):
        return broken("M-08")
    return Finding("M-08", None)


# --- small bodies in one piece -----------------------------------------------------------------


@attrs.frozen
class Part:
    """One part of a small body."""

    header_octets: bytes
    header: PartHeader
    content: bytes


@attrs.frozen
class Multipart:
    """A small multipart body in pieces. A preamble begins with the CRLF before the body."""

    preamble: bytes
    parts: tuple[Part, ...]
    epilogue: bytes


def split_multipart(body: bytes, boundary: bytes) -> Multipart | None:
    """Cut a whole body.

    Returns:  None if M-04, M-06 (no close delimiter) or M-08 (a part without empty line) is broken.
    """
    splitter = MultipartSplitter(boundary)
    texts: dict[Piece, list[bytes]] = {Piece.PREAMBLE: [], Piece.CONTENT: [], Piece.EPILOGUE: []}
    parts: list[Part] = []
    header = b""
    for piece, octets in splitter.feed(body) + splitter.finish():
        if piece is Piece.BAD:
            return None
        if piece is Piece.PART:
            header, texts[Piece.CONTENT] = octets, []
        elif piece is Piece.END:
            content = b"".join(texts[Piece.CONTENT])
            parts.append(Part(header, parse_part_header(header), content))
        elif piece in texts:
            texts[piece].append(octets)
    return Multipart(b"".join(texts[Piece.PREAMBLE]), tuple(parts), b"".join(texts[Piece.EPILOGUE]))
