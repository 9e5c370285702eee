"""One frozen value per key of SEARCH, and what joins them.

Flags keep their spelling, system flags are canonical (`\\Seen`). Texts are decoded.
Source:  RFC 3501 §6.4.4; extensions as named beside each value.
"""

from __future__ import annotations

from typing import TypeAlias

import attrs

from chatmail.domain.wire.imap.sequence import SequenceSet


@attrs.frozen
class SearchAll:
    """ALL."""


@attrs.frozen
class SearchSet:
    """A sequence set, or UID with a set."""

    messages: SequenceSet
    by_uid: bool


@attrs.frozen
class SearchFlag:
    """ANSWERED, SEEN, KEYWORD x, … and their UN forms (`present` False)."""

    flag: str
    present: bool


@attrs.frozen
class SearchSize:
    """LARGER (`larger`) or SMALLER."""

    octets: int
    larger: bool


@attrs.frozen
class SearchDate:
    """BEFORE, ON, SINCE (`comparison` `<`, `=`, `>=`); `sent` for the SENT forms.

    `day` is days since 1970-01-01 of the named date, time zones disregarded.
    """

    comparison: str
    day: int
    sent: bool


@attrs.frozen
class SearchAge:
    """OLDER or YOUNGER (RFC 5032), seconds."""

    seconds: int
    older: bool


@attrs.frozen
class SearchHeader:
    """HEADER name value; FROM, TO, CC, BCC, SUBJECT. `value` is decoded, case is ignored."""

    name: str
    value: str


@attrs.frozen
class SearchText:
    """BODY, or TEXT (`headers_too`)."""

    value: str
    headers_too: bool


@attrs.frozen
class SearchModseq:
    """MODSEQ n (RFC 7162 §3.1.5)."""

    modseq: int


@attrs.frozen
class SearchEmailId:
    """EMAILID id (RFC 8474 §6); case matters."""

    email_id: str


@attrs.frozen
class SearchThreadId:
    """THREADID id (RFC 8474 §6): matches nothing, messages have no threads here."""


@attrs.frozen
class SearchNot:
    """NOT key."""

    key: SearchKey


@attrs.frozen
class SearchOr:
    """OR key key."""

    first: SearchKey
    second: SearchKey


@attrs.frozen
class SearchAnd:
    """Several keys, all of which must hold."""

    keys: tuple[SearchKey, ...]


SearchKey: TypeAlias = (
    SearchAll
    | SearchSet
    | SearchFlag
    | SearchSize
    | SearchDate
    | SearchAge
    | SearchHeader
    | SearchText
    | SearchModseq
    | SearchEmailId
    | SearchThreadId
    | SearchNot
    | SearchOr
    | SearchAnd
)
