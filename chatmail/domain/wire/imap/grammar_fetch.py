"""FETCH: items, sections, partials, modifiers.

Source:  RFC 3501 §6.4.5 and §9 (fetch-att, section), RFC 7162 §3.1.4 and §3.2.6.
"""

from __future__ import annotations

import functools
import re
from typing import Final, TypeAlias

import attrs

from chatmail.domain.wire.imap.commands import BodySection, Fetch, Section
from chatmail.domain.wire.imap.lexer import Lexer, SyntaxProblem, quoted
from chatmail.domain.wire.imap.sequence import MAX_NUMBER

# Bounds what one command can make of one message.
MAX_SECTIONS: Final = 64
MAX_PART_DEPTH: Final = 32
MAX_FIELDS: Final = 256
# Clients repeat a handful of item lists; longer ones are not worth their memory.
_CACHED_BYTES: Final = 1024

_MACROS: Final = {
    b"ALL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"),
    b"FAST": ("FLAGS", "INTERNALDATE", "RFC822.SIZE"),
    b"FULL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"),
}
_ATTRIBUTES: Final = {
    name.encode(): name
    for name in (
        *("FLAGS", "UID", "INTERNALDATE", "RFC822.SIZE"),
        *("ENVELOPE", "BODY", "BODYSTRUCTURE", "MODSEQ"),
        *("EMAILID", "THREADID"),
    )
}
_ALIASES: Final = {
    b"RFC822": BodySection(b"RFC822", Section.ALL),
    # RFC 3501 §6.4.5: RFC822.HEADER does not set \Seen, the other two do.
    b"RFC822.HEADER": BodySection(b"RFC822.HEADER", Section.HEADER, peek=True),
    b"RFC822.TEXT": BodySection(b"RFC822.TEXT", Section.TEXT),
}

_ITEM: Final = re.compile(rb"[A-Za-z0-9.]+")
_TEXT: Final = rb"HEADER\.FIELDS\.NOT|HEADER\.FIELDS|HEADER|TEXT"
_SECTION: Final = re.compile(
    rb"\[(?:([1-9][0-9]{0,9}(?:\.[1-9][0-9]{0,9})*)(?:\.(MIME|"
    + _TEXT
    + rb"))?|("
    + _TEXT
    + rb"))?",
    re.IGNORECASE,
)
_BINARIES: Final = frozenset((b"BINARY", b"BINARY.PEEK", b"BINARY.SIZE"))
_BINARY_SECTION: Final = re.compile(rb"\[([1-9][0-9]{0,9}(?:\.[1-9][0-9]{0,9})*)?\]")
_PARTIAL: Final = re.compile(rb"<([0-9]{1,10})\.([1-9][0-9]{0,9})>")
_FIELD_NAME: Final = re.compile(rb"[\x21-\x7e]{1,256}\Z")
_PLAIN_NAME: Final = re.compile(rb"[!#$&'+,\-./0-9;<=>?@A-Z^_`a-z|}~]+\Z")

Items: TypeAlias = tuple[tuple[str, ...], tuple[BodySection, ...]]


def parse_fetch(lexer: Lexer, by_uid: bool) -> Fetch:
    """Parse the arguments of FETCH or UID FETCH."""
    lexer.space()
    messages = lexer.sequence_set()
    lexer.space()
    if lexer.has_literals:
        attributes, sections = parse_items(lexer)
        lexer.accept_space()
        modifiers = lexer.rest()
    else:
        items, modifiers = _split_modifiers(lexer.rest())
        parse = _items_of if len(items) <= _CACHED_BYTES else _items_of.__wrapped__
        attributes, sections = parse(items, lexer.enabled)
    fetch = Fetch(messages, by_uid, attributes, sections)
    return _modified(fetch, modifiers) if modifiers else fetch


def _split_modifiers(text: bytes) -> tuple[bytes, bytes]:
    """Split `items (CHANGEDSINCE n …)`: a last list that is neither all nor inside brackets."""
    start = text.rfind(b"(") if text.endswith(b")") else 0
    if start <= 0 or text.find(b")", start) != len(text) - 1 or text[start - 1] != 0x20:
        return text, b""
    return text[:start].rstrip(b" "), text[start:]


@functools.lru_cache(maxsize=128)
def _items_of(text: bytes, enabled: frozenset[str]) -> Items:
    lexer = Lexer(text, enabled=enabled)
    items = parse_items(lexer)
    lexer.end()
    return items


def parse_items(lexer: Lexer) -> Items:
    """Consume what is to be fetched: one item, a macro, or a parenthesised list."""
    found: dict[str | BodySection, None] = {}
    if lexer.accept(b"("):
        found[_parse_item(lexer)] = None
        while not lexer.accept(b")"):
            lexer.space()
            found[_parse_item(lexer)] = None
    else:
        word = _ITEM.match(lexer.text, lexer.at)
        macro = _MACROS.get(word.group().upper()) if word else None
        if word and macro:
            lexer.at = word.end()
            return macro, ()
        found[_parse_item(lexer)] = None
    sections = tuple(item for item in found if isinstance(item, BodySection))
    if len(sections) > MAX_SECTIONS:
        raise SyntaxProblem(b"Too many body sections")
    return tuple(item for item in found if isinstance(item, str)), sections


def _parse_item(lexer: Lexer) -> str | BodySection:
    name = lexer.match(_ITEM, b"Expected a FETCH item").group().upper()
    if lexer.peek(b"["):
        if name in _BINARIES and "IMAP4REV2" in lexer.enabled:
            return _parse_binary(lexer, name)
        if name not in (b"BODY", b"BODY.PEEK"):
            raise SyntaxProblem(b"Unknown FETCH item")
        return _parse_section(lexer, peek=name == b"BODY.PEEK")
    item = _ATTRIBUTES.get(name) or _ALIASES.get(name)
    if item is None:
        raise SyntaxProblem(b"Unknown FETCH item")
    return item


def _parse_binary(lexer: Lexer, name: bytes) -> BodySection:
    """Parse BINARY[…], BINARY.PEEK[…]<…>, BINARY.SIZE[…] (RFC 9051 §6.4.5)."""
    numbers = lexer.match(_BINARY_SECTION, b"Invalid binary section")[1] or b""
    is_size = name == b"BINARY.SIZE"
    return BodySection(
        b"%b[%b]" % (name if is_size else b"BINARY", numbers),
        Section.ALL,
        _part_numbers(numbers),
        peek=name != b"BINARY",
        partial=None if is_size else _parse_partial(lexer),
        is_binary=True,
        is_size=is_size,
    )


def _part_numbers(text: bytes) -> tuple[int, ...]:
    part = tuple(map(int, text.split(b"."))) if text else ()
    if len(part) > MAX_PART_DEPTH or any(number > MAX_NUMBER for number in part):
        raise SyntaxProblem(b"Invalid body section")
    return part


def _parse_section(lexer: Lexer, *, peek: bool) -> BodySection:
    found = lexer.match(_SECTION, b"Invalid body section")
    part = _part_numbers(found[1] or b"")
    section = Section((found[2] or found[3] or b"").upper().decode("ascii"))
    fields: tuple[bytes, ...] = ()
    label = b".".join(filter(None, (found[1], section.value.encode("ascii"))))
    if section in (Section.HEADER_FIELDS, Section.HEADER_FIELDS_NOT):
        fields = _parse_fields(lexer)
        label += b" (" + b" ".join(map(_echo, fields)) + b")"
    lexer.expect(b"]")
    return BodySection(b"BODY[" + label + b"]", section, part, fields, peek, _parse_partial(lexer))


def _parse_fields(lexer: Lexer) -> tuple[bytes, ...]:
    lexer.space()
    lexer.expect(b"(")
    fields = [lexer.astring()]
    while not lexer.accept(b")"):
        lexer.space()
        fields.append(lexer.astring())
        if len(fields) > MAX_FIELDS:
            raise SyntaxProblem(b"Too many header fields")
    if not all(map(_FIELD_NAME.match, fields)):
        raise SyntaxProblem(b"Invalid header field name")
    return tuple(fields)


def _echo(field: bytes) -> bytes:
    """Return a field name as the reply spells it: names are echoed as sent (spec mail 4.2.7)."""
    return field if _PLAIN_NAME.match(field) else quoted(field)


def _parse_partial(lexer: Lexer) -> tuple[int, int] | None:
    if not lexer.peek(b"<"):
        return None
    found = lexer.match(_PARTIAL, b"Invalid partial")
    offset, length = int(found[1]), int(found[2])
    if offset > MAX_NUMBER or length > MAX_NUMBER:
        raise SyntaxProblem(b"Invalid partial")
    return offset, length


def _modified(fetch: Fetch, text: bytes) -> Fetch:
    """Add CHANGEDSINCE and VANISHED, in either order."""
    changed_since: int | None = None
    vanished = False
    lexer = Lexer(text)
    lexer.expect(b"(")
    while True:
        name = lexer.keyword()
        if name == "CHANGEDSINCE":
            lexer.space()
            changed_since = lexer.modseq(least=0)
        elif name == "VANISHED":
            vanished = True
        else:
            raise SyntaxProblem(b"Unknown FETCH modifier")
        if lexer.accept(b")"):
            break
        lexer.space()
    lexer.end()
    # RFC 7162 §3.2.6: VANISHED needs UID FETCH and CHANGEDSINCE.
    if vanished and (not fetch.by_uid or changed_since is None):
        raise SyntaxProblem(b"VANISHED needs UID FETCH with CHANGEDSINCE")
    return attrs.evolve(fetch, changed_since=changed_since, vanished=vanished)
