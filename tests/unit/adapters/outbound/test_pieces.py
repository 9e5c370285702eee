from __future__ import annotations

import attrs
import pytest

from chatmail.adapters.outbound.pieces import PIECE_OCTETS, Pieces
from chatmail.domain.model.errors import TransientFailure
from tests.unit.adapters.outbound.rig import letter


async def taken(pieces: Pieces) -> list[bytes]:
    found = []
    while not pieces.is_over:
        found.append(await pieces.take())
    return found


async def test_a_small_letter_is_one_piece() -> None:
    assert await taken(Pieces(letter(content=b"body", prefix=b"head"))) == [b"headbody"]


async def test_a_large_letter_comes_in_steps() -> None:
    """A4.10."""
    content = bytes(range(256)) * 1000
    found = await taken(Pieces(letter(content=content, prefix=b"head")))
    assert b"".join(found) == b"head" + content
    assert max(map(len, found)) <= PIECE_OCTETS + 4
    assert len(found) == 4


async def test_an_empty_letter_is_one_empty_piece() -> None:
    assert await taken(Pieces(letter(content=b""))) == [b""]
    assert await taken(Pieces(letter(content=b"", prefix=b"head"))) == [b"head"]


async def test_short_reads_are_gone_on_with() -> None:
    async def read(offset: int, length: int) -> bytes:
        return b"0123456789"[offset : offset + min(length, 3)]

    found = await taken(Pieces(attrs.evolve(letter(), size=10, read=read)))
    assert found == [b"012", b"345", b"678", b"9"]


async def test_missing_octets_are_a_failure() -> None:
    with pytest.raises(TransientFailure):
        await taken(Pieces(attrs.evolve(letter(content=b"x" * 9), size=10)))
