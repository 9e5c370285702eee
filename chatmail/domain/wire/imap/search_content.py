"""What the content of one message says to the keys of a SEARCH that look into it.

Fields and bodies are compared as a person reads them: encoded words, transfer encodings, charsets
undone. The body comes in chunks and is forgotten; an overlap as long as the longest text stays.
Source:  RFC 3501 §6.4.4 (BODY, HEADER, TEXT, SENT…).
"""

from __future__ import annotations

import datetime
import email.utils
import enum
import re
from collections.abc import Iterator
from typing import Final, TypeAlias

from chatmail.domain.formats.encoded_words import header_text
from chatmail.domain.formats.mime_structure import MAX_PART_HEADER
from chatmail.domain.formats.text_decoding import TextDecoder
from chatmail.domain.wire.imap.lexer import EPOCH_ORDINAL
from chatmail.domain.wire.imap.search_keys import (
    SearchAnd,
    SearchDate,
    SearchHeader,
    SearchKey,
    SearchNot,
    SearchOr,
    SearchText,
)
from chatmail.domain.wire.imap.search_sections import Section

ContentKey: TypeAlias = SearchHeader | SearchText | SearchDate

TEXTS_PER_TURN: Final = 4
_DATE_CHARS: Final = 128
_FIELD_END: Final = re.compile(rb"\r?\n(?![ \t])")


class Content(enum.IntEnum):
    """How much of a message a search has to read; false when nothing."""

    NONE = 0
    HEADER = 1
    WHOLE = 2


def content_keys(key: SearchKey) -> Iterator[ContentKey]:
    """Yield the keys inside `key` that entries alone cannot answer."""
    match key:
        case SearchAnd(keys):
            for inner in keys:
                yield from content_keys(inner)
        case SearchOr(first, second):
            yield from content_keys(first)
            yield from content_keys(second)
        case SearchNot(inner):
            yield from content_keys(inner)
        case SearchHeader() | SearchText() | SearchDate(sent=True):
            yield key
        case _:
            pass


def needs_content(key: SearchKey) -> Content:
    """Say what must be read of messages that entries alone do not settle."""
    needs = (
        Content.WHOLE if isinstance(inner, SearchText) else Content.HEADER
        for inner in content_keys(key)
    )
    return max(needs, default=Content.NONE)


def count_texts(key: SearchKey) -> int:
    """Return how many texts have to be looked for in bodies."""
    return sum(isinstance(inner, SearchText) for inner in content_keys(key))


class ContentProbe:
    """Looks for the content keys of one search in one message.

    Feed the header block once, then the body section by section until `is_settled` or its end.
    Case is ignored, of all letters.
    """

    def __init__(self, key: SearchKey) -> None:
        self._found = dict.fromkeys(content_keys(key), False)
        self._open = [
            (leaf, leaf.value.casefold()) for leaf in self._found if isinstance(leaf, SearchText)
        ]
        self._overlap = max((len(needle) for _, needle in self._open), default=1) - 1
        self._tail = ""
        self._decoder: TextDecoder | _HeaderDecoder = TextDecoder(b"", b"")

    def holds(self, key: ContentKey) -> bool:
        """Say whether a key was found in what was fed so far."""
        return self._found[key]

    @property
    def is_settled(self) -> bool:
        """Say whether more of the body cannot change any answer."""
        return not self._open

    def rule_out(self) -> None:
        """Note that no text is in the message."""
        self._open = []

    def header(self, block: bytes) -> None:
        """Look into a header block: raw octets with the empty line that ends it."""
        names = {key.name.lower() for key in self._found if isinstance(key, SearchHeader)}
        texts = [key for key in self._found if isinstance(key, SearchText) and key.headers_too]
        fields = _Fields(block, None if texts else names | {"date"})
        for key in self._found:
            if isinstance(key, SearchHeader):
                self._found[key] = fields.holds(key)
            elif isinstance(key, SearchDate):
                self._found[key] = _date_holds(fields, key)
            elif key.headers_too:
                self._found[key] = key.value.casefold() in fields.text
        self._settle()

    def begin(self, section: Section) -> None:
        """Go on with the next section of the body: no text goes on from one to the next."""
        self._tail = ""
        if section.is_header:
            self._decoder = _HeaderDecoder()
        else:
            self._decoder = TextDecoder(section.encoding, section.charset)

    def body(self, chunk: bytes, *, is_last: bool = False) -> None:
        """Look into the next octets of the section, `is_last` up to its end."""
        for _ in self.body_in_turns(chunk, is_last=is_last):
            pass

    def body_in_turns(self, chunk: bytes, *, is_last: bool) -> Iterator[None]:
        """Do what `body` does and yield now and then: a search may hold hundreds of texts."""
        text = self._decoder.feed(chunk)
        if is_last:
            text += self._decoder.finish()
        window = self._tail + text.casefold()
        for looked, (key, needle) in enumerate(self._open, 1):
            self._found[key] = needle in window
            if looked % TEXTS_PER_TURN == 0:
                yield
        self._settle()
        self._tail = window[-self._overlap :] if self._overlap > 0 else ""

    def _settle(self) -> None:
        self._open = [(key, needle) for key, needle in self._open if not self._found[key]]


class _HeaderDecoder:
    """The header block of a part as text, once it is there as a whole."""

    def __init__(self) -> None:
        self._block = b""

    def feed(self, octets: bytes) -> str:
        self._block += octets[: MAX_PART_HEADER - len(self._block)]
        return ""

    def finish(self) -> str:
        return _Fields(self._block, None).text


class _Fields:
    """The decoded, case-folded fields of a header block; of `names` alone unless that is None."""

    def __init__(self, block: bytes, names: set[str] | None) -> None:
        self._values: dict[str, list[str]] = {}
        for line in _FIELD_END.split(block):
            raw_name, colon, value = line.partition(b":")
            name = raw_name.decode("latin-1").strip().lower()
            if colon and (names is None or name in names):
                self._values.setdefault(name, []).append(header_text(value).casefold())

    def holds(self, key: SearchHeader) -> bool:
        """Say whether a field of the name holds the text; no text asks for the name alone."""
        wanted = key.value.casefold()
        return any(wanted in value for value in self._values.get(key.name.lower(), ()))

    def first(self, name: str) -> str:
        """Return the first value of a field, empty when there is none."""
        return next(iter(self._values.get(name, ())), "")

    @property
    def text(self) -> str:
        """Return all fields, each in a line of its own."""
        return "\n".join(
            f"{name}: {value}" for name, values in self._values.items() for value in values
        )


def _date_holds(fields: _Fields, key: SearchDate) -> bool:
    try:
        parsed = email.utils.parsedate_tz(fields.first("date")[:_DATE_CHARS])
        if parsed is None:
            return False
        day = datetime.date(*parsed[:3]).toordinal() - EPOCH_ORDINAL
    except (ValueError, TypeError, IndexError, OverflowError):
        return False
    return day_holds(day, key)


def day_holds(day: int, key: SearchDate) -> bool:
    """Compare a day (days since 1970-01-01) with what BEFORE, ON or SINCE asks."""
    if key.comparison == "<":
        return day < key.day
    return day == key.day if key.comparison == "=" else day >= key.day
