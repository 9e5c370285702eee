"""RFC 2231: parameters in pieces."""

from __future__ import annotations

import email
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.formats.mime_structure import parse_parameterised
from chatmail.domain.formats.parameters import join_continuations


@pytest.mark.parametrize(
    ("value", "joined"),
    [
        pytest.param(b"a=b; c=d", [(b"a", b"b"), (b"c", b"d")], id="whole"),
        pytest.param(b"n*0=a; n*1=b", [(b"n", b"ab")], id="rfc2231-3"),
        pytest.param(
            b'URL*0="ftp://"; x=y; URL*1="cs.example"',
            [(b"url", b"ftp://cs.example"), (b"x", b"y")],
            id="others-between",
        ),
        pytest.param(b"n*1=b; n*0=a", [(b"n", b"ab")], id="any-order"),
        pytest.param(
            b"n*=us-ascii'en-us'x%20y", [(b"n*", b"us-ascii'en-us'x%20y")], id="rfc2231-4"
        ),
        pytest.param(
            b"n*0*=us-ascii'en'even%20more; n*1*=%2A; n*2=\"isn't it!\"",
            [(b"n*", b"us-ascii'en'even%20more%2Aisn%27t%20it!")],
            id="rfc2231-4.1",
        ),
        pytest.param(b"n*0=a%; n*1*=%20b", [(b"n*", b"''a%25%20b")], id="no-charset"),
        pytest.param(b"n*0=a; n*2=c", [(b"n", b"a")], id="gap"),
        pytest.param(b"n*1=b", [(b"n*1", b"b")], id="no-start"),
        pytest.param(b"n*0=a; n*0=x; n*1=b", [(b"n", b"ab")], id="twice"),
        pytest.param(b"n*00=a; n*x=b", [(b"n*00", b"a"), (b"n*x", b"b")], id="no-number"),
    ],
)
def test_join(value: bytes, joined: list[tuple[bytes, bytes]]) -> None:
    assert join_continuations(parse_parameterised(b"x; " + value)[1]) == tuple(joined)


@given(st.lists(st.text(alphabet="ab c%'*\u00fc", min_size=1, max_size=6), min_size=2, max_size=5))
def test_the_standard_library_reads_the_same(pieces: list[str]) -> None:
    cut = [urllib.parse.quote(piece) for piece in pieces]
    cut[0] = "utf-8''" + cut[0]
    value = "; ".join(f"n*{number}*={piece}" for number, piece in enumerate(cut))
    message = email.message_from_string(f"Content-Type: text/plain; {value}\n\n")
    joined = dict(join_continuations(parse_parameterised(f"x; {value}".encode())[1]))
    charset, _, text = joined[b"n*"].split(b"'", 2)
    assert charset == b"utf-8"
    found = message.get_param("n")
    assert isinstance(found, tuple)
    assert urllib.parse.unquote(text.decode()) == found[2].encode("latin-1").decode("utf-8")
