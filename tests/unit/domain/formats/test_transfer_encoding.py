"""base64 and quoted-printable, strictly, in pieces."""

from __future__ import annotations

import base64
import quopri

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.formats.transfer_encoding import decode, decode_groups, decoder_for
from tests.unit.domain.scanning import cut


def in_pieces(octets: bytes, encoding: bytes, sizes: list[int]) -> bytes | None:
    decoder = decoder_for(encoding)
    assert decoder is not None
    decoded = b"".join(decoder.feed(piece) for piece in cut(octets, sizes)) + decoder.finish()
    return None if decoder.failed else decoded


sizes = st.lists(st.integers(0, 9), max_size=40)


@given(st.binary(max_size=200), st.integers(1, 90), sizes)
def test_base64_round_trip(octets: bytes, width: int, cuts: list[int]) -> None:
    text = base64.b64encode(octets)
    body = b"".join(text[at : at + width] + b"\r\n" for at in range(0, len(text), width))
    assert decode(body, b"base64") == octets
    assert in_pieces(body, b"base64", cuts) == octets


@given(st.text(alphabet="aZ9+/=\r\n -", max_size=24), sizes)
def test_base64_cuts_do_not_matter(text: str, cuts: list[int]) -> None:
    octets = text.replace("\r", "").replace("\n", "\r\n").encode()
    assert in_pieces(octets, b"base64", cuts) == decode(octets, b"base64")


@pytest.mark.parametrize(
    "text",
    [
        b"A", b"AB", b"ABC", b"AB=", b"=", b"====", b"ABCD====", b"AB==ABCD", b"A=BC", b"AB=C",
        b"AB==\r\nABCD", b"AB CD", b"AB\tCD", b"AB-_", b"ABC\xff", b"ABCD\r\n!", b"A" * 1000,
        b"ABCD" * 249 + b"\r\n" + b"A" * 1000,
    ],
)  # fmt: skip
def test_base64_that_is_none(text: bytes) -> None:
    assert decode(text, b"base64") is None
    assert in_pieces(text, b"base64", [1] * len(text)) is None


def test_base64_lines_of_998_octets() -> None:
    assert decode(b"A" * 998 + b"\r\nAA", b"base64") == bytes(750)
    assert decode(b"", b"base64") == b""
    assert decode(b"\r\n\r\n", b"base64") == b""


def test_nothing_is_decoded_after_a_failure() -> None:
    decoder = decoder_for(b"base64")
    assert decoder is not None
    assert decoder.feed(b"!!!!") == b""
    assert decoder.feed(b"AAAA") == b""
    assert decoder.failed


@pytest.mark.parametrize("digits", [b"AB=C", b"A===", b"AB==AB==", b"AAA\n", b"=AAA"])
def test_groups_that_are_none(digits: bytes) -> None:
    assert decode_groups(digits) is None


@given(st.binary(max_size=150), sizes)
def test_quoted_printable_round_trip(octets: bytes, cuts: list[int]) -> None:
    octets = octets.replace(b"\r", b"").replace(b"\n", b"")
    body = quopri.encodestring(octets, quotetabs=True).replace(b"\n", b"\r\n")
    assert decode(body, b"quoted-printable") == octets
    assert in_pieces(body, b"quoted-printable", cuts) == octets


@given(st.text(alphabet="a=4D \t\r\n", max_size=24), sizes)
def test_quoted_printable_cuts_do_not_matter(text: str, cuts: list[int]) -> None:
    octets = text.replace("\r", "").replace("\n", "\r\n").encode()
    whole = decode(octets, b"quoted-printable")
    assert in_pieces(octets, b"quoted-printable", cuts) == whole


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        (b"a=3Db=3db", b"a=b=b"),
        (b"a=\r\nb", b"ab"),
        (b"a \t\r\nb  ", b"a\r\nb"),
        (b"a =\r\nb", b"a b"),
        (b"=E4", b"\xe4"),
    ],
)
def test_quoted_printable(text: bytes, decoded: bytes) -> None:
    assert decode(text, b"quoted-printable") == decoded


@pytest.mark.parametrize(
    "text",
    [
        b"=",
        b"=4",
        b"=4\r\n",
        b"=XY",
        b"a= \r\n",
        b"\xe4",
        b"\x01",
        b"\x7f",
        b"a" * 999,
        b"a" * 2000,
    ],
)
def test_quoted_printable_that_is_none(text: bytes) -> None:
    assert decode(text, b"quoted-printable") is None
    assert in_pieces(text, b"quoted-printable", [1] * len(text)) is None


@pytest.mark.parametrize("encoding", [b"7bit", b"8bit"])
def test_nothing_to_decode(encoding: bytes) -> None:
    assert decode(b"=XY\xff", encoding) == b"=XY\xff"


@pytest.mark.parametrize("encoding", [b"", b"binary", b"x-uuencode", b"BASE64"])
def test_unknown_names(encoding: bytes) -> None:
    assert decoder_for(encoding) is None
    assert decode(b"", encoding) is None
