"""CRC-24: the folded computation against the definition, bit by bit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.formats.crc24 import INITIAL, LONG_FOLD, POLYNOMIAL, SHORT_FOLD, crc24


def by_definition(octets: bytes, register: int = 0xB704CE) -> int:
    """RFC 9580 §6.1.1, as the sample code of the standard does it."""
    for octet in octets:
        register ^= octet << 16
        for _ in range(8):
            register <<= 1
            if register & 0x1000000:
                register ^= 0x1864CFB
    return register & 0xFFFFFF


@pytest.mark.parametrize("exponents", [LONG_FOLD, SHORT_FOLD])
def test_fold_polynomials_are_multiples_of_the_crc_polynomial(exponents: tuple[int, ...]) -> None:
    remainder = sum(1 << exponent for exponent in exponents)
    while remainder.bit_length() >= POLYNOMIAL.bit_length():
        remainder ^= POLYNOMIAL << (remainder.bit_length() - POLYNOMIAL.bit_length())
    assert remainder == 0


def test_no_octets_leave_the_initial_register() -> None:
    assert crc24(b"") == INITIAL == 0xB704CE


def test_check_value_of_the_catalogue() -> None:
    assert crc24(b"123456789") == 0x21CF02


@given(st.binary(max_size=900), st.integers(0, 0xFFFFFF))
def test_equals_the_definition(octets: bytes, state: int) -> None:
    assert crc24(octets, state) == by_definition(octets, state)


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_can_be_continued(pieces: list[bytes]) -> None:
    register = INITIAL
    for piece in pieces:
        register = crc24(piece, register)
    assert register == crc24(b"".join(pieces))


@pytest.mark.parametrize("size", [29, 30, 157, 158, 159, 3000, 65535, 65536, 65537, 70000])
def test_block_borders(size: int) -> None:
    octets = bytes(i * 131 % 251 for i in range(size))
    assert crc24(octets) == by_definition(octets)
    assert crc24(b"\xff" * size, 0xFFFFFF) == by_definition(b"\xff" * size, 0xFFFFFF)
