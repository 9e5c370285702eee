"""The MIME part tree of stored octets, with the offsets of every part.

The scanner eats a message in chunks and keeps only what it cannot yet decide: an unfinished line.
Total: any octets yield a tree; a part that makes no sense is a leaf. Depth, number of parts and the
octets kept of header fields are bounded, so a hostile message costs time linear in its size.
Source:  RFC 2045 §5, RFC 2046 §5.1; RFC 3501 §6.4.5 for part numbers.

Theory of operation: lines are looked at only where something may change. Inside a header block
that is every line; inside a body it is every line that starts with two hyphens, and only while a
multipart is open. A delimiter closes every part below the multipart it belongs to, so a missing
end delimiter costs nothing (RFC 2046 §5.1.2).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import attrs

from chatmail.domain.formats.header_fields import field_value, iter_named

MAX_DEPTH: Final = 24
MAX_PARTS: Final = 500
MAX_PART_HEADER: Final = 64 * 1024
MAX_KEPT: Final = 256 * 1024
MAX_PARAMETERS: Final = 64
MAX_PARAMETER_OCTETS: Final = 16 * 1024
MAX_LINE: Final = 1024  # a delimiter is at most 74 octets and some trailing white space

Parameters = tuple[tuple[bytes, bytes], ...]

_MIME_FIELDS: Final = frozenset(
    (
        b"content-type",
        b"content-id",
        b"content-description",
        b"content-transfer-encoding",
        b"content-disposition",
        b"content-language",
        b"content-location",
        b"content-md5",
    )
)
ENVELOPE_FIELDS: Final = frozenset(
    (
        b"date",
        b"subject",
        b"from",
        b"sender",
        b"reply-to",
        b"to",
        b"cc",
        b"bcc",
        b"in-reply-to",
        b"message-id",
    )
)
_KEPT_FIELDS: Final = _MIME_FIELDS | ENVELOPE_FIELDS
_TOKEN: Final = rb"[^\x00-\x20\x7f()<>@,;:\\\"/\[\]?=]{1,200}"
_MEDIA_TYPE: Final = re.compile(rb"\s*(" + _TOKEN + rb")\s*/\s*(" + _TOKEN + rb")")
_PARAMETER: Final = re.compile(
    rb";\s*(" + _TOKEN + rb")\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s;\"]*))", re.DOTALL
)
_ESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)


@attrs.frozen(kw_only=True)
class Part:
    """One node of the tree. Offsets count octets from the start of the message.

    The header block of the part, with its empty line, is [header_start, body_start); its body is
    [body_start, body_end), without the line end that belongs to the following delimiter.
    `fields` are (lower-case name, value) of the fields a structure is made of, in order.
    A multipart has its parts as children; message/rfc822 has one child, the message itself.
    """

    header_start: int
    body_start: int
    body_end: int
    lines: int
    media_type: bytes
    media_subtype: bytes
    parameters: Parameters
    fields: tuple[tuple[bytes, bytes], ...]
    children: tuple[Part, ...] = ()

    @property
    def is_multipart(self) -> bool:
        """Say whether the children are the parts of a multipart."""
        return self.media_type == b"multipart"

    @property
    def is_message(self) -> bool:
        """Say whether this part is a whole message with a tree of its own."""
        return self.media_type == b"message" and bool(self.children)

    @property
    def size(self) -> int:
        """Octets of the body, still encoded."""
        return self.body_end - self.body_start

    def field(self, name: bytes) -> bytes | None:
        """Return the value of the first field of this name (lower case)."""
        return next((value for known, value in self.fields if known == name), None)


def find_part(root: Part, numbers: Sequence[int]) -> Part | None:
    """Return the part that IMAP calls `1.2.3`; None: there is none.

    Source:  RFC 3501 §6.4.5: a message that is no multipart has one part, itself; numbers below a
        message/rfc822 count the parts of the message it holds.
    """
    part, options = None, _numbered(root)
    for number in numbers:
        if not 1 <= number <= len(options):
            return None
        part = options[number - 1]
        if part.is_message:
            options = _numbered(part.children[0])
        else:
            options = part.children if part.is_multipart else ()
    return part


def _numbered(body: Part) -> tuple[Part, ...]:
    return body.children if body.is_multipart else (body,)


def parse_parameterised(value: bytes) -> tuple[bytes, Parameters]:
    """Split `value; name=value; …` into what stands first and the parameters.

    Names are in lower case, quoted values are unquoted. Total.
    Source:  RFC 2045 §5.1, RFC 2183 §2.
    """
    found = []
    for match in _PARAMETER.finditer(value[:MAX_PARAMETER_OCTETS]):
        quoted = match[2]
        found.append((match[1].lower(), match[3] if quoted is None else unescape(quoted)))
        if len(found) == MAX_PARAMETERS:
            break
    return value.partition(b";")[0].strip(), tuple(found)


def unescape(quoted: bytes) -> bytes:
    """Remove the backslashes of quoted pairs (RFC 5322 §3.2.1)."""
    return _ESCAPE.sub(rb"\1", quoted) if b"\\" in quoted else quoted


@attrs.define(eq=False)
class _Open:
    """A part whose end was not seen yet. `boundary` is None once its parts have ended."""

    header_start: int
    default_type: tuple[bytes, bytes] = (b"text", b"plain")
    header: list[bytes] = attrs.field(factory=list)
    header_octets: int = 0
    body_start: int = 0
    newlines: int = 0
    media: tuple[bytes, bytes] = (b"text", b"plain")
    parameters: Parameters = ()
    fields: tuple[tuple[bytes, bytes], ...] = ()
    boundary: bytes | None = None
    children: list[Part] = attrs.field(factory=list)


class StructureScanner:
    """Builds the tree from chunks.

    `feed` the chunks in order (64 KiB or less keeps the loop fair), then `finish`.
    """

    def __init__(self) -> None:
        self._stack = [_Open(0)]
        self._in_header = True
        self._in_line = False  # the rest of the current line is of no interest
        self._data = b""
        self._offset = 0  # where in the message `_data` starts
        self._before = b""  # the two octets before it
        self._counted = 0  # index in `_data` up to which line feeds were counted
        self._newlines = 0
        self._kept = 0
        self._parts = 1
        self._known: dict[bytes, tuple[int, bool]] | None = {}

    def feed(self, chunk: bytes) -> None:
        """Eat the next octets."""
        self._data = data = self._data + chunk if self._data else chunk
        at = self._scan(data)
        self._count(at)
        self._before = (self._before + data[max(0, at - 2) : at])[-2:]
        self._data = data[at:]
        self._offset += at
        self._counted = 0

    def finish(self) -> Part:
        """Return the tree. The scanner is done then."""
        if self._data:
            rest = self._data
            if self._in_header:
                self._header_line(rest, 0, len(rest))
            elif rest.startswith(b"--"):
                self._delimiter_line(rest, 0, len(rest))
        end = self._offset + len(self._data)
        self._count(len(self._data))
        while self._in_header:  # twice when a message part ends where its message should start
            self._end_header(len(self._data))
        while len(self._stack) > 1:
            self._close_top(end, self._newlines)
        return self._build(self._stack[0], end, self._newlines)

    def _count(self, at: int) -> None:
        if at > self._counted:
            self._newlines += self._data.count(b"\n", self._counted, at)
            self._counted = at

    def _scan(self, data: bytes) -> int:
        """Look at the lines of `data`; return the index where more octets are needed."""
        at, size = 0, len(data)
        while at < size:
            if self._in_line:
                at = data.find(b"\n", at) + 1
                if at == 0:
                    return size
                self._in_line = False
                continue
            step = self._header_step if self._in_header else self._body_step
            after = step(data, at)
            if after < 0:
                return at
            at = after
        return size

    def _header_step(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at) + 1
        if end == 0:
            if len(data) - at < MAX_PART_HEADER:
                return -1
            self._in_line = True  # a line longer than any header block we keep
            return len(data)
        self._header_line(data, at, end)
        return end

    def _body_step(self, data: bytes, at: int) -> int:
        if not self._delimiters():
            self._in_line = True
            return len(data)
        if data.startswith(b"--", at):
            end = data.find(b"\n", at, at + MAX_LINE) + 1
            if end == 0:
                if len(data) - at < MAX_LINE:
                    return -1
                self._in_line = True
                return at
            self._delimiter_line(data, at, end)
            return end
        if data[at:] == b"-":
            return -1
        found = data.find(b"\n--", at)
        if found < 0:
            # What follows may complete a line start at the very end of the chunk.
            found = data.rfind(b"\n", max(at, len(data) - 2))
            if found < 0 or data[found + 1 :] not in (b"", b"-"):
                self._in_line = True
                return len(data)
        return found + 1

    def _header_line(self, data: bytes, at: int, end: int) -> None:
        line = data[at:end]
        top = self._stack[-1]
        if line in (b"\r\n", b"\n"):
            self._end_header(end)
        elif line.startswith(b"--") and self._level_of(line) is not None:
            while self._in_header:
                self._end_header(at)
            self._delimiter_line(data, at, end)
        elif top.header_octets + len(line) <= MAX_PART_HEADER:
            top.header.append(line)
            top.header_octets += len(line)

    def _end_header(self, at: int) -> None:
        """The header block of the innermost part ends at index `at` of the data."""
        self._count(at)
        top = self._stack[-1]
        self._in_header = False
        top.body_start = self._offset + at
        top.newlines = self._newlines
        self._read_fields(top)
        can_nest = len(self._stack) < MAX_DEPTH and self._parts < MAX_PARTS
        if top.media[0] == b"multipart":
            boundary = dict(top.parameters).get(b"boundary", b"").rstrip()
            top.boundary = boundary if boundary and can_nest else None
            self._known = None
        elif top.media == (b"message", b"rfc822") and can_nest:
            self._open_part(top.body_start, (b"text", b"plain"))

    def _read_fields(self, part: _Open) -> None:
        kept = []
        for name, field in iter_named(b"".join(part.header), _KEPT_FIELDS):
            if self._kept + len(field) <= MAX_KEPT:
                self._kept += len(field)
                kept.append((name, field_value(field)))
        part.header.clear()
        part.fields = tuple(kept)
        part.media = part.default_type
        for name, value in kept:
            if name == b"content-type":
                head, parameters = parse_parameterised(value)
                match = _MEDIA_TYPE.match(head)
                if match is not None:
                    part.media = (match[1].lower(), match[2].lower())
                    part.parameters = parameters
                break

    def _open_part(self, offset: int, default_type: tuple[bytes, bytes]) -> None:
        self._parts += 1
        self._stack.append(_Open(offset, default_type))
        self._in_header = True

    def _level_of(self, line: bytes) -> tuple[int, bool] | None:
        """Return which open multipart a line delimits, and whether it ends it."""
        return self._delimiters().get(line[2:].rstrip())

    def _delimiters(self) -> dict[bytes, tuple[int, bool]]:
        """Return what may stand behind two hyphens: (level, whether it ends the multipart).

        Kept between lines: a body of nothing but hyphens must not cost a look at every level each.
        """
        if self._known is None:
            self._known = {}
            for level, part in enumerate(self._stack):  # the innermost of equal ones wins
                if part.boundary is not None:
                    self._known[part.boundary + b"--"] = (level, True)
                    self._known[part.boundary] = (level, False)
        return self._known

    def _delimiter_line(self, data: bytes, at: int, end: int) -> None:
        found = self._level_of(data[at:end])
        if found is None:
            return
        level, is_last = found
        if self._parts >= MAX_PARTS:
            for part in self._stack:  # what follows belongs to the part that is open now
                part.boundary = None
            self._known = None
            return
        self._count(at)
        before = data[max(0, at - 2) : at] if at >= 2 else (self._before + data[:at])[-2:]
        line_end = 2 if before == b"\r\n" else int(before.endswith(b"\n"))
        while len(self._stack) > level + 1:
            self._close_top(self._offset + at - line_end, self._newlines - bool(line_end))
        holder = self._stack[level]
        if is_last:
            holder.boundary = None
            self._known = None
            return
        is_digest = holder.media[1] == b"digest"
        default = (b"message", b"rfc822") if is_digest else (b"text", b"plain")
        self._open_part(self._offset + end, default)

    def _close_top(self, end: int, newlines: int) -> None:
        part = self._stack.pop()
        self._known = None
        self._stack[-1].children.append(self._build(part, end, newlines))

    def _build(self, part: _Open, end: int, newlines: int) -> Part:
        media, parameters = part.media, part.parameters
        if not part.children:
            if media[0] == b"multipart":
                media, parameters = (b"text", b"plain"), ()
            elif media == (b"message", b"rfc822"):
                media, parameters = (b"application", b"octet-stream"), ()
        # A header block cut short by a delimiter owns no octet of the line end before that.
        return Part(
            header_start=min(part.header_start, end),
            body_start=min(part.body_start, end),
            body_end=end,
            lines=max(newlines - part.newlines, 0),
            media_type=media[0],
            media_subtype=media[1],
            parameters=parameters,
            fields=part.fields,
            children=tuple(part.children),
        )
