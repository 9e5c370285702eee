"""Renders ENVELOPE, BODY and BODYSTRUCTURE.

Header values are passed on as they stand (RFC 2047 words stay encoded); white space is folded to
single spaces. Total: whatever the header fields hold, the result fits the grammar.
Source:  RFC 3501 §7.4.2 and §9 (envelope, body); RFC 5322 §3.4 for addresses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from chatmail.domain.formats.header_fields import field_value, iter_fields
from chatmail.domain.formats.mime_structure import (
    ENVELOPE_FIELDS,
    Parameters,
    Part,
    parse_parameterised,
    unescape,
)
from chatmail.domain.wire.imap.responses import NIL, nstring, string

MAX_ADDRESSES: Final = 1000
MAX_VALUE: Final = 64 * 1024

_SPACE: Final = re.compile(rb"[\x00-\x20]+")
_LEXEME: Final = re.compile(
    rb"\"(?P<quoted>(?:[^\"\\]|\\.)*)\"?"
    rb"|(?P<literal>\[[^\]]*\]?)"
    rb"|(?P<atom>[^\s\"(),:;<>@\[\]]+)"
    rb"|(?P<special>[(),:;<>@])",
    re.DOTALL,
)

Lexeme = tuple[str, bytes]
Address = tuple[bytes | None, bytes | None, bytes | None]
"""(display name, mailbox, host); a group starts with (None, name, None), ends with all None."""


def envelope(fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Render an ENVELOPE from (lower-case name, unfolded value) pairs.

    Sender and Reply-To default to From (RFC 3501 §7.4.2).
    """
    first: dict[bytes, bytes] = {}
    for name, value in fields:
        first.setdefault(name, value[:MAX_VALUE])
    author = _addresses(first.get(b"from"))
    items = (
        nstring(_clean(first.get(b"date"))),
        nstring(_clean(first.get(b"subject"))),
        author,
        _addresses(first.get(b"sender")) if first.get(b"sender") else author,
        _addresses(first.get(b"reply-to")) if first.get(b"reply-to") else author,
        _addresses(first.get(b"to")),
        _addresses(first.get(b"cc")),
        _addresses(first.get(b"bcc")),
        nstring(_clean(first.get(b"in-reply-to"))),
        nstring(_clean(first.get(b"message-id"))),
    )
    return b"(%b)" % b" ".join(items)


def header_envelope(header: bytes) -> bytes:
    """Render an ENVELOPE from a raw header block."""
    return envelope(
        [
            (name, field_value(field))
            for name, field in iter_fields(header)
            if name in ENVELOPE_FIELDS
        ]
    )


def body_structure(part: Part, *, extended: bool) -> bytes:
    """Render BODYSTRUCTURE (`extended`) or BODY of a part and all below it."""
    if part.is_multipart:
        children = b"".join(body_structure(child, extended=extended) for child in part.children)
        tail = b" %b %b" % (_parameters(part.parameters), _extension(part)) if extended else b""
        return b"(%b %b%b)" % (children, string(part.media_subtype), tail)
    items = [
        string(part.media_type),
        string(part.media_subtype),
        _parameters(part.parameters or _default_parameters(part)),
        nstring(_clean(part.field(b"content-id"))),
        nstring(_clean(part.field(b"content-description"))),
        string(_encoding(part)),
        b"%d" % part.size,
    ]
    if part.is_message:
        message = part.children[0]
        items.append(envelope(message.fields))
        items.append(body_structure(message, extended=extended))
    if part.is_message or part.media_type == b"text":
        items.append(b"%d" % part.lines)
    if extended:
        items.append(nstring(_clean(part.field(b"content-md5"))))
        items.append(_extension(part))
    return b"(%b)" % b" ".join(items)


def _default_parameters(part: Part) -> Parameters:
    # RFC 2045 §5.2: a part that does not say so is plain US-ASCII text.
    is_plain = part.media_type == b"text" and part.field(b"content-type") is None
    return ((b"charset", b"us-ascii"),) if is_plain else ()


def _encoding(part: Part) -> bytes:
    return _clean(part.field(b"content-transfer-encoding")) or b"7bit"


def _parameters(parameters: Parameters) -> bytes:
    if not parameters:
        return NIL
    pairs = (b"%b %b" % (string(name), string(_clean(value) or b"")) for name, value in parameters)
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
        for item in (part.field(b"content-language") or b"").split(b",")
        if (tag := _clean(item))
    ]
    languages = b"(%b)" % b" ".join(language) if language else NIL
    return b"%b %b %b" % (shown, languages, nstring(_clean(part.field(b"content-location"))))


def _clean(value: bytes | None) -> bytes | None:
    return None if value is None else _SPACE.sub(b" ", value).strip()


# --- addresses -------------------------------------------------------------------------------


def _addresses(value: bytes | None) -> bytes:
    found = parse_addresses(value) if value else []
    if not found:
        return NIL
    return b"(%b)" % b"".join(
        b"(%b NIL %b %b)" % (nstring(_clean(name)), nstring(mailbox), nstring(host))
        for name, mailbox, host in found
    )


def parse_addresses(value: bytes) -> list[Address]:
    """Parse an address list leniently, groups included. Total; at most 1000 addresses.

    Source:  RFC 5322 §3.4, §4.4; RFC 3501 §7.4.2 for how groups are shown.
    """
    found: list[Address] = []
    current: list[Lexeme] = []
    in_group = False
    in_angle = False
    for lexeme in (*_lexemes(value), ("special", b";")):
        kind, text = lexeme
        if kind == "special":
            in_angle = (in_angle or text == b"<") and text != b">"
            if text == b":" and not in_angle and not in_group:
                found.append((None, _phrase(current) or b"", None))
                in_group, current = True, []
                continue
            if text == b";" or (text == b"," and not in_angle):
                _end_address(current, found)
                current = []
                in_angle = False
                if text == b";" and in_group:
                    found.append((None, None, None))
                    in_group = False
                if len(found) >= MAX_ADDRESSES:
                    break
                continue
        current.append(lexeme)
    if in_group:
        found.append((None, None, None))
    return found


def _end_address(lexemes: list[Lexeme], found: list[Address]) -> None:
    if not lexemes:
        return
    if ("special", b"<") in lexemes:
        start = lexemes.index(("special", b"<"))
        name, spec = _phrase(lexemes[:start]), lexemes[start + 1 :]
        if ("special", b":") in spec:  # an obsolete source route
            spec = spec[spec.index(("special", b":")) + 1 :]
    else:
        name, spec = None, lexemes
    if ("special", b"@") in spec:
        at = len(spec) - 1 - spec[::-1].index(("special", b"@"))
        local, host = spec[:at], spec[at + 1 :]
        found.append((name, _glued(local), _glued(host)))
    elif spec or name:
        # RFC 3501 has no form for an address without a domain: an empty host keeps it apart from
        # a group start, whose host is NIL.
        found.append((name, _glued(spec), b""))


def _phrase(lexemes: list[Lexeme]) -> bytes | None:
    return b" ".join(text for kind, text in lexemes if kind != "special") or None


def _glued(lexemes: list[Lexeme]) -> bytes:
    return b"".join(text for kind, text in lexemes if kind != "special")


def _lexemes(value: bytes) -> list[Lexeme]:
    """Split into quoted strings (unquoted), atoms, domain literals, specials; drop comments."""
    found: list[Lexeme] = []
    depth = 0
    for match in _LEXEME.finditer(value):
        kind, text = str(match.lastgroup), match[0]
        if kind == "special" and text in (b"(", b")"):
            depth = max(0, depth + (1 if text == b"(" else -1))
        elif depth == 0:
            if kind == "quoted":
                text = unescape(match["quoted"])
            found.append((kind if kind == "special" else "word", text))
    return found
