"""OpenPGP armor: cuts change nothing, and a reader of whole lines agrees."""

from __future__ import annotations

import re

from chatmail.domain.formats.armor import STANDARD_HEADERS, ArmorReader
from chatmail.domain.formats.facts import Finding
from tests.builders import armor, packets
from tests.fuzz.cutting import read, vector
from tests.unit.domain.strict_packets import Bad, read_armor

WORDS = (
    *(b"-----BEGIN PGP MESSAGE-----\r\n", b"-----END PGP MESSAGE-----\r\n", b"=AAAA\r\n", b"="),
    *(b"Version: x\r\n", b"Hash: \r\n", b"\r\n", b"\r\n\r\n", b" \r\n", b"\t", b"AAAA", b"=="),
    *(b"-----BEGIN PGP PUBLIC KEY BLOCK-----\r\n", b"\xff", b"-"),
)
MAX_TEXT = 6000


def check(data: bytes) -> None:
    """Text without bare line ends is decoded to what it says or refused, however it is cut."""
    given = read(data)
    text = re.sub(rb"\r(?!\n)|(?<!\r)\n|\0", b"A", given.payload)[:MAX_TEXT]
    if given.options & 1:
        text = b"-----BEGIN PGP MESSAGE-----\r\n\r\n%b\r\n-----END PGP MESSAGE-----" % text
        text = re.sub(rb"\r(?!\n)", b"A", text)
    decoded, finding = _read([text])
    for pieces in given.ways(text):
        octets, found = _read(pieces)
        assert found == finding
        assert octets == decoded or finding.inbound
    assert _reference(text, inbound=True) == (None if finding.inbound else decoded)
    assert _reference(text, inbound=False) == (None if finding.strict else decoded)


def _read(pieces: list[bytes]) -> tuple[bytes, Finding]:
    reader = ArmorReader(inbound_headers=STANDARD_HEADERS)
    octets = b"".join([reader.feed(piece) for piece in pieces]) + reader.finish()
    assert len(octets) <= sum(map(len, pieces))
    return octets, reader.finding


def _reference(text: bytes, *, inbound: bool) -> bytes | None:
    try:
        return read_armor(text, inbound)
    except Bad:
        return None


_SMALL = packets(60, recipients=1)
VECTORS = (
    vector(armor(_SMALL)),
    vector(armor(_SMALL, headers=b"Version: x\r\nComment: y\r\n")),
    vector(armor(_SMALL, checksum=False, width=76)),
    vector(armor(_SMALL, checksum=b"=AAAA\r\n", blank=b"")),
    vector(b"\r\n \t\r\n" + armor(_SMALL, width=20) + b"\r\n"),
    vector(armor(_SMALL, kind=b"PUBLIC KEY BLOCK")),
    vector(b"AAAA\r\nAAAA \r\n\r\n\r\n", 1),
    vector(b"AAAA\r\n=AAAA\r\n", 1),
    vector(b"AAA=\r\n", 1),
    vector(b"AAA=\r\nAAAA\r\n", 1),
    vector(b"AAA=\r\n=AAAA\r\nAAAA\r\n", 1),
)
