"""The scanner every message passes on its way in: octets in, facts out, nothing kept but facts.

It reads each octet once. What it holds: the header block (64 KiB), one armor line, two samples of
32 KiB, or the whole of a message that may be one of the small plaintext forms (100 KiB).
"""

from __future__ import annotations

from typing import Final, Protocol

from chatmail.domain.formats.autocrypt_setup import is_autocrypt_setup
from chatmail.domain.formats.content_type import ContentType
from chatmail.domain.formats.facts import (
    NO_FINDING,
    NO_SECURE_JOIN,
    Finding,
    HeaderFacts,
    MessageFacts,
    broken,
)
from chatmail.domain.formats.header_rules import (
    MAX_HEADER_OCTETS,
    content_type_of,
    count_fields,
    header_facts,
    header_fault,
)
from chatmail.domain.formats.line_ends import bare_line_ends
from chatmail.domain.formats.pgp_mime import EncryptedBody, envelope_finding
from chatmail.domain.formats.report_form import report_fault
from chatmail.domain.formats.rfc5322 import HeaderBlock, end_of_header, parse_header
from chatmail.domain.formats.securejoin import secure_join_finding
from chatmail.domain.formats.transfer_encoding import encoding_of

MAX_FORM_OCTETS: Final = 100 * 1024
"""The largest message that is looked at as one of the small plaintext forms."""

_FORM_TYPES: Final = frozenset((b"text/plain", b"multipart/mixed", b"multipart/report"))
_PLAIN_ENCODINGS: Final = (b"7bit", b"8bit")


class MessageScanner:
    """Looks at one message while it arrives."""

    def __init__(self, *, max_bytes: int) -> None:
        """Begin before the first octet.

        Args:  max_bytes: the size limit of this door (P-01); beyond it octets are only counted.
        """
        self.size = 0
        self.header: bytes | None = None
        self._max_bytes = max_bytes
        self._lines = LineCheck()
        self._start = bytearray()  # what came before the end of the header block
        self._is_oversized = False  # P-04: no end of the header block in 64 KiB
        self._block: HeaderBlock | None = None
        self._fault = NO_FINDING
        self._facts = HeaderFacts()
        self._content_type: ContentType | None = None
        self._structure = NO_FINDING
        self._body: _BodyReader = _Skipped()

    def feed(self, chunk: bytes | memoryview) -> None:
        """Take more octets, cut anywhere; at most 64 KiB at a time keep the memory bound.

        Never raises.
        """
        octets = bytes(chunk)
        self.size += len(octets)
        if self.size > self._max_bytes or not octets:
            return
        self._lines.feed(octets)
        if self._lines.is_bad or self._is_oversized:
            return
        if self._block is not None:
            self._body.feed(octets)
        else:
            self._header(octets)

    def finish(self) -> MessageFacts:
        """Take the end of the message; return the facts."""
        if self.size > self._max_bytes:
            return MessageFacts(size=self.size, too_big=True, structure=broken("P-01"))
        self._lines.finish()
        bad_line, has_nul = self._lines.is_bare, self._lines.has_nul
        if bad_line or has_nul:
            rule = broken("P-02" if bad_line else "P-03")
            return MessageFacts(size=self.size, bad_line=bad_line, has_nul=has_nul, structure=rule)
        fault = self._fault
        if self._block is None:
            fault = broken("P-04" if self._is_oversized else "P-06")
        if self._block is None or fault.inbound:
            return MessageFacts(
                size=self.size,
                header=self.header,
                header_facts=self._facts,
                header_fault=fault,
                structure=fault,
            )
        return self._body_facts(self._block)

    def _header(self, octets: bytes) -> None:
        if not self._start:
            end = end_of_header(octets)
            if 0 < end <= MAX_HEADER_OCTETS:  # the header block came in one piece
                self._begin_body(octets[:end], octets[end:])
                return
        looked_at = max(0, len(self._start) - 3)
        self._start += octets
        end = end_of_header(self._start, looked_at)
        if end > MAX_HEADER_OCTETS or (end < 0 and len(self._start) >= MAX_HEADER_OCTETS):
            self._is_oversized = True
            self._start.clear()
        elif end > 0:
            start = bytes(self._start)
            self._start.clear()
            self._begin_body(start[:end], start[end:])

    def _begin_body(self, header: bytes, rest: bytes) -> None:
        self.header = header
        block = self._block = parse_header(header)
        self._fault = header_fault(block)
        if self._fault.inbound:
            self._facts = HeaderFacts(received_count=count_fields(block, b"received"))
            return
        content_type = self._content_type = content_type_of(block)
        self._facts = header_facts(block, content_type)
        self._structure = _encoding_finding(block, content_type)
        if content_type is None:
            return
        self._structure = self._structure.then(envelope_finding(content_type))
        if not self._structure.inbound:
            self._body = EncryptedBody(content_type)
        elif content_type.media_type in _FORM_TYPES:
            self._body = _Kept(MAX_FORM_OCTETS)
        if rest:
            self._body.feed(rest)

    def _body_facts(self, block: HeaderBlock) -> MessageFacts:
        body, content_type = self._body, self._content_type
        structure, is_transparent = self._structure, False
        secure_join, setup = NO_SECURE_JOIN, False
        report: str | None = "X-DSN3"
        if isinstance(body, EncryptedBody):
            structure = structure.then(body.finish())
            is_transparent = not structure.inbound and body.is_transparent()
        elif isinstance(body, _Kept) and content_type is not None and body.octets is not None:
            octets = bytes(body.octets)
            secure_join = secure_join_finding(block, content_type, octets)
            report = report_fault(block, content_type, octets)
            setup = is_autocrypt_setup(block, content_type, octets)
        return MessageFacts(
            size=self.size,
            header=self.header,
            header_facts=self._facts,
            header_fault=self._fault,
            structure=structure,
            is_transparent=is_transparent,
            secure_join=secure_join,
            report=report,
            autocrypt_setup=setup,
        )


def _encoding_finding(block: HeaderBlock, content_type: ContentType | None) -> Finding:
    """Check H-05, then H-06."""
    if content_type is None:
        return broken("H-05")
    if encoding_of(block) not in _PLAIN_ENCODINGS:
        return broken("H-06")
    return NO_FINDING


class LineCheck:
    """Finds bare CR, bare LF (P-02) and NUL (P-03) in octets cut anywhere."""

    def __init__(self) -> None:
        self.is_bare = False
        self.has_nul = False
        self._ends_with_return = False

    @property
    def is_bad(self) -> bool:
        """Say whether either rule is broken so far."""
        return self.is_bare or self.has_nul

    def feed(self, octets: bytes) -> None:
        """Take more octets, at least one."""
        if not self.has_nul and b"\0" in octets:
            self.has_nul = True
        if self.is_bare:
            return
        singles = bare_line_ends(octets)
        if self._ends_with_return:
            self.is_bare = octets[:1] != b"\n"
            singles -= 1
        self._ends_with_return = octets[-1:] == b"\r"
        singles -= self._ends_with_return
        self.is_bare = self.is_bare or singles != 0

    def finish(self) -> None:
        """Take the end: a CR that waited for its LF is bare."""
        self.is_bare = self.is_bare or self._ends_with_return


class _BodyReader(Protocol):
    def feed(self, octets: bytes) -> None: ...


class _Skipped:
    """A body of no form that any exception knows."""

    def feed(self, octets: bytes) -> None:
        """Forget the octets."""


class _Kept:
    """A body small enough to be read in one piece at the end; `octets` is None if it is not."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.octets: bytearray | None = bytearray()

    def feed(self, octets: bytes) -> None:
        """Keep the octets while they fit."""
        if self.octets is None:
            return
        if len(self.octets) + len(octets) > self._limit:
            self.octets = None
        else:
            self.octets += octets
