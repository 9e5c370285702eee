"""Renders ENVELOPE, BODY and BODYSTRUCTURE.

Header values are passed on as they stand (RFC 2047 words stay encoded); white space is folded to
single spaces. Total: whatever the header fields hold, the result fits the grammar.
Source:  RFC 3501 §7.4.2 and §9 (envelope, body); RFC 2231 §3 for split parameters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from chatmail.domain.formats.address_list import AddressReader
from chatmail.domain.formats.header_fields import field_value, iter_named
from chatmail.domain.formats.mime_structure import (
    ENVELOPE_FIELDS,
    Parameters,
    Part,
    parse_parameterised,
)
from chatmail.domain.formats.parameters import join_continuations
from chatmail.domain.wire.imap.responses import NIL, nstring, string

MAX_VALUE: Final = 64 * 1024
MAX_LANGUAGES: Final = 100

_SPACE: Final = re.compile(rb"[\x00-\x20]+")


def envelope(fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Render an ENVELOPE from (lower-case name, unfolded value) pairs.

    Sender and Reply-To default to From (RFC 3501 §7.4.2).
    """
    first: dict[bytes, bytes] = {}
    for name, value in fields:
        first.setdefault(name, value[:MAX_VALUE])
    reader = AddressReader()
    author = _addresses(first.get(b"from"), reader)
    items = (
        nstring(_clean(first.get(b"date"))),
        nstring(_clean(first.get(b"subject"))),
        author,
        _addresses(first.get(b"sender"), reader) if first.get(b"sender") else author,
        _addresses(first.get(b"reply-to"), reader) if first.get(b"reply-to") else author,
        _addresses(first.get(b"to"), reader),
        _addresses(first.get(b"cc"), reader),
        _addresses(first.get(b"bcc"), reader),
        nstring(_clean(first.get(b"in-reply-to"))),
        nstring(_clean(first.get(b"message-id"))),
    )
    return b"(%b)" % b" ".join(items)


def header_envelope(header: bytes) -> bytes:
    """Render an ENVELOPE from a raw header block."""
    return envelope([(name, field_value(f)) for name, f in iter_named(header, ENVELOPE_FIELDS)])


def body_structure(part: Part, *, extended: bool) -> bytes:
    """Render BODYSTRUCTURE (`extended`) or BODY of a part and all below it."""
    return b"".join(structure_pieces(part, extended=extended))


def structure_pieces(part: Part, *, extended: bool) -> Iterator[bytes]:
    """Render what `body_structure` does in pieces, so that others may have a turn between them."""
    if part.is_multipart:
        yield b"("
        for child in part.children:
            yield from structure_pieces(child, extended=extended)
        tail = b" %b %b" % (_parameters(part.parameters), _extension(part)) if extended else b""
        yield b" %b%b)" % (string(part.media_subtype), tail)
        return
    yield b"(" + b" ".join(_basic_fields(part))
    if part.is_message:
        message = part.children[0]
        yield b" %b " % envelope(message.fields)
        yield from structure_pieces(message, extended=extended)
    items = []
    if part.is_message or part.media_type == b"text":
        items.append(b" %d" % part.lines)
    if extended:
        items.append(b" %b" % nstring(_clean(part.field(b"content-md5"))))
        items.append(b" %b" % _extension(part))
    yield b"".join(items) + b")"


def _basic_fields(part: Part) -> tuple[bytes, ...]:
    return (
        string(part.media_type),
        string(part.media_subtype),
        _parameters(part.parameters or _default_parameters(part)),
        nstring(_clean(part.field(b"content-id"))),
        nstring(_clean(part.field(b"content-description"))),
        string(_encoding(part)),
        b"%d" % part.size,
    )


def _default_parameters(part: Part) -> Parameters:
    # RFC 2045 §5.2: a part that does not say so is plain US-ASCII text.
    is_plain = part.media_type == b"text" and part.field(b"content-type") is None
    return ((b"charset", b"us-ascii"),) if is_plain else ()


def _encoding(part: Part) -> bytes:
    return _clean(part.field(b"content-transfer-encoding")) or b"7bit"


def _parameters(parameters: Parameters) -> bytes:
    if not parameters:
        return NIL
    whole = join_continuations(parameters)
    pairs = (b"%b %b" % (string(name), string(_clean(value) or b"")) for name, value in whole)
    return b"(%b)" % b" ".join(pairs)


def _extension(part: Part) -> bytes:
    """Render disposition, language, location."""
    disposition = part.field(b"content-disposition")
    shown = NIL
    if disposition:
        kind, parameters = parse_parameterised(disposition)
        shown = b"(%b %b)" % (string(_clean(kind) or b""), _parameters(parameters))
    language = [
        string(tag)
        for item in (part.field(b"content-language") or b"").split(b",")[:MAX_LANGUAGES]
        if (tag := _clean(item))
    ]
    languages = b"(%b)" % b" ".join(language) if language else NIL
    return b"%b %b %b" % (shown, languages, nstring(_clean(part.field(b"content-location"))))


def _clean(value: bytes | None) -> bytes | None:
    return None if value is None else _SPACE.sub(b" ", value).strip()


# --- addresses -------------------------------------------------------------------------------


def _addresses(value: bytes | None, reader: AddressReader) -> bytes:
    found = reader.read(value) if value else []
    if not found:
        return NIL
    return b"(%b)" % b"".join(
        b"(%b NIL %b %b)" % (nstring(_clean(name)), nstring(mailbox), nstring(host))
        for name, mailbox, host in found
    )
