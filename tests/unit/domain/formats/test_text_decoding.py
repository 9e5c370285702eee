from __future__ import annotations

import base64
import quopri

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.formats.text_decoding import MAX_LINE, TextDecoder


def decoded(octets: bytes, encoding: bytes, charset: bytes = b"utf-8", step: int = 65536) -> str:
    decoder = TextDecoder(encoding, charset)
    pieces = [decoder.feed(octets[at : at + step]) for at in range(0, len(octets), step)]
    return "".join(pieces) + decoder.finish()


@pytest.mark.parametrize(
    ("octets", "encoding", "text"),
    [
        pytest.param(b"plain", b"", "plain", id="none"),
        pytest.param(b"pl=20ain", b"x-unknown", "pl=20ain", id="unknown"),
        pytest.param(b"R3LDvMOf\r\nZQ==", b"base64", "Grüße", id="base64"),
        pytest.param(b"R3LDvMOf ZQ", b"base64", "Grüße", id="base64-without-padding"),
        pytest.param(b"R3!LDvM-Of\r\n\r\nZQ==\r\n", b"base64", "Grüße", id="base64-with-noise"),
        pytest.param(b"A", b"base64", "", id="base64-too-short"),
        pytest.param(b"Gr=C3=BC=\r\n=C3=9Fe", b"quoted-printable", "Grüße", id="qp-soft-break"),
        pytest.param(b"a=\nb", b"quoted-printable", "ab", id="qp-bare-lf"),
        pytest.param(b"a=ZZ b=", b"quoted-printable", "a=ZZ b", id="qp-broken"),
    ],
)
@pytest.mark.parametrize("step", [1, 2, 3, 65536])
def test_encodings(octets: bytes, encoding: bytes, text: str, step: int) -> None:
    assert decoded(octets, encoding, step=step) == text


def test_a_line_without_end_is_not_gathered() -> None:
    decoder = TextDecoder(b"quoted-printable", b"utf-8")
    found = "".join(decoder.feed(b"x" * 999 + b"=3D") for _ in range(100))
    assert len(found) >= 100 * 1000 - MAX_LINE
    assert set(found + decoder.finish()) == {"x", "="}


@given(st.text(max_size=60), st.integers(1, 9))
def test_base64_comes_back_however_cut(text: str, step: int) -> None:
    wanted = text.encode("utf-8", "replace").decode()
    assert decoded(base64.encodebytes(wanted.encode()), b"base64", step=step) == wanted


@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\n")))
def test_quoted_printable_comes_back_however_cut(text: str) -> None:
    octets = quopri.encodestring(text.encode(), quotetabs=True)
    assert decoded(octets, b"quoted-printable", step=3) == text


@given(st.binary(max_size=80), st.sampled_from([b"base64", b"quoted-printable", b"7bit"]))
def test_any_octets_are_some_text(octets: bytes, encoding: bytes) -> None:
    decoded(octets, encoding, step=7)
