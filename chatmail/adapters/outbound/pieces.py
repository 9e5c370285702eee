"""The octets of a letter in pieces: never more than one of them in memory.

Source:  spec federation-web.md A4.10.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.ports.remote import Letter

PIECE_OCTETS: Final = 65536


async def pieces(letter: Letter) -> AsyncIterator[tuple[bytes, bool]]:
    """Yield the octets of a letter, prefix first, in pieces of at most 64 KiB or so.

    Yields:  (octets, is_last); a small letter is one piece.
    Raises:  TransientFailure: the store has less than it said.
    """
    offset, head = 0, letter.prefix
    while True:
        wanted = min(PIECE_OCTETS, letter.size - offset)
        octets = await letter.read(offset, wanted) if wanted else b""
        if wanted and not octets:
            raise TransientFailure("the content is shorter than it was")
        offset += len(octets)
        yield (head + octets if head else octets), offset >= letter.size
        if offset >= letter.size:
            return
        head = b""
