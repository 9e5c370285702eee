"""How a fuzzer's input says what to feed, and in which pieces.

The first eight octets are choices, the rest is the payload: so a mutation of one rarely disturbs
the other, and a seed is read by eye.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import attrs

HEAD = 8
SINGLE_OCTETS_UP_TO = 600


@attrs.frozen
class Input:
    """Choices and payload of one input.

    `options` and `more` are for the target, `sizes` say how the payload is cut.
    """

    options: int
    more: int
    sizes: tuple[int, ...]
    payload: bytes

    def pieces(self, payload: bytes | None = None) -> list[bytes]:
        """Return the payload cut into pieces, none of them empty."""
        octets = self.payload if payload is None else payload
        sizes = itertools.cycle(self.sizes)
        return list(_cut(octets, sizes))

    def ways(self, payload: bytes | None = None) -> Iterator[list[bytes]]:
        """Yield the payload cut as chosen; and, if it is short, in single octets."""
        octets = self.payload if payload is None else payload
        yield self.pieces(octets)
        if len(octets) <= SINGLE_OCTETS_UP_TO:
            yield [octets[at : at + 1] for at in range(len(octets))]


def read(data: bytes) -> Input:
    """Read an input; what is missing of the choices is zero."""
    head = data[:HEAD].ljust(HEAD, b"\0")
    return Input(head[0], head[1], tuple(_size(octet) for octet in head[2:]), data[HEAD:])


def vector(payload: bytes, options: int = 0, more: int = 0, cuts: bytes = b"\x07") -> bytes:
    """Write an input: the reverse of `read`."""
    return bytes([options, more]) + (cuts * 6)[:6] + payload


def _size(octet: int) -> int:
    """Map an octet to a piece size: small ones exactly, larger ones in steps up to 8 KiB."""
    return octet + 1 if octet < 128 else (octet - 127) * 64


def _cut(octets: bytes, sizes: Iterator[int]) -> Iterator[bytes]:
    at = 0
    while at < len(octets):
        size = next(sizes)
        yield octets[at : at + size]
        at += size
