from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.formats.charsets import CharsetDecoder, codec_of, decode_text

CHARSETS = [b"utf-8", b"iso-8859-1", b"windows-1251", b"koi8-r", b"gb18030", b"shift_jis"]
CHARSETS += [b"euc-jp", b"iso-2022-jp", b"big5", b"euc-kr", b"utf-16", b"utf-7", b"us-ascii"]


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        (b"UTF-8", "Grüße"),
        (b"ISO-8859-15", "5 €"),
        (b"Windows-1252", "“x”"),
        (b"koi8-r", "Привет"),
        (b"ISO-2022-JP", "日本語"),
        (b"Shift_JIS", "日本語"),
        (b"GB18030", "中文"),
        (b"big5", "中文"),
        (b"euc-kr", "한국어"),
        (b"utf-16le", "x"),
        (b" utf8 ", "ü"),
    ],
)
def test_charsets_of_mail(charset: bytes, text: str) -> None:
    assert decode_text(text.encode(charset.decode().strip()), charset) == text


@pytest.mark.parametrize("charset", [b"us-ascii", b"ASCII", b"", b"x-unknown", b"iso-8859-99"])
def test_what_says_nothing_is_read_as_utf8(charset: bytes) -> None:
    assert decode_text("ü".encode(), charset) == "ü"


@pytest.mark.parametrize(
    "charset",
    [
        b"rot13",
        b"zlib",
        b"hex",
        b"base64",
        b"idna",
        b"punycode",
        b"unicode_escape",
        b"../x",
        b"\xff",
    ],
)
def test_what_is_no_charset_never_reaches_the_registry(charset: bytes) -> None:
    assert codec_of(charset) is None


@given(st.binary(max_size=40), st.sampled_from(CHARSETS), st.integers(1, 5))
def test_any_octets_are_text_however_cut(octets: bytes, charset: bytes, step: int) -> None:
    decoder = CharsetDecoder(charset)
    text = "".join(decoder.decode(octets[at : at + step]) for at in range(0, len(octets), step))
    text += decoder.decode(b"", final=True)
    assert isinstance(decode_text(octets, charset), str)
    if "\ufffd" not in text:
        assert text == decode_text(octets, charset)


def test_a_decoder_that_gives_up_goes_on() -> None:
    decoder = CharsetDecoder(b"iso-2022-kr")
    text = "".join(decoder.decode(bytes((octet,))) for octet in b"\x1b({\x0f\x1b{+}~" + b"\nend\n")
    assert text.endswith("end\n")
    assert "\ufffd" in text
