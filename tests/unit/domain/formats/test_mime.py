"""Multipart bodies and part headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.formats.mime import (
    Event,
    MultipartSplitter,
    Piece,
    is_boundary,
    parse_part_header,
    split_multipart,
)
from tests.unit.domain.scanning import cut


def events(body: bytes, sizes: list[int], boundary: bytes = b"b") -> list[Event]:
    """Split a body cut into pieces; adjacent texts of one kind are joined."""
    splitter = MultipartSplitter(boundary)
    found: list[Event] = []
    for piece in cut(body, sizes):
        found += splitter.feed(piece)
    joined: list[Event] = []
    for kind, octets in found + splitter.finish():
        if joined and joined[-1][0] is kind and kind in TEXTS:
            joined[-1] = (kind, joined[-1][1] + octets)
        else:
            joined.append((kind, octets))
    return joined


TEXTS = (Piece.PREAMBLE, Piece.CONTENT, Piece.EPILOGUE)


def part_contents(body: bytes, boundary: bytes = b"b") -> list[bytes] | None:
    found = split_multipart(body, boundary)
    return None if found is None else [part.content for part in found.parts]


@pytest.mark.parametrize(
    ("body", "contents"),
    [
        (b"--b\r\n\r\nx\r\n--b--", [b"x"]),
        (b"--b\r\n\r\nx\r\n--b--\r\n", [b"x"]),
        (b"--b \t\r\n\r\nx\r\n--b-- \t\r\n", [b"x"]),
        (b"pre\r\n--b\r\nA: b\r\n\r\nx\r\n\r\n--b\r\n\r\n--b--epi", None),
        (b"pre\r\n--b\r\nA: b\r\n\r\nx\r\n\r\n--b\r\n\r\n--b--\r\nepi", [b"x\r\n", b""]),
        (b"--b\r\n\r\n--bb\r\n--b-\r\n--b x\r\n --b\r\n--b--", [b"--bb\r\n--b-\r\n--b x\r\n --b"]),
        (b"--b\r\n\r\nx\r\n--b--x\r\n--b--", [b"x\r\n--b--x"]),
        (b"--b\r\n\r\n\r\n--b--", [b""]),
        (b"--b\r\n\r\nx\r\n--b", None),
        (b"--b\r\n\r\nx--b--", None),
        (b"--b\r\nA: b\r\n--b--", None),
        (b"--b\r\n--b--", None),
        (b"--b\r\n--bb: c\r\n\r\nx\r\n--b--", [b"x"]),
        (b"--b--", []),
        (b"", None),
        (b"text", None),
    ],
)
def test_parts(body: bytes, contents: list[bytes] | None) -> None:
    assert part_contents(body) == contents


def test_what_is_around_the_parts() -> None:
    found = split_multipart(b"one\r\ntwo\r\n--b\r\nA: b\r\n\r\nx\r\n--b--\r\n\r\nend", b"b")
    assert found is not None
    assert found.preamble == b"\r\none\r\ntwo"
    assert found.epilogue == b"\r\nend"
    assert found.parts[0].header_octets == b"A: b\r\n\r\n"


def test_overlong_delimiter_lines_are_refused() -> None:
    good = b"--b" + b" " * 995 + b"\r\n\r\nx\r\n--b--"
    assert part_contents(good) == [b"x"]
    assert part_contents(b"--b" + b" " * 996 + b"\r\n\r\nx\r\n--b--") is None
    assert events(b"\r\n--b" + b" " * 2000, [1] * 2100)[-1] == (Piece.BAD, b"M-04")


def test_part_header_limit_is_the_same_however_cut() -> None:
    for size in range(2030, 2060):
        body = b"--b\r\nA: " + b"x" * (size - 7) + b"\r\n\r\ncontent\r\n--b--"
        whole = events(body, [])
        assert events(body, [1] * len(body)) == whole
        assert (whole[0][0] is Piece.BAD) == (size > 2048)


scraps = st.sampled_from(
    [b"--b", b"--", b"b", b"\r\n", b" ", b"x", b"-", b"A: b\r\n\r\n", b"\r\n--b\r\n", b"\r\n\r\n"]
)


@given(st.lists(scraps, max_size=14), st.lists(st.integers(0, 5), max_size=40))
def test_cuts_do_not_matter(pieces: list[bytes], sizes: list[int]) -> None:
    body = b"".join(pieces)
    assert events(body, sizes) == events(body, [])


@given(st.lists(scraps, max_size=14))
def test_no_octet_of_the_content_is_lost(pieces: list[bytes]) -> None:
    found = split_multipart(b"".join(pieces), b"b")
    if found is None:
        return
    lines = b"".join(pieces).split(b"\r\n")
    kept = [found.preamble[2:], found.epilogue]
    kept += [octets for part in found.parts for octets in (part.header_octets, part.content)]
    for line in lines:
        rest = line.rstrip(b" \t")
        assert rest in (b"--b", b"--b--") or any(line in octets for octets in kept)


@pytest.mark.parametrize("boundary", [b"b", b"b" * 70, b"a b", b"'()+_,-./:=?", b"0Zz"])
def test_boundaries(boundary: bytes) -> None:
    assert is_boundary(boundary)


@pytest.mark.parametrize("boundary", [None, b"", b"b" * 71, b"b ", b"b\n", b"a@b", b'"', b"\xe4"])
def test_what_is_no_boundary(boundary: bytes | None) -> None:
    assert not is_boundary(boundary)


def test_part_header() -> None:
    header = parse_part_header(
        b"content-TYPE: Text/Plain; a=b\r\nContent-Transfer-Encoding: Base64\r\n\r\n"
    )
    assert header.content_type.media_type == b"text/plain"
    assert header.encoding == b"base64"
    assert header.finding.strict is None


def test_part_header_that_says_nothing() -> None:
    header = parse_part_header(b"\r\n")
    assert (header.content_type.media_type, header.encoding) == (b"text/plain", b"7bit")
