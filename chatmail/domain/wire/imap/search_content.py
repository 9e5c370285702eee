"""What the content of one message says to the keys of a SEARCH that look into it.

The body comes in chunks and is forgotten; only an overlap as long as the longest text stays.
Source:  RFC 3501 §6.4.4 (BODY, HEADER, TEXT, SENT…); RFC 2047 for header text.
"""

from __future__ import annotations

import datetime
import email.errors
import email.header
import email.utils
import enum
import re
from collections.abc import Iterator
from typing import Final, TypeAlias

from chatmail.domain.wire.imap.commands import (
    SearchAnd,
    SearchDate,
    SearchHeader,
    SearchKey,
    SearchNot,
    SearchOr,
    SearchText,
)
from chatmail.domain.wire.imap.lexer import EPOCH_ORDINAL

ContentKey: TypeAlias = SearchHeader | SearchText | SearchDate

# Longer fields are compared as they are: decoding is for what a person reads.
_DECODED_CHARS: Final = 8 * 1024
_DATE_CHARS: Final = 128
_FIELD_END: Final = re.compile(rb"\r?\n(?![ \t])")
_FOLD: Final = re.compile(r"\r?\n(?=[ \t])")


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


class ContentProbe:
    """Looks for the content keys of one search in one message.

    Feed the header block once, then the body in any chunks until `is_settled` or its end.
    Case is ignored: of all letters in header fields, of ASCII letters in bodies.
    """

    def __init__(self, key: SearchKey) -> None:
        self._found = dict.fromkeys(content_keys(key), False)
        self._open = [
            (leaf, leaf.value.encode("utf-8").lower())
            for leaf in self._found
            if isinstance(leaf, SearchText)
        ]
        self._overlap = max((len(needle) for _, needle in self._open), default=1) - 1
        self._tail = b""

    def holds(self, key: ContentKey) -> bool:
        """Say whether a key was found in what was fed so far."""
        return self._found[key]

    @property
    def is_settled(self) -> bool:
        """Say whether more of the body cannot change any answer."""
        return not self._open

    def header(self, block: bytes) -> None:
        """Look into a header block: raw octets with the empty line that ends it."""
        fields = list(_fields(block))
        text: str | None = None
        for key in self._found:
            if isinstance(key, SearchHeader):
                self._found[key] = _field_holds(fields, key)
            elif isinstance(key, SearchDate):
                self._found[key] = _date_holds(fields, key)
            elif key.headers_too:
                if text is None:
                    text = "\n".join(f"{name}: {value}" for name, value in fields)
                self._found[key] = key.value.casefold() in text
        self._settle()

    def body(self, chunk: bytes) -> None:
        """Look into the next octets of the body."""
        window = self._tail + chunk.lower()
        for key, needle in self._open:
            self._found[key] = needle in window
        self._settle()
        self._tail = window[-self._overlap :] if self._overlap > 0 else b""

    def _settle(self) -> None:
        self._open = [(key, needle) for key, needle in self._open if not self._found[key]]


def _fields(block: bytes) -> Iterator[tuple[str, str]]:
    """Yield names in lower case and decoded, case-folded values, unfolded."""
    for line in _FIELD_END.split(block):
        name, colon, value = line.partition(b":")
        if colon:
            yield name.decode("latin-1").strip().lower(), _decoded(value).casefold()


def _decoded(value: bytes) -> str:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    text = _FOLD.sub("", text).strip()
    if "=?" not in text or len(text) > _DECODED_CHARS:
        return text
    try:
        return str(email.header.make_header(email.header.decode_header(text)))
    except (email.errors.MessageError, LookupError, ValueError):
        return text  # an unknown charset or broken encoded word: compared as it stands


def _field_holds(fields: list[tuple[str, str]], key: SearchHeader) -> bool:
    wanted_name, wanted = key.name.lower(), key.value.casefold()
    return any(name == wanted_name and wanted in value for name, value in fields)


def _date_holds(fields: list[tuple[str, str]], key: SearchDate) -> bool:
    value = next((value for name, value in fields if name == "date"), "")
    try:
        parsed = email.utils.parsedate_tz(value[:_DATE_CHARS])
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
