"""Every seed of every fuzz target passes, without a fuzzer."""

from __future__ import annotations

import pytest

from tests.fuzz import corpus, cutting

SEEDS = [
    pytest.param(name, octets, id=f"{name}-{seed}")
    for name in corpus.names()
    for seed, octets in corpus.seeds(name)
]


@pytest.mark.parametrize("name", corpus.names())
def test_every_target_has_small_seeds_and_takes_nothing_at_all(name: str) -> None:
    sizes = [len(octets) for _, octets in corpus.seeds(name)]
    assert sizes
    assert max(sizes) <= corpus.MAX_SEED_OCTETS
    corpus.load(name).check(b"")


@pytest.mark.parametrize("name", corpus.names())
def test_every_vector_is_committed_as_a_seed(name: str) -> None:
    committed = {octets for _, octets in corpus.seeds(name)}
    assert committed.issuperset(corpus.load(name).VECTORS)


@pytest.mark.parametrize(("name", "octets"), SEEDS)
def test_seed(name: str, octets: bytes) -> None:
    corpus.load(name).check(octets)


def test_no_seed_belongs_to_a_target_that_is_gone() -> None:
    assert {path.name for path in corpus.SEEDS.iterdir()} == set(corpus.names())


def test_pieces_are_the_payload() -> None:
    given = cutting.read(cutting.vector(b"payload " * 9, 3, 4, b"\0\x80\x05"))
    assert (given.options, given.more, given.payload) == (3, 4, b"payload " * 9)
    for pieces in given.ways():
        assert b"".join(pieces) == given.payload
        assert all(pieces)
    assert [len(piece) for piece in given.pieces()][:3] == [1, 64, 6]
