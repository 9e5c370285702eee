"""Octets of messages as rows: written with the rows that point at them, read in parts."""

from __future__ import annotations

import mmap
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from chatmail.adapters.storage.postgresql.link import Link
from chatmail.adapters.storage.spool import RESERVED_BYTES, SegmentSpool
from chatmail.domain.model.mailbox import MailboxEntry
from chatmail.domain.model.message import Body

RECENT_BYTES: Final = 16 * 1024 * 1024
RECENT_MESSAGE_BYTES: Final = 256 * 1024
MAX_QUERY_BYTES: Final = 4 * 1024 * 1024

_STORE: Final = "INSERT INTO contents (blob, header, body) VALUES (%s, %s, %s)"
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

    They lie in the spool; one at a time is in memory. Small ones travel with their rows.
    Raises:  StorageFault.
    """
    for blob, body in bodies.items():
        if isinstance(body.spooled, SegmentSpool):
            link.execute(_STORE, blob, bytes(body.header), _spooled(body.spooled))


def _spooled(spool: SegmentSpool) -> memoryview:
    if not spool.content_size:
        return memoryview(b"")
    length = RESERVED_BYTES + spool.content_size
    view = memoryview(mmap.mmap(spool.fd, length, prot=mmap.PROT_READ))
    return view[RESERVED_BYTES:]


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
    columns = zip(*(part.row() for part in parts), strict=True)
    numbers = list(range(len(parts)))
    rows = link.look(_READ, numbers, *(list(column) for column in columns))
    found = dict(rows)
    pieces = [found.get(number) for number in numbers]
    for part, piece in zip(parts, pieces, strict=True):
        if piece is None or len(piece) != part.length:
            raise ContentMissing("a message is not whole")
    return [bytes(piece) for piece in pieces if piece is not None]


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
