"""Octets of messages as rows: written with the rows that point at them, read in parts."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import attrs

from chatmail.adapters.storage.errors import StoreFailed
from chatmail.adapters.storage.postgresql.link import Link
from chatmail.adapters.storage.spool import RESERVED_BYTES, SegmentSpool
from chatmail.domain.model.mailbox import MailboxEntry
from chatmail.domain.model.message import Body

RECENT_BYTES: Final = 16 * 1024 * 1024
RECENT_MESSAGE_BYTES: Final = 256 * 1024
PIECE_BYTES: Final = 1024 * 1024
"""A larger body is stored in pieces of this size: what is in memory of it at a time."""

MAX_QUERY_BYTES: Final = 4 * 1024 * 1024

_STORE: Final = "INSERT INTO contents (blob, header, body) VALUES (%s, %s, %s)"
_STORE_PIECE: Final = "INSERT INTO pieces (blob, number, octets) VALUES (%s, %s, %s)"
_READ_PIECES: Final = """SELECT part.number, substring(octets FROM part.first FOR part.length)
    FROM unnest(%s::int[], %s::bigint[], %s::int[], %s::int[], %s::int[])
        AS part (number, blob, piece, first, length)
    JOIN pieces ON pieces.blob = part.blob AND pieces.number = part.piece
    ORDER BY part.number, part.piece"""
# substring counts from 1; of a value that is stored in pieces it reads only those it needs.
_READ: Final = """SELECT part.number,
        substring(header FROM part.header_from FOR part.header_length)
        || substring(body FROM part.body_from FOR part.body_length)
    FROM unnest(%s::int[], %s::bigint[], %s::int[], %s::int[], %s::int[], %s::int[])
        AS part (number, blob, header_from, header_length, body_from, body_length)
    JOIN contents ON contents.blob = part.blob"""


class ContentMissing(Exception):
    """A row promises octets that are not there, or fewer than it says."""


def store_spooled(link: Link, bodies: Mapping[int, Body]) -> None:
    """Insert the large contents, by blob id, inside the batch's transaction.

    They lie in the spool; one piece at a time is in memory. Small ones travel with their rows.
    Raises:  StorageFault.
    """
    for blob, body in bodies.items():
        if isinstance(body.spooled, SegmentSpool):
            if body.content_size > PIECE_BYTES:
                link.execute(_STORE, blob, bytes(body.header), b"")
                for number, octets in enumerate(_pieces(body.spooled)):
                    link.execute(_STORE_PIECE, blob, number, octets)
            else:
                link.execute(_STORE, blob, bytes(body.header), b"".join(_pieces(body.spooled)))


def _pieces(spool: SegmentSpool) -> Iterator[bytes]:
    for start in range(0, spool.content_size, PIECE_BYTES):
        length = min(PIECE_BYTES, spool.content_size - start)
        octets = os.pread(spool.fd, length, RESERVED_BYTES + start)
        if len(octets) != length:
            raise StoreFailed("the spool ends too early")
        yield octets


@attrs.frozen
class Part:
    """A span of one message, within its bounds."""

    entry: MailboxEntry
    start: int
    length: int

    @staticmethod
    def of(entry: MailboxEntry, start: int, length: int) -> Part:
        """Cut the wish down to what there is."""
        start = max(0, start)
        return Part(entry, start, max(0, min(length, entry.size - start)))

    @property
    def blob(self) -> int:
        """Return whose octets these are."""
        blob: int = self.entry.blob.blob
        return blob

    def row(self) -> tuple[int, int, int, int, int]:
        """Return blob, and first octet (from 1) and length within header block and body."""
        border = self.entry.header_size
        end = self.start + self.length
        in_header = max(0, min(end, border) - self.start)
        body_from = max(self.start, border) - border
        return (self.blob, self.start + 1, in_header, body_from + 1, self.length - in_header)

    @property
    def is_in_pieces(self) -> bool:
        """Say whether the body lies in pieces."""
        return self.entry.size - self.entry.header_size > PIECE_BYTES

    def pieces(self) -> Iterator[tuple[int, int, int]]:
        """Yield (piece, first octet from 1, length) for what the part has of the body."""
        _, _, _, first, length = self.row()
        start, end = first - 1, first - 1 + length
        while start < end:
            piece, offset = divmod(start, PIECE_BYTES)
            taken = min(PIECE_BYTES - offset, end - start)
            yield piece, offset + 1, taken
            start += taken


def read_parts(link: Link, parts: Sequence[Part]) -> list[bytes]:
    """Read parts, several in one query; blocks.

    Raises:  ContentMissing; StorageFault.
    """
    found: list[bytes] = []
    group: list[Part] = []
    octets = 0
    for part in parts:
        if group and octets + part.length > MAX_QUERY_BYTES:
            found += _read_group(link, group)
            group, octets = [], 0
        group.append(part)
        octets += part.length
    return found + _read_group(link, group)


def _read_group(link: Link, parts: Sequence[Part]) -> list[bytes]:
    numbers = list(range(len(parts)))
    spans = [part.row() for part in parts]
    # Of a body in pieces the row has nothing.
    rows = [
        (*span[:4], 0) if part.is_in_pieces else span
        for part, span in zip(parts, spans, strict=True)
    ]
    columns = [list(column) for column in zip(*rows, strict=True)]
    found = {number: [octets] for number, octets in link.look(_READ, numbers, *columns)}
    pieces = [
        (number, part.blob, *piece)
        for number, part in enumerate(parts)
        if part.is_in_pieces
        for piece in part.pieces()
    ]
    if pieces:
        columns = [list(column) for column in zip(*pieces, strict=True)]
        for number, octets in link.look(_READ_PIECES, *columns):
            found.setdefault(number, []).append(octets)
    whole = [b"".join(found.get(number, ())) for number in numbers]
    if any(len(octets) != part.length for octets, part in zip(whole, parts, strict=True)):
        raise ContentMissing("a message is not whole")
    return whole


class RecentContents:
    """Small messages of the last commits: a client that was just woken asks for them at once."""

    def __init__(self, max_bytes: int = RECENT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._known: OrderedDict[int, bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def add(self, blob: int, body: Body) -> None:
        """Keep a message; the oldest ones go."""
        if body.spooled is not None or body.size > RECENT_MESSAGE_BYTES:
            return
        octets = b"".join((body.header, *body.chunks))
        self._known[blob] = octets
        self._bytes += len(octets)
        while self._bytes > self._max_bytes:
            self._bytes -= len(self._known.popitem(last=False)[1])

    def part(self, part: Part) -> bytes | None:
        """Return octets if the message is known."""
        octets = self._known.get(part.blob)
        return None if octets is None else octets[part.start : part.start + part.length]
