"""Content-Type values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.formats.content_type import ContentType, parse_content_type


@pytest.mark.parametrize(
    ("value", "media_type", "parameters"),
    [
        (b"text/plain", b"text/plain", ()),
        (b"TEXT/Plain;", b"text/plain", ()),
        (b"text/plain ; ", b"text/plain", ()),
        (b"a/b;C=d", b"a/b", ((b"c", b"d"),)),
        (b'a/b; c="d e"; f=G', b"a/b", ((b"c", b"d e"), (b"f", b"G"))),
        (b'a/b;\tc="";d="x\\"y\\\\"', b"a/b", ((b"c", b""), (b"d", b'x"y\\'))),
        (b'a/b; c="(no comment); d=e"', b"a/b", ((b"c", b"(no comment); d=e"),)),
    ],
)
def test_values(
    value: bytes, media_type: bytes, parameters: tuple[tuple[bytes, bytes], ...]
) -> None:
    assert parse_content_type(value) == ContentType(media_type, parameters)


@pytest.mark.parametrize(
    "value",
    [
        b"", b"text", b"text/", b"/plain", b"text /plain", b"text/ plain", b"text/plain x",
        b"text/plain;;", b"text/plain; ; a=b", b"text/plain (comment)", b"text/plain; a=b (c)",
        b"text/plain; a", b"text/plain; a=", b"text/plain; a =b", b"text/plain; a= b",
        b"text/plain; =b", b'text/plain; a="b', b'text/plain; a="b\\"', b'text/plain; a="b"c',
        b"text/plain; a=b; a=c", b"text/plain; a=b; A=c", b"text/plain; a*=b", b"text/plain; a*0=b",
        b"text/plain; a=b c", b"text/plain, text/html", b'text/plain; a="\x80"', b"text/pl\xe4in",
        b'text/plain; a="\x07"', b"text/plain; a=b@c", b"text/plain; a=b=c", b" text/plain",
    ],
)  # fmt: skip
def test_what_breaks_h05(value: bytes) -> None:
    assert parse_content_type(value) is None


def test_parameters_by_name() -> None:
    parsed = parse_content_type(b"a/b; Boundary=X")
    assert parsed is not None
    assert parsed.get(b"boundary") == b"X"
    assert parsed.get(b"charset") is None


@given(st.text(alphabet='ab/;="\\ *()', max_size=25))
def test_any_value_is_parsed_or_not(value: str) -> None:
    parsed = parse_content_type(value.encode())
    assert parsed is None or b"/" in parsed.media_type
