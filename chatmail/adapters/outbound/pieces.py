"""The octets of a letter in pieces: never more than one of them in memory.

Source:  spec federation-web.md A4.10.
"""

from __future__ import annotations

from typing import Final

from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.ports.remote import Letter

PIECE_OCTETS: Final = 65536


class Pieces:
    """Reads one letter from its beginning; `is_over`: nothing is left."""

    def __init__(self, letter: Letter) -> None:
        self.is_over = False
        self._letter = letter
        self._offset = 0

    async def take(self) -> bytes:
        """Return the next piece: the prefix with up to 64 KiB, then up to 64 KiB each.

        Raises:  TransientFailure: the octets cannot be read, or the store has less than it said.
        """
        letter = self._letter
        head = b"" if self._offset else letter.prefix
        wanted = min(PIECE_OCTETS, letter.size - self._offset)
        octets = await letter.read(self._offset, wanted) if wanted else b""
        if wanted and not octets:
            raise TransientFailure("the content is shorter than it was")
        self._offset += len(octets)
        self.is_over = self._offset >= letter.size
        return head + octets if head else octets
