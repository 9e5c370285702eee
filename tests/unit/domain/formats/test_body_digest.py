"""Body hashes against dkimpy's canonical forms and the vectors of RFC 6376."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import pytest
from dkim.canonicalization import Relaxed, Simple
from hypothesis import example, given
from hypothesis import strategies as st

from chatmail.domain.formats.body_digest import BodyDigests, Canonicalization

ORACLES = {Canonicalization.SIMPLE: Simple, Canonicalization.RELAXED: Relaxed}
LINE = st.sampled_from([b"", b" ", b"\t", b"a", b"b  c", b" d\t", b"x" * 50])


@given(st.lists(LINE, max_size=12), st.lists(st.integers(0, 200), max_size=8))
@example([b""], [])
@example([b"a ", b"", b""], [2, 3, 4])
def test_any_body_cut_anywhere_hashes_as_dkimpy_says(lines: list[bytes], cuts: list[int]) -> None:
    body = b"".join(line + b"\r\n" for line in lines)
    digests = BodyDigests(*Canonicalization)
    places = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    for start, end in pairwise(places):
        digests.feed(body[start:end])
    for form, oracle in ORACLES.items():
        assert digests.sha256(form) == hashlib.sha256(oracle.canonicalize_body(body)).digest()


@pytest.mark.parametrize(
    ("body", "simple", "relaxed"),
    [
        (b"", b"\r\n", b""),
        (b" C \r\nD \t E\r\n\r\n\r\n", b" C \r\nD \t E\r\n", b" C\r\nD E\r\n"),  # RFC 6376 §3.4.5
    ],
)
def test_vectors_of_the_standard(body: bytes, simple: bytes, relaxed: bytes) -> None:
    digests = BodyDigests(*Canonicalization)
    digests.feed(body)
    assert digests.sha256(Canonicalization.SIMPLE) == hashlib.sha256(simple).digest()
    assert digests.sha256(Canonicalization.RELAXED) == hashlib.sha256(relaxed).digest()


def test_a_form_nobody_asked_for_is_none() -> None:
    assert BodyDigests(Canonicalization.SIMPLE).sha256(Canonicalization.RELAXED) is None


def test_a_million_empty_lines_are_held_as_a_number() -> None:
    digests = BodyDigests(*Canonicalization)
    for _ in range(100):
        digests.feed(b"\r\n" * 10_000)
    digests.feed(b"end")
    expected = hashlib.sha256(b"\r\n" * 1_000_000 + b"end\r\n").digest()
    assert digests.sha256(Canonicalization.SIMPLE) == expected
