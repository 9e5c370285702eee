"""The header rules P-04, P-05, P-07, H-01 to H-03, and the facts read from a header block."""

from __future__ import annotations

import re
from typing import Final

from chatmail.domain.formats.content_type import ContentType, parse_content_type
from chatmail.domain.formats.facts import NO_FINDING, Finding, HeaderFacts, broken
from chatmail.domain.formats.rfc5322 import HeaderBlock, parse_mailbox, parse_mailboxes

MAX_HEADER_OCTETS: Final = 64 * 1024
MAX_FIELDS: Final = 256
MAX_FIELD_OCTETS: Final = 32 * 1024
MAX_LINE_OCTETS: Final = 998
LONG_VALUE_OCTETS: Final = 256

_AUTO_SUBMITTED: Final = re.compile(rb"[A-Za-z-]++")

# H-03. Fields that decide something must not be there twice.
_ONCE: Final = frozenset(
    (
        b"from", b"sender", b"content-type", b"content-transfer-encoding", b"mime-version",
        b"subject", b"date", b"message-id", b"to", b"cc", b"secure-join",
        b"secure-join-invitenumber", b"autocrypt",
    )
)  # fmt: skip
_ONCE_INBOUND: Final = _ONCE - {b"subject", b"to", b"cc"}

# P-07. Inbound, octets above 0x7F are tolerated in unstructured fields: all that are not here.
_STRUCTURED: Final = frozenset(
    (
        b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc", b"date", b"message-id",
        b"in-reply-to", b"references", b"return-path", b"delivered-to", b"received",
        b"mime-version", b"content-type", b"content-transfer-encoding", b"content-disposition",
        b"content-id", b"autocrypt", b"auto-submitted", b"dkim-signature",
        b"authentication-results", b"secure-join", b"secure-join-invitenumber",
        b"secure-join-group", b"autocrypt-setup-message",
    )
)  # fmt: skip

# The fields whose values are facts.
_READ: Final = frozenset((b"from", b"sender", b"message-id", b"subject", b"auto-submitted"))


def header_fault(block: HeaderBlock) -> Finding:
    """Return the first broken rule of a complete header block.

    Source:  spec policy 1.2, 1.3.
    """
    octets, fields = block.octets, block.fields
    if len(octets) > MAX_HEADER_OCTETS or len(fields) > MAX_FIELDS:
        return broken("P-04")
    if len(octets) > MAX_FIELD_OCTETS and any(_is_oversized(block, field) for field in fields):
        return broken("P-04")
    if len(octets) > MAX_LINE_OCTETS and _longest_line(octets) > MAX_LINE_OCTETS:
        return broken("P-05")
    if block.fault is not None:
        return _eight_bit(block).then(broken(block.fault))
    return _eight_bit(block).then(_repeated(block))


def _longest_line(octets: bytes) -> int:
    return max(map(len, octets.split(b"\r\n")))


def _is_oversized(block: HeaderBlock, field: tuple[bytes, int, int, int]) -> bool:
    _, start, _, end = field
    if end - start <= MAX_FIELD_OCTETS:
        return False
    return len(block.octets[start:end].replace(b"\r\n", b"")) > MAX_FIELD_OCTETS


def _eight_bit(block: HeaderBlock) -> Finding:
    if block.octets.isascii():
        return NO_FINDING
    for name, start, _, end in block.fields:
        structured = name in _STRUCTURED or name.startswith(b"resent-")
        if structured and not block.octets[start:end].isascii():
            return broken("P-07")
    return Finding("P-07", None)


def _repeated(block: HeaderBlock) -> Finding:
    names = [field[0] for field in block.fields]
    distinct = set(names)
    if len(distinct) == len(names):
        return NO_FINDING
    repeated = {name for name in distinct & _ONCE if names.count(name) > 1}
    if not repeated:
        return NO_FINDING
    return Finding("H-03", "H-03" if repeated & _ONCE_INBOUND else None)


def content_type_of(block: HeaderBlock) -> ContentType | None:
    """Return the Content-Type of a block: text/plain when absent, None when malformed (H-05)."""
    value = block.first(b"content-type")
    return parse_content_type(b"text/plain" if value is None else value)


def count_fields(block: HeaderBlock, name: bytes) -> int:
    """Return how many fields of this name (lower case) there are."""
    return sum(1 for field in block.fields if field[0] == name)


def header_facts(block: HeaderBlock, content_type: ContentType | None) -> HeaderFacts:
    """Collect what the policy needs from a block without faults."""
    first: dict[bytes, bytes] = {}
    long_fields: set[bytes] = set()
    for field in block.fields:
        name = field[0]
        if field[3] - field[2] > LONG_VALUE_OCTETS and len(block.value(field)) > LONG_VALUE_OCTETS:
            long_fields.add(name)
        if name not in first:
            first[name] = b"" if name not in _READ else block.value(field)
    return HeaderFacts(
        names=frozenset(first),
        long_fields=frozenset(long_fields),
        from_value=first.get(b"from", b""),
        from_mailboxes=parse_mailboxes(first.get(b"from", b"")),
        has_sender=b"sender" in first,
        sender=parse_mailbox(first[b"sender"]) if b"sender" in first else None,
        message_id=first.get(b"message-id"),
        subject=first.get(b"subject"),
        auto_submitted=_first_word(first.get(b"auto-submitted")),
        received_count=count_fields(block, b"received"),
        media_type=content_type.media_type if content_type else b"",
    )


def _first_word(value: bytes | None) -> bytes | None:
    if value is None:
        return None
    found = _AUTO_SUBMITTED.match(value)
    return found[0].lower() if found else b""
