"""RFC 5322 header blocks: strict fields with their spans, mailboxes, edits that keep other octets.

A block is raw CRLF octets up to and including the empty line that ends it. Nothing is decoded and
nothing is repaired: a block that is not exactly a list of fields has a fault instead of fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, TypeAlias

import attrs

from chatmail.domain.model.address import AddressError, EmailAddress
from chatmail.domain.model.message import AddField, DeleteField, HeaderEdit, ReplaceValue

Field: TypeAlias = tuple[bytes, int, int, int]
"""Name in lower case; offsets of the field, of the octet after its colon, of the next field."""

# The value runs over folds: CRLF followed by SP or HT. Possessive, so that no input backtracks.
_FIELD: Final = re.compile(rb"([!-9;-~]++):([^\r\n]*+(?:\r\n[ \t][^\r\n]*+)*+)\r\n")

# --- the block ---------------------------------------------------------------------------------


@attrs.frozen
class HeaderBlock:
    """A header block and its fields, in order.

    `fault` is H-01 or H-02 when a line is no field; `fields` then end before that line.
    """

    octets: bytes
    fields: tuple[Field, ...]
    fault: str | None = None

    def values(self, name: bytes) -> list[bytes]:
        """Return the unfolded, trimmed values of all fields of this name (lower case)."""
        return [self.value(field) for field in self.fields if field[0] == name]

    def first(self, name: bytes) -> bytes | None:
        """Return the first of `values`, None if there is none."""
        for field in self.fields:
            if field[0] == name:
                return self.value(field)
        return None

    def value(self, field: Field) -> bytes:
        """Return the unfolded value of one field without the spaces around it."""
        return unfold(self.octets[field[2] : field[3]])


def unfold(value: bytes) -> bytes:
    """Take the line ends out of a raw field value, and the spaces around it.

    Source:  RFC 5322 §2.2.3.
    """
    return value.replace(b"\r\n", b"").strip(b" \t")


def parse_header(octets: bytes) -> HeaderBlock:
    """Cut a header block into fields.

    Args:  octets: the block with the empty line that ends it.
    Source:  RFC 5322 §2.2, §3.6.8; spec policy H-01, H-02.
    """
    fields: list[Field] = []
    position, end = 0, len(octets) - 2
    match = _FIELD.match
    while position < end:
        found = match(octets, position)
        if found is None:
            is_fold = position == 0 and octets[:1] in (b" ", b"\t")
            return HeaderBlock(octets, tuple(fields), "H-02" if is_fold else "H-01")
        after = found.end()
        fields.append((found[1].lower(), position, found.start(2), after))
        position = after
    return HeaderBlock(octets, tuple(fields), None if position == end else "H-01")


def end_of_header(octets: bytes | bytearray, start: int = 0) -> int:
    """Return the offset after the empty line that ends the header block, -1 if there is none.

    Args:  start: where to look; octets before it were looked at already.
    """
    if octets[:2] == b"\r\n":
        return 2
    found = octets.find(b"\r\n\r\n", start)
    return found + 4 if found >= 0 else -1


# --- edits -------------------------------------------------------------------------------------


def edit_header(header: bytes, edits: Sequence[HeaderEdit]) -> bytes:
    """Apply edits to a header block; every octet that no edit names stays as it is.

    Deletions and replacements concern all fields of their name, in the block as given;
    added fields come last, in the order of the edits.

    Args:  header: a block with its empty line, free of faults.
    """
    if not edits:
        return header
    deleted = {edit.name.lower() for edit in edits if isinstance(edit, DeleteField)}
    replaced = {edit.name.lower(): edit.value for edit in edits if isinstance(edit, ReplaceValue)}
    added = [edit for edit in edits if isinstance(edit, AddField)]
    block = parse_header(header)
    pieces = list(_edited(block, deleted, replaced))
    pieces += [b"%b: %b\r\n" % (edit.name, edit.value) for edit in added]
    pieces.append(header[block.fields[-1][3] if block.fields else 0 :])
    return b"".join(pieces)


def _edited(
    block: HeaderBlock, deleted: set[bytes], replaced: dict[bytes, bytes]
) -> Iterator[bytes]:
    for name, start, value, end in block.fields:
        if name in deleted:
            continue
        if name in replaced:
            yield b"%b %b\r\n" % (block.octets[start:value], replaced[name])
        else:
            yield block.octets[start:end]


# --- mailboxes ---------------------------------------------------------------------------------

_ATEXT: Final = rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_QUOTED: Final = rb'"(?:[^"\\\r\n]|\\[^\r\n])*+"'
# No folding space or comment inside: legal, written by nobody, and read differently by everybody.
# The groups are not possessive: Python 3.11.2 (Debian 12) keeps what a failed turn of such a group
# had consumed, and `a.@b` would be an address there. Each turn begins with a dot: no backtracking.
_ADDR_SPEC: Final = re.compile(
    rb"(?:(%(a)b++(?:\.%(a)b++)*)|(%(q)b))@(%(a)b++(?:\.%(a)b++)*|\[[!-Z^-~]++\])"
    % {b"a": _ATEXT, b"q": _QUOTED}
)
_WORDS: Final = re.compile(rb"(?:%b++|%b|\.)" % (_ATEXT, _QUOTED))
_SPACE: Final = re.compile(rb"[ \t\r\n]*+")
_COMMENT_PART: Final = re.compile(rb"(?:[^()\\\r\n]|\\.|\r\n[ \t])*+([()])", re.DOTALL)
_QUOTED_PAIR: Final = re.compile(rb"\\(.)", re.DOTALL)
_CACHED_OCTETS: Final = 400
_MAX_MAILBOXES: Final = 16  # a list is refused anyway; this bounds the time it takes


def parse_mailboxes(value: bytes) -> tuple[EmailAddress, ...]:
    """Parse a mailbox list (From, Sender): real tokens, never a search for brackets.

    Returns:  the addresses in order, normalised. Empty when the list is empty, malformed, holds a
        group or a route, when one address is none in the sense of `EmailAddress.parse`, or when
        there are more than 16.
    Source:  RFC 5322 §3.4 without obsolete forms; spec policy 1.7.
    """
    return _cached_mailboxes(value) if len(value) <= _CACHED_OCTETS else _mailboxes(value)


def parse_mailbox(value: bytes) -> EmailAddress | None:
    """Parse a value that must be exactly one mailbox; None if it is anything else."""
    mailboxes = parse_mailboxes(value)
    return mailboxes[0] if len(mailboxes) == 1 else None


def _mailboxes(value: bytes) -> tuple[EmailAddress, ...]:
    found: list[EmailAddress] = []
    position = 0
    try:
        while len(found) < _MAX_MAILBOXES:
            address, position = _mailbox(value, position)
            found.append(address)
            if position == len(value):
                return tuple(found)
            position = _expect(value, position, b",")
    except AddressError:
        pass
    return ()


_cached_mailboxes = lru_cache(maxsize=2048)(_mailboxes)


def _mailbox(value: bytes, position: int) -> tuple[EmailAddress, int]:
    position = _skip_cfws(value, position)
    bare = _ADDR_SPEC.match(value, position)
    if bare is not None:
        return _address(bare), _skip_cfws(value, bare.end())
    while (word := _WORDS.match(value, position)) is not None:
        position = _skip_cfws(value, word.end())
    position = _skip_space(value, _expect(value, position, b"<"))
    angled = _ADDR_SPEC.match(value, position)
    if angled is None:
        raise AddressError("no address in angle brackets")
    position = _expect(value, _skip_space(value, angled.end()), b">")
    return _address(angled), _skip_cfws(value, position)


def _expect(value: bytes, position: int, octet: bytes) -> int:
    if value[position : position + 1] != octet:
        raise AddressError("unexpected octet in a mailbox list")
    return position + 1


def _skip_space(value: bytes, position: int) -> int:
    found = _SPACE.match(value, position)
    return found.end() if found else position


def _skip_cfws(value: bytes, position: int) -> int:
    """Skip spaces and comments, nested ones too."""
    position = _skip_space(value, position)
    while value[position : position + 1] == b"(":
        position = _skip_space(value, _skip_comment(value, position + 1))
    return position


def _skip_comment(value: bytes, position: int) -> int:
    depth = 1
    while depth:
        part = _COMMENT_PART.match(value, position)
        if part is None:
            raise AddressError("comment does not end")
        depth += 1 if part[1] == b"(" else -1
        position = part.end()
    return position


def _address(found: re.Match[bytes]) -> EmailAddress:
    atoms, quoted, domain = found.groups()
    local = atoms if atoms is not None else _QUOTED_PAIR.sub(rb"\1", quoted[1:-1])
    if not local.isascii():
        raise AddressError("local part is not ASCII")
    return EmailAddress.parse(f"{local.decode('ascii')}@{domain.decode('ascii')}")
