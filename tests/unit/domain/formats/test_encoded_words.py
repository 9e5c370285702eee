from __future__ import annotations

import email.header

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.formats.encoded_words import MAX_DECODED, decode_words, header_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param(b" plain ", "plain", id="plain"),
        pytest.param(b"=?utf-8?q?J=C3=BCrgen?= <j@x>", "Jürgen <j@x>", id="q"),
        pytest.param(b"=?UTF-8?B?SsO8cmdlbg==?=", "Jürgen", id="b"),
        pytest.param(b"=?utf-8?b?SsO8cmdlbg?=", "Jürgen", id="b-without-padding"),
        pytest.param(b"=?iso-8859-1?Q?a_b?= c", "a b c", id="rfc2047-4.2-underscore"),
        pytest.param(b"=?utf-8?q?a?= =?utf-8?q?b?=", "ab", id="rfc2047-6.2-adjacent"),
        pytest.param(b"=?utf-8?q?a?=\r\n =?utf-8?q?b?= c", "ab c", id="rfc2047-6.2-folded"),
        pytest.param(b"=?utf-8?q?a?= b =?utf-8?q?c?=", "a b c", id="text-between"),
        pytest.param(b"=?utf-8?b?w7w=?= =?koi8-r?b?0A==?=", "üп", id="two-charsets"),
        pytest.param(b"=?utf-8?q?=C3?= =?utf-8?q?=BC?=", "ü", id="character-cut-in-two"),
        pytest.param(b"=?utf-8*de?q?=C3=BC?=", "ü", id="rfc2231-5-language"),
        pytest.param(b"=?utf-8?q?a b?=", "a b", id="space-inside"),
        pytest.param(b"=?nonsense?q?x?=", "=?nonsense?q?x?=", id="unknown-charset"),
        pytest.param(b"=?utf-8?x?y?=", "=?utf-8?x?y?=", id="unknown-encoding"),
        pytest.param(b"=?utf-8?b?a?=", "=?utf-8?b?a?=", id="broken-base64"),
        pytest.param(b"=?utf-8?q?x", "=?utf-8?q?x", id="unfinished"),
        pytest.param(b"one\r\n two\r\n\tthree", "one two\tthree", id="folds"),
        pytest.param("ü".encode(), "ü", id="raw-utf8"),
        pytest.param(b"\xfc", "ü", id="raw-latin1"),
    ],
)
def test_header_text(value: bytes, text: str) -> None:
    assert header_text(value) == text


def test_a_long_value_stays_as_it_is() -> None:
    value = "=?utf-8?q?x?=" + " " * MAX_DECODED
    assert decode_words(value) == value


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=80), st.booleans())
def test_what_the_standard_library_writes_is_read(text: str, short: bool) -> None:
    wanted = " ".join(text.split())
    written = email.header.Header(wanted, "utf-8", maxlinelen=40 if short else 200).encode()
    assert header_text(written.encode()) == wanted


@given(st.text(alphabet="=?utf-8qQbB*_ Aa\u00fc", max_size=60))
def test_anything_is_text(text: str) -> None:
    decode_words(text)
