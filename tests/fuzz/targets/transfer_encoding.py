"""Transfer encodings: cuts change nothing; what passes is what lenient decoders read as well."""

from __future__ import annotations

import binascii
import re

from chatmail.domain.formats.transfer_encoding import decode, decoder_for
from tests.builders import noise, wrap
from tests.fuzz.cutting import read, vector
from tests.unit.domain.strict_packets import Bad, read_base64
from tests.unit.domain.strict_parser import read_quoted

WORDS = (b"\r\n", b"=", b"==", b"=3D", b"=\r\n", b" \r\n", b"\t", b"AAAA", b"A===", b"=0d=0a")
ENCODINGS = (b"base64", b"quoted-printable", b"7bit", b"8bit", b"x-uuencode", b"")


def check(data: bytes) -> None:
    """Text without bare line ends decodes to one result, whoever decodes it."""
    given = read(data)
    text = re.sub(rb"\r(?!\n)|(?<!\r)\n|\0", b"A", given.payload)
    encoding = ENCODINGS[given.options % len(ENCODINGS)]
    whole = decode(text, encoding)
    for pieces in given.ways(text):
        assert _decoded(pieces, encoding) == whole
    if encoding in (b"base64", b"quoted-printable"):
        assert whole == _reference(text, encoding)
        if whole is not None:
            _check_lenient(text, encoding, whole)


def _decoded(pieces: list[bytes], encoding: bytes) -> bytes | None:
    decoder = decoder_for(encoding)
    if decoder is None:
        return None
    octets = b"".join([decoder.feed(piece) for piece in pieces]) + decoder.finish()
    return None if decoder.failed else octets


def _reference(text: bytes, encoding: bytes) -> bytes | None:
    lines = text.split(b"\r\n")
    if any(len(line) > 998 for line in lines):
        return None
    try:
        return read_base64(b"".join(lines)) if encoding == b"base64" else read_quoted(lines)
    except Bad:
        return None


def _check_lenient(text: bytes, encoding: bytes, decoded: bytes) -> None:
    if encoding == b"base64":
        assert binascii.a2b_base64(text) == decoded
    elif not re.search(rb"[ \t]+(?:\r\n|\Z)", text):
        assert binascii.a2b_qp(text) == decoded


VECTORS = (
    vector(wrap(noise(100))),
    vector(b"QUJD\r\nRA==\r\n"),
    vector(b"QUI=\r\nRA=="),
    vector(b"ABCD===="),
    vector(b"line one=20\r\nline =\r\ntwo=3D \t\r\n", 1),
    vector(b"=C3=a4=\r\n", 1),
    vector(b"x=", 1),
    vector(b"x" * 999, 1),
    vector(b"plain\r\ntext", 2),
    vector(b"plain", 4),
)
