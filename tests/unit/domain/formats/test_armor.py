"""Armor: the bulk path against the careful one, cuts, PGPy's armor."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatmail.domain.formats.armor import ArmorReader, _join_equal_lines, _join_lines
from chatmail.domain.formats.facts import Finding
from tests.builders import armor, noise, pgpy_encrypted
from tests.unit.domain.scanning import cut


def read(text: bytes, sizes: list[int] | None = None) -> tuple[bytes, Finding]:
    reader = ArmorReader()
    octets = b"".join(reader.feed(piece) for piece in cut(text, sizes or ())) + reader.finish()
    return octets, reader.finding


@given(
    st.binary(min_size=1, max_size=400),
    st.integers(1, 90),
    st.booleans(),
    st.lists(st.integers(0, 40), max_size=40),
)
def test_round_trip(octets: bytes, width: int, checksum: bool, sizes: list[int]) -> None:
    if len(octets) % 3:
        width = 4 * -(-width // 4)  # padding stays on the line of its group
    text = armor(octets, width=width, checksum=checksum)
    assert read(text) == (octets, Finding())
    assert read(text, sizes) == (octets, Finding())


scraps = st.sampled_from(
    [b"ABCD\r\n", b"ABCDEFGH\r\n", b"AB==\r\n", b"=twTO\r\n", b"\r\n", b" \r\n", b"A", b" ", b"=",
     b"-----END PGP MESSAGE-----\r\n", b"-----BEGIN PGP MESSAGE-----\r\n", b"Version: 1\r\n", b"-",
     b"\t", b"x" * 990, b":"]
)  # fmt: skip


@settings(max_examples=200)
@given(st.lists(scraps, max_size=10), st.lists(st.integers(0, 9), max_size=60), st.booleans())
def test_cuts_do_not_matter(pieces: list[bytes], sizes: list[int], begins: bool) -> None:
    text = b"".join([b"-----BEGIN PGP MESSAGE-----\r\n\r\n"] * begins + pieces)
    whole, cut_up = read(text), read(text, sizes)
    assert cut_up[1] == whole[1]
    if whole[1].inbound is None:
        assert cut_up[0] == whole[0]


lines = st.lists(
    st.sampled_from([b"ABCD", b"EFGH", b"IJ", b"ABCD ", b" ABC", b"", b"A\t", b"K" * 998]),
    max_size=6,
)


@given(lines)
def test_bulk_path_equals_the_careful_one(pieces: list[bytes]) -> None:
    text = b"".join(piece + b"\r\n" for piece in pieces)
    quick = _join_equal_lines(text)
    assert quick is None or quick == _join_lines(text)


@pytest.mark.parametrize("text", [b"ABCD\r\nABCD\r\n", b"A" * 998 + b"\r\n", b"AB\r\n" * 1000])
def test_bulk_path_is_taken(text: bytes) -> None:
    assert _join_equal_lines(text) == text.replace(b"\r\n", b"")


@pytest.mark.parametrize(
    "text",
    [
        b"ABCD\r\nEF\r\n",
        b"AB\r\nCDEF\r\n",
        b"A" * 999 + b"\r\n",
        b"\r\n",
        b"AB \r\nAB \r\n",
        b"ABCD",
    ],
)
def test_bulk_path_leaves_the_rest_alone(text: bytes) -> None:
    assert _join_equal_lines(text) is None


def test_findings_of_both_directions() -> None:
    assert read(armor(noise(90), headers=b"Version: 1\r\n"))[1] == Finding("A-02", None)
    assert read(armor(noise(90), checksum=b"=AAAA\r\n"))[1] == Finding("A-05", None)
    assert read(armor(noise(90), kind=b"SIGNATURE"))[1] == Finding("A-10", "A-10")


def test_nothing_is_decoded_after_a_broken_rule() -> None:
    reader = ArmorReader()
    assert reader.feed(b"hello\r\n") == b""
    assert reader.feed(armor(noise(90))) == b""
    assert reader.finish() == b""
    assert reader.finding == Finding("A-01", "A-01")


def test_checksum_of_no_octets_is_that_of_the_standard() -> None:
    # RFC 9580: the register starts at 0xB704CE, which prints =twTO. No data is still no message.
    empty = b"-----BEGIN PGP MESSAGE-----\r\n\r\n=twTO\r\n-----END PGP MESSAGE-----\r\n"
    assert read(empty)[1] == Finding("A-08", "A-08")
    assert read(empty.replace(b"twTO", b"AAAA"))[1] == Finding("A-05", "A-08")


@pytest.mark.filterwarnings("ignore")
def test_armor_of_pgpy() -> None:
    octets, finding = read(pgpy_encrypted())
    assert finding == Finding()
    assert octets[0] & 0x80


BEGIN = b"-----BEGIN PGP MESSAGE-----\r\n"


@pytest.mark.parametrize("end", [b"", b"\r\n", b"\r\n-----END PGP MESSAGE-----\r\n"])
@pytest.mark.parametrize(
    ("start", "rule"),
    [
        (b"", "A-01"),
        (BEGIN, "A-02"),
        (BEGIN + b"\r\n", "A-04"),
        (BEGIN + b"\r\nAB==\r\n", "A-04"),
        (BEGIN + b"\r\nABCD\r\n=AAAA\r\n", "A-06"),
    ],
)
def test_overlong_lines_break_one_rule_however_cut(start: bytes, rule: str, end: bytes) -> None:
    text = start + b"x" * 999 + end
    assert read(text)[1].inbound == rule
    assert read(text, [1] * len(text))[1].inbound == rule
    assert read(start + b"x" * 3000, [500] * 9)[1].inbound == rule
