"""Rule O-20: what is said to be ciphertext must not compress. Samples, and the test of them."""

from __future__ import annotations

import zlib
from typing import Final

SAMPLE_OCTETS: Final = 32 * 1024


class Sample:
    """The first and the last 32 KiB of a stream of octets, and how many there were."""

    def __init__(self, head_octets: int = SAMPLE_OCTETS) -> None:
        """Begin with nothing. `head_octets`: how much of the start is kept."""
        self.size = 0
        self._head_octets = head_octets
        self.head = bytearray()
        self._tail = bytearray()

    def add(self, octets: bytes) -> None:
        """Take more octets."""
        self.size += len(octets)
        room = self._head_octets - len(self.head)
        if room > 0:
            self.head += octets[:room]
            octets = octets[room:]
        if octets:
            self._tail += octets[-self._head_octets :]
            if len(self._tail) > 4 * self._head_octets:
                del self._tail[: -self._head_octets]

    def octets(self, skip: int = 0) -> bytes:
        """Return what O-20 looks at, without the first `skip` octets: at most 64 KiB."""
        if len(self.head) + len(self._tail) < self.size:
            return bytes(self.head[skip : skip + SAMPLE_OCTETS] + self._tail[-SAMPLE_OCTETS:])
        whole = bytes(self.head[skip:] + self._tail)
        if len(whole) <= 2 * SAMPLE_OCTETS:
            return whole
        return whole[:SAMPLE_OCTETS] + whole[-SAMPLE_OCTETS:]


def compresses(octets: bytes, percent: int) -> bool:
    """Say whether zlib at level 1 leaves less than `percent` of the octets.

    Source:  spec policy O-20. It compresses, it never decompresses.
    """
    # A window of 4 KiB finds the same matches in 3 KiB as one of 32 KiB, and takes half the time to
    # set up; a test compares the two.
    window_bits = 12 if len(octets) <= 3072 else 15
    squeezer = zlib.compressobj(1, zlib.DEFLATED, window_bits)
    size = len(squeezer.compress(octets)) + len(squeezer.flush())
    return 100 * size < percent * len(octets)
