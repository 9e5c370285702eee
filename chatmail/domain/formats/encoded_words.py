"""Header text as a person reads it: unfolded, encoded words decoded.

Total and lenient: what is no encoded word stays as it stands. Words next to one another are joined
before they are decoded, because some writers cut characters in two.
Source:  RFC 2047 §2, §4, §6.2; RFC 2231 §5 (language).
"""

from __future__ import annotations

import binascii
import re
from typing import Final

from chatmail.domain.formats.charsets import codec_of, decode_text

MAX_DECODED: Final = 32 * 1024
"""Longer values are shown as they stand: decoding is for what a person reads."""

_FOLD: Final = re.compile(r"\r?\n(?=[ \t])")
_WORD: Final = re.compile(r"=\?([^?\s*]{1,60})(?:\*[A-Za-z0-9-]{0,40})?\?([bBqQ])\?([^?]*)\?=")


def header_text(value: bytes) -> str:
    """Return the text of a raw field value."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    return decode_words(_FOLD.sub("", text).strip())


def decode_words(text: str) -> str:
    """Decode the encoded words in unfolded header text."""
    if "=?" not in text or len(text) > MAX_DECODED:
        return text
    pieces: list[str] = []
    charset, run, at = "", b"", 0
    for word in _WORD.finditer(text):
        octets = _octets(word[2], word[3])
        if octets is None or codec_of(word[1].encode("utf-8")) is None:
            continue
        gap = text[at : word.start()]
        # RFC 2047 §6.2: white space between encoded words is not shown.
        if not charset or gap.strip(" \t\r\n"):
            pieces += (_decoded(run, charset), gap)
            charset, run = "", b""
        if word[1].lower() != charset:
            pieces.append(_decoded(run, charset))
            charset, run = word[1].lower(), b""
        run += octets
        at = word.end()
    pieces += (_decoded(run, charset), text[at:])
    return "".join(pieces)


def _decoded(octets: bytes, charset: str) -> str:
    return decode_text(octets, charset.encode("utf-8")) if octets else ""


def _octets(encoding: str, text: str) -> bytes | None:
    """Undo B or Q; None: it is neither."""
    try:
        octets = text.encode("ascii")
        if encoding in "bB":
            return binascii.a2b_base64(octets + b"=" * (-len(octets) % 4))
        return binascii.a2b_qp(octets, header=True)
    except (binascii.Error, UnicodeEncodeError):
        return None
