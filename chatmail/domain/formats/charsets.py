"""Charsets of mail, decoded leniently: what cannot be decoded becomes U+FFFD, nothing fails.

Only names on the list reach the codec registry: it also knows transformations that are no charsets
(`rot13`, `zlib`), and some of its codecs are slow enough to be an attack (`idna`, `punycode`).
Source:  RFC 2045 §5.1 (charset), RFC 2978.
"""

from __future__ import annotations

import codecs
import re
from functools import lru_cache
from typing import Final

_FALLBACK: Final = "utf-8"
_KNOWN: Final = re.compile(
    rb"(?:us-)?ascii|utf-?(?:7|8|16|16le|16be|32|32le|32be)|iso[-_]?8859[-_]\d{1,2}(?:-[ei])?"
    rb"|latin-?\d{1,2}|windows-\d{3,4}|cp-?\d{3,4}|koi8-[rtu]|gb2312|gbk|gb18030|big5(?:-hkscs)?"
    rb"|shift[-_]jis|sjis|euc-(?:jp|kr)|iso-2022-(?:jp|jp-[123]|jp-ext|kr)|hz(?:-gb-2312)?"
    rb"|ks_c_5601-1987|johab|tis-620|mac(?:intosh|-?(?:roman|cyrillic|greek|turkish|latin2))"
)
# RFC 2781 §4.3: without a byte order mark it is big-endian; the codecs that want one fail.
_INSTEAD: Final = {"ascii": _FALLBACK, "utf-16": "utf-16-be", "utf-32": "utf-32-be"}


@lru_cache(maxsize=128)
def codec_of(charset: bytes) -> str | None:
    """Return the codec for a charset name, None for a name that is not known.

    US-ASCII is read as UTF-8: what claims to be the one and has eight bits is mostly the other.
    """
    name = charset.strip().lower()
    if _KNOWN.fullmatch(name) is None:
        return None
    try:
        codec = codecs.lookup(name.decode("ascii")).name
    except LookupError:
        return None
    return _INSTEAD.get(codec, codec)


def decode_text(octets: bytes, charset: bytes) -> str:
    """Decode whole text, as UTF-8 when the charset is not known."""
    return octets.decode(codec_of(charset) or _FALLBACK, "replace")


class CharsetDecoder:
    """Text that comes in pieces, cut anywhere; read as UTF-8 when the charset is not known."""

    def __init__(self, charset: bytes) -> None:
        codec = codec_of(charset) or _FALLBACK
        self._decoder = codecs.getincrementaldecoder(codec)("replace")

    def decode(self, octets: bytes, *, final: bool = False) -> str:
        """Return the text that the next octets complete."""
        try:
            return self._decoder.decode(octets, final)
        except UnicodeError:
            # The decoders of ISO 2022 give up at too many escapes, whatever they were told.
            self._decoder.reset()
            return "\ufffd"
