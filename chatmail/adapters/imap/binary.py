"""FETCH BINARY: a part with its transfer encoding undone, in pieces.

The size stands before the octets, so a part is decoded twice: once to be measured, once to be
sent. Memory: one piece; time: two readings of the part, however small the range that is asked for.
Source:  RFC 9051 §6.4.5 (BINARY, BINARY.SIZE), §7.5.2; RFC 3516 §4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
import trio

from chatmail.adapters.imap.replies import Reply
from chatmail.adapters.imap.session import Session
from chatmail.adapters.imap.waits import Farewell
from chatmail.domain.formats.mime_structure import Part, find_part
from chatmail.domain.formats.transfer_encoding import Decoder, Identity, decoder_for
from chatmail.domain.model.mailbox import MailboxEntry
from chatmail.domain.wire.imap.commands import BodySection
from chatmail.domain.wire.imap.fetch import binary_head

PIECE_OCTETS: Final = 64 * 1024
UNKNOWN_CTE: Final = Reply("UNKNOWN-CTE", "A part is not encoded as it says")


class UnknownEncoding(Exception):
    """A part cannot be decoded: the command is answered with NO [UNKNOWN-CTE]."""


@attrs.frozen
class Measured:
    """Decoded octets of a section: all of them, those in the range that was asked for."""

    total: int
    told: int
    has_nul: bool


class _Range:
    """Cuts `<offset.length>` out of octets that come in pieces."""

    __slots__ = ("_left", "_skip")

    def __init__(self, partial: tuple[int, int] | None) -> None:
        self._skip = 0 if partial is None else partial[0]
        self._left = None if partial is None else partial[1]

    def cut(self, octets: bytes) -> bytes:
        """Return what of the next piece lies inside."""
        inside = octets[self._skip :]
        self._skip = max(0, self._skip - len(octets))
        if self._left is not None:
            inside = inside[: self._left]
            self._left -= len(inside)
        return inside


def _place(section: BodySection, entry: MailboxEntry, tree: Part) -> tuple[int, int] | None:
    if not section.part:
        return 0, entry.size
    part = find_part(tree, section.part)
    return None if part is None else (part.body_start, part.size)


def _decoder(section: BodySection, tree: Part) -> Decoder:
    part = find_part(tree, section.part) if section.part else None
    if part is None or part.children:
        return Identity()  # RFC 2045 §6.4: a composite part has no encoding of its own
    encoding = (part.field(b"content-transfer-encoding") or b"7bit").strip().lower()
    decoder = Identity() if encoding == b"binary" else decoder_for(encoding)
    if decoder is None:
        raise UnknownEncoding
    return decoder


async def _decode(
    session: Session,
    section: BodySection,
    entry: MailboxEntry,
    tree: Part,
    take: Callable[[bytes], None],
) -> bool:
    """Hand out the decoded octets piece by piece; False: there is no such part."""
    span = _place(section, entry, tree)
    if span is None:
        return False
    offset, length = span
    decoder = _decoder(section, tree)
    while length:
        piece = await session.services.store.read(entry, offset, min(length, PIECE_OCTETS))
        if not piece:
            raise Farewell  # shorter than its index entry
        offset += len(piece)
        length -= len(piece)
        take(decoder.feed(piece))
        if decoder.failed:
            raise UnknownEncoding
        await session.flush_if_large()
        await trio.lowlevel.checkpoint()
    take(decoder.finish())
    if decoder.failed:
        raise UnknownEncoding
    return True


async def measure(
    session: Session, section: BodySection, entry: MailboxEntry, tree: Part
) -> Measured | None:
    """Decode a section for its size; None: there is no such part.

    Raises:  UnknownEncoding. TransientFailure: it could not be read.
    """
    total = told = 0
    has_nul = False
    inside = _Range(section.partial)

    def take(octets: bytes) -> None:
        nonlocal total, told, has_nul
        total += len(octets)
        cut = inside.cut(octets)
        told += len(cut)
        has_nul = has_nul or b"\0" in cut

    is_there = await _decode(session, section, entry, tree, take)
    return Measured(total, told, has_nul) if is_there else None


async def tell_binary(
    session: Session,
    section: BodySection,
    entry: MailboxEntry,
    tree: Part,
    measured: Measured | None,
    *,
    is_first: bool,
) -> None:
    """Queue a BINARY or BINARY.SIZE item that was measured before its line began."""
    session.send(b"" if is_first else b" ")
    if section.is_size:
        session.send(b"%b %d" % (section.label, measured.total if measured else 0))
        return
    if measured is None:
        session.send(binary_head(section, None))
        return
    session.send(binary_head(section, measured.told, has_nul=measured.has_nul))
    inside = _Range(section.partial)
    session.is_in_literal = True
    try:
        await _decode(
            session, section, entry, tree, lambda octets: session.send(inside.cut(octets))
        )
    except UnknownEncoding:
        raise Farewell from None  # it was whole a moment ago: the line cannot be completed
    session.is_in_literal = False
