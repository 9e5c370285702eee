"""Samples of a stream of octets, and whether they compress."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.formats.opacity import Sample, compresses
from tests.builders import noise
from tests.unit.domain.scanning import cut

KIB = 1024


@pytest.mark.parametrize(
    "size", [0, 10, 32 * KIB, 64 * KIB, 64 * KIB + 1, 64 * KIB + 2, 64 * KIB + 40, 300 * KIB]
)
@pytest.mark.parametrize("step", [1000, 40_000, 400_000])
@pytest.mark.parametrize("skip", [0, 1, 36])
def test_sample_is_the_start_and_the_end(size: int, step: int, skip: int) -> None:
    octets = noise(size)
    sample = Sample(32 * KIB + 36)
    for piece in cut(octets, [step] * (size // step)):
        sample.add(piece)
    expected = octets[skip:]
    if len(expected) > 64 * KIB:
        expected = expected[: 32 * KIB] + expected[-32 * KIB :]
    assert sample.octets(skip) == expected
    assert sample.size == size


@given(st.lists(st.sampled_from([noise(40), noise(200), b"the same text, ", b"abc"]), max_size=40))
def test_small_window_compresses_as_the_large_one(pieces: list[bytes]) -> None:
    octets = b"".join(pieces)[:3072]
    for percent in (90, 95):
        by_definition = len(zlib.compress(octets, 1)) < percent / 100 * len(octets)
        assert compresses(octets, percent) == by_definition


@pytest.mark.parametrize("size", [256, 3072, 3073, 65536])
def test_noise_does_not_compress(size: int) -> None:
    assert not compresses(noise(size), 95)
