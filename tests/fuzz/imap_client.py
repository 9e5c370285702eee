"""Reads what the server writes as strictly as the strictest client (spec mail 4.2).

It shares no code with the server and repairs nothing: whatever it does not know is an
AssertionError.
"""

from __future__ import annotations

import re

import attrs

_TAGGED = re.compile(rb"([!#$&',\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+) (OK|NO|BAD) ")
_TEXT = re.compile(
    rb"(?:\[[A-Z][A-Z0-9-]*(?: [^\]\r\n]+)?\] [\x20-\x7e]+|"
    rb"[\x20-\x5a\x5c-\x7e][\x20-\x7e]*)(?=\r\n)"
)
_CONTINUATION = re.compile(rb"\+ [\x20-\x7e]*\r\n")
_ATOM = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+")
_FLAG = re.compile(
    rb"\\(?:Answered|Flagged|Deleted|Seen|Draft|\*)|[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]+"
)
_QUOTED = re.compile(rb'"[\x20\x21\x23-\x5b\x5d-\x7e]*"')  # no escapes: clients do not undo them
_LITERAL = re.compile(rb"\{([0-9]+)\}\r\n")
_NUMBER = re.compile(rb"[0-9]+")
_SET = re.compile(rb"[0-9:,]+")
_MODSEQ_MAX = 2**63 - 1
_SECTION = re.compile(
    rb"BODY\[(?:[1-9][0-9]*(?:\.[1-9][0-9]*)*)?"
    rb"(?:\.?(?:HEADER\.FIELDS(?:\.NOT)? \([^()\r\n]*\)|HEADER|TEXT|MIME))?\](?:<[0-9]+>)?"
    rb"|RFC822(?:\.HEADER|\.TEXT)?(?:<[0-9]+>)?(?= )"
)
_SECTION_WITH_QUOTES = re.compile(
    rb'BODY\[(?:[0-9.]+\.)?HEADER\.FIELDS(?:\.NOT)? \((?:"(?:[^"\\\r\n]|\\.)*"|[^()"\r\n])*\)\]'
    rb"(?:<[0-9]+>)?"
)
_ITEM = re.compile(rb"[A-Z0-9.]+")
# Only as the answer to a command that asked for it.
_ASKED_FOR = (b"ESEARCH", b"NAMESPACE")


@attrs.frozen
class Response:
    """One response: `*`, `+` or the tag; its kind; the octets."""

    tag: bytes
    kind: bytes
    octets: bytes


class Reader:
    """A cursor over what a server wrote."""

    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        self.at = 0

    def responses(self, *, asked_for: bytes = b"") -> list[Response]:
        """Read everything; `asked_for` is what the client sent."""
        assert b"\0" not in self.octets
        found = []
        while self.at < len(self.octets):
            start = self.at
            tag, kind = self._response()
            assert (
                kind not in _ASKED_FOR
                or kind in asked_for.upper()
                or b"RETURN" in (asked_for.upper())
            ), kind
            found.append(Response(tag, kind, self.octets[start : self.at]))
        return found

    # --- words -------------------------------------------------------------------------------

    def _match(self, pattern: re.Pattern[bytes]) -> re.Match[bytes]:
        found = pattern.match(self.octets, self.at)
        assert found, (pattern.pattern, self.octets[max(0, self.at - 200) : self.at + 200])
        self.at = found.end()
        return found

    def _peek(self, octets: bytes) -> bool:
        return self.octets.startswith(octets, self.at)

    def _accept(self, octets: bytes) -> bool:
        is_here = self._peek(octets)
        self.at += len(octets) * is_here
        return is_here

    def _expect(self, octets: bytes) -> None:
        assert self._accept(octets), (octets, self.octets[max(0, self.at - 200) : self.at + 200])

    def _number(self, most: int = 2**32 - 1) -> int:
        number = int(self._match(_NUMBER)[0])
        assert number <= most
        return number

    def _string(self) -> bytes:
        if self._peek(b'"'):
            return self._match(_QUOTED)[0][1:-1]
        size = int(self._match(_LITERAL)[1])
        found = self.octets[self.at : self.at + size]
        assert len(found) == size
        self.at += size
        return found

    def _nstring(self) -> bytes | None:
        return None if self._accept(b"NIL") else self._string()

    def _flags(self) -> None:
        self._expect(b"(")
        while not self._accept(b")"):
            self._match(_FLAG)
            if not self._peek(b")"):
                self._expect(b" ")

    def _text(self) -> None:
        self._match(_TEXT)
        self._expect(b"\r\n")

    # --- responses ---------------------------------------------------------------------------

    def _response(self) -> tuple[bytes, bytes]:
        if self._peek(b"+"):
            self._match(_CONTINUATION)
            return b"+", b"+"
        if not self._accept(b"* "):
            tagged = self._match(_TAGGED)
            self._text()
            return tagged[1], tagged[2]
        if self.octets[self.at : self.at + 1].isdigit():
            kind = self._numbered()
        else:
            kind = self._match(_ATOM)[0]
            self._untagged(kind)
            if kind in (b"OK", b"NO", b"BAD", b"BYE"):
                return b"*", kind
        self._expect(b"\r\n")
        return b"*", kind

    def _numbered(self) -> bytes:
        self._number()
        self._expect(b" ")
        kind = self._match(_ATOM)[0]
        assert kind in (b"EXISTS", b"RECENT", b"EXPUNGE", b"FETCH"), kind
        if kind == b"FETCH":
            self._expect(b" (")
            self._fetch_items()
        return kind

    def _untagged(self, kind: bytes) -> None:
        if kind in (b"SEARCH", b"ENABLED") and self._peek(b"\r\n"):
            return
        self._expect(b" ")
        match kind:
            case b"OK" | b"NO" | b"BAD" | b"BYE":
                self._text()
            case b"FLAGS":
                self._flags()
            case b"LIST" | b"LSUB":
                self._listed()
            case b"STATUS":
                self._string()
                self._expect(b" (")
                self._pairs(_ITEM)
            case b"SEARCH":
                self._numbers()
            case b"CAPABILITY" | b"ENABLED":
                self._atoms()
            case b"METADATA":
                self._metadata()
            case b"VANISHED":
                self._accept(b"(EARLIER) ")
                self._match(_SET)
            case b"QUOTA":
                self._string()
                self._expect(b" (STORAGE ")
                self._number(_MODSEQ_MAX)
                self._expect(b" ")
                self._number(_MODSEQ_MAX)
                self._expect(b")")
            case b"QUOTAROOT":
                self._string()
                self._expect(b" ")
                self._string()
            case b"ID":
                self._expect(b"(")
                self._string()
                self._expect(b" ")
                self._string()
                self._expect(b")")
            case b"NAMESPACE":
                self._expect(b'(("" "/")) NIL NIL')
            case b"ESEARCH":
                self._esearch()
            case _:
                raise AssertionError(kind)

    def _numbers(self) -> None:
        while True:
            if self._accept(b"(MODSEQ "):
                self._number(_MODSEQ_MAX)
                self._expect(b")")
                return
            self._number()
            if not self._accept(b" "):
                return

    def _atoms(self) -> None:
        while not self._peek(b"\r\n"):
            self._match(_ATOM)
            self._accept(b" ")

    def _listed(self) -> None:
        self._expect(b"(")
        while not self._accept(b")"):
            self._expect(b"\\")
            self._match(_ATOM)
            if not self._peek(b")"):
                self._expect(b" ")
        self._expect(b' "/" ')
        self._string()
        self._accept(b' ("CHILDINFO" ("SUBSCRIBED"))')

    def _pairs(self, name: re.Pattern[bytes]) -> None:
        while not self._accept(b")"):
            self._match(name)
            self._expect(b" ")
            self._number(_MODSEQ_MAX)
            if not self._peek(b")"):
                self._expect(b" ")

    def _metadata(self) -> None:
        self._match(_QUOTED)
        self._expect(b" (")
        while not self._accept(b")"):
            name = self._match(_ATOM)[0]
            assert name == name.lower()
            self._expect(b" ")
            assert not self._peek(b'"'), "values are literals"
            self._nstring()
            if not self._peek(b")"):
                self._expect(b" ")

    def _esearch(self) -> None:
        self._expect(b"(TAG ")
        self._string()
        self._expect(b")")
        self._accept(b" UID")
        while self._accept(b" "):
            name = self._match(_ITEM)[0]
            self._expect(b" ")
            if name == b"ALL":
                self._match(_SET)
            else:
                assert name in (b"MIN", b"MAX", b"COUNT", b"MODSEQ"), name
                self._number(_MODSEQ_MAX)

    # --- FETCH -------------------------------------------------------------------------------

    def _fetch_items(self) -> None:
        while True:
            self._fetch_item()
            if self._accept(b")"):
                return
            self._expect(b" ")

    def _fetch_item(self) -> None:
        section = _SECTION.match(self.octets, self.at)
        section = section or _SECTION_WITH_QUOTES.match(self.octets, self.at)
        if section:
            self.at = section.end()
            self._expect(b" ")
            self._nstring()
            return
        name = self._match(_ITEM)[0]
        self._expect(b" ")
        match name:
            case b"FLAGS":
                self._flags()
            case b"UID" | b"RFC822.SIZE":
                self._number()
            case b"INTERNALDATE":
                assert len(self._match(_QUOTED)[0]) == 28
            case b"MODSEQ":
                self._expect(b"(")
                assert self._number(_MODSEQ_MAX) > 0
                self._expect(b")")
            case b"ENVELOPE":
                self.envelope()
            case b"BODY" | b"BODYSTRUCTURE":
                self.body(extended=name == b"BODYSTRUCTURE")
            case _:
                raise AssertionError(name)

    def envelope(self) -> None:
        """Read an ENVELOPE (RFC 3501 §7.4.2)."""
        self._expect(b"(")
        self._nstring()
        self._expect(b" ")
        self._nstring()
        for _ in range(6):
            self._expect(b" ")
            self._addresses()
        self._expect(b" ")
        self._nstring()
        self._expect(b" ")
        self._nstring()
        self._expect(b")")

    def _addresses(self) -> None:
        if self._accept(b"NIL"):
            return
        self._expect(b"((")
        while True:
            self._nstring()
            for _ in range(3):
                self._expect(b" ")
                self._nstring()
            self._expect(b")")
            if self._accept(b")"):
                return
            self._expect(b"(")

    def body(self, *, extended: bool) -> None:
        """Read a BODY or BODYSTRUCTURE (RFC 3501 §9, body)."""
        self._expect(b"(")
        if self._peek(b"("):
            while self._peek(b"("):
                self.body(extended=extended)
            self._expect(b" ")
            self._string()
            if extended:
                self._expect(b" ")
                self._parameters()
        else:
            self._single_part(extended=extended)
            if extended:
                self._expect(b" ")
                self._nstring()
        if extended:
            self._extension()
        self._expect(b")")

    def _single_part(self, *, extended: bool) -> None:
        kind = self._string().lower()
        self._expect(b" ")
        subtype = self._string().lower()
        self._expect(b" ")
        self._parameters()
        for _ in range(2):
            self._expect(b" ")
            self._nstring()
        self._expect(b" ")
        self._string()
        self._expect(b" ")
        self._number()
        if (kind, subtype) == (b"message", b"rfc822"):
            self._expect(b" ")
            self.envelope()
            self._expect(b" ")
            self.body(extended=extended)
        if kind == b"text" or (kind, subtype) == (b"message", b"rfc822"):
            self._expect(b" ")
            self._number()

    def _parameters(self) -> None:
        if self._accept(b"NIL"):
            return
        self._expect(b"(")
        while True:
            self._string()
            self._expect(b" ")
            self._string()
            if self._accept(b")"):
                return
            self._expect(b" ")

    def _extension(self) -> None:
        self._expect(b" ")
        if not self._accept(b"NIL"):
            self._expect(b"(")
            self._string()
            self._expect(b" ")
            self._parameters()
            self._expect(b")")
        self._expect(b" ")
        if not self._accept(b"NIL"):
            self._expect(b"(")
            self._string()
            while not self._accept(b")"):
                self._expect(b" ")
                self._string()
        self._expect(b" ")
        self._nstring()
