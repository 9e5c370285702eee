"""Packet walk, and what it finds opaque; the rules themselves are in the tables of the gate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.formats.openpgp import PacketWalker
from tests.builders import noise, packet, packets, pkesk, seipd, skesk4_body
from tests.unit.domain.scanning import cut


def walk(octets: bytes, sizes: list[int] | None = None) -> PacketWalker:
    walker = PacketWalker()
    for piece in cut(octets, sizes or ()):
        walker.feed(piece)
    walker.finish()
    return walker


@pytest.mark.parametrize(
    "text",
    ["The quick brown fox. " * 20, "Съешь ещё этих мягких. " * 20, "<p>Hello</p>\r\n" * 30],
)
def test_text_compresses(text: str) -> None:
    assert walk(pkesk() + packet(18, b"\x01" + text.encode())).is_transparent()


def test_text_in_the_last_32_kib_is_seen() -> None:
    assert walk(pkesk() + packet(18, b"\x01" + noise(100_000) + b"hello " * 4000)).is_transparent()
    assert not walk(pkesk() + packet(18, b"\x01" + noise(140_000))).is_transparent()


def test_text_shorter_than_256_octets_cannot_be_told() -> None:
    assert not walk(pkesk() + packet(18, b"\x01" + b"a" * 255)).is_transparent()
    assert walk(pkesk() + packet(18, b"\x01" + b"a" * 256)).is_transparent()


def test_text_in_session_keys_is_seen_from_1024_octets() -> None:
    hidden = b"".join(pkesk(3, 99, b"attack at dawn, all of us  " + b"x" * 5) for _ in range(32))
    assert walk(hidden + seipd()).is_transparent()
    assert not walk(hidden[: len(hidden) // 32] + seipd()).is_transparent()


def test_many_recipients_are_no_text() -> None:
    walker = walk(packets(1000, recipients=200))
    assert walker.fault is None
    assert not walker.is_transparent()


def test_small_partial_chunks_are_limited() -> None:
    start = pkesk() + b"\xd2\xe9\x01" + noise(511)
    assert walk(start + b"\xe0x" * 256 + b"\x00").fault is None
    assert walk(start + b"\xe0x" * 257 + b"\x00").fault == "O-04"


def test_one_passphrase() -> None:
    assert walk(packet(3, skesk4_body()) + seipd()).is_one_passphrase
    assert not walk(packet(3, skesk4_body()) * 2 + seipd()).is_one_passphrase
    assert not walk(pkesk() + seipd()).is_one_passphrase


@given(st.binary(max_size=80), st.lists(st.integers(0, 9), max_size=20))
def test_any_octets_give_a_rule_however_cut(octets: bytes, sizes: list[int]) -> None:
    assert walk(octets, sizes).fault == walk(octets).fault


def test_nothing_is_read_after_a_fault() -> None:
    walker = walk(b"\0")
    walker.feed(packets())
    assert walker.finish() == "O-01"


@pytest.mark.parametrize("length", ["short", "five", "partial"])
@pytest.mark.parametrize("size", [60, 400, 9000])
def test_headers_cut_between_any_two_octets(size: int, length: str) -> None:
    octets = pkesk(3, 99, noise(300)) + seipd(size, length=length)
    assert walk(octets, [1] * len(octets)).fault is None
    for missing in range(1, 6):
        assert walk(octets[:-missing], [1] * len(octets)).fault == "O-05"
