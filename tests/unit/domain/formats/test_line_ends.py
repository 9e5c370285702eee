"""Line ends: pure LF becomes CRLF, whatever the cuts; a mix shows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.formats.line_ends import LineEnds, bare_line_ends


def converted(octets: bytes, cuts: list[int]) -> bytes:
    lines, result, start = LineEnds(), b"", 0
    for end in [*sorted(cut % (len(octets) + 1) for cut in cuts), len(octets)]:
        result += lines.feed(octets[start:end])
        start = end
    return result


@pytest.mark.parametrize(
    ("octets", "result"),
    [
        (b"", b""),
        (b"no end", b"no end"),
        (b"a\nb\n\n", b"a\r\nb\r\n\r\n"),
        (b"a\r\nb\r\n", b"a\r\nb\r\n"),
        (b"a\r\nb\n", b"a\r\nb\n"),
        (b"a\nb\r\n", b"a\r\nb\r\r\n"),
        (b"a\rb\n", b"a\rb\r\n"),
        (b"\n", b"\r\n"),
    ],
)
@given(cuts=st.lists(st.integers(0, 100), max_size=6))
def test_the_first_line_end_decides(octets: bytes, result: bytes, cuts: list[int]) -> None:
    assert converted(octets, cuts) == result


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"x"])), st.lists(st.integers(0, 100)))
def test_cuts_change_nothing(pieces: list[bytes], cuts: list[int]) -> None:
    octets = b"".join(pieces)
    assert converted(octets, cuts) == converted(octets, [])


@given(
    st.lists(
        st.sampled_from([b"\r", b"\n", b"\r\n", b"x", b".", b"\0", b"\v", b"\f", b"\x1c", b"\x85"])
    )
)
def test_bare_line_ends_are_those_that_no_crlf_holds(pieces: list[bytes]) -> None:
    octets = b"".join(pieces)
    rest = octets.replace(b"\r\n", b"x")
    assert bare_line_ends(octets) == rest.count(b"\r") + rest.count(b"\n")
