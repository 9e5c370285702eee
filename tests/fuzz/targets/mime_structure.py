"""The part tree of stored octets, and ENVELOPE, BODY and BODYSTRUCTURE made of it."""

from __future__ import annotations

from chatmail.domain.formats.mime_structure import (
    MAX_DEPTH,
    MAX_PARTS,
    Part,
    StructureScanner,
    find_part,
)
from chatmail.domain.wire.imap.structure import body_structure, envelope, header_envelope
from tests.builders import delivery_report, make_message, securejoin_request
from tests.fuzz.cutting import read, vector
from tests.fuzz.imap_client import Reader
from tests.unit.domain.formats.test_mime_structure import NESTED

WORDS = (
    *(
        b"\r\n",
        b"\r\n\r\n",
        b"\n\n",
        b"--b\r\n",
        b"\r\n--b--\r\n",
        b"Content-Type: multipart/mixed",
    ),
    *(b"; boundary=b", b"Content-Type: message/rfc822\r\n\r\n", b"multipart/digest", b'"', b"\\"),
    *(b"Content-Disposition: attachment; filename=x\r\n", b"Content-Language: de, en\r\n"),
    *(b"From: a <b@c>\r\n", b"To: g: a@b, c@d;\r\n", b"Subject: x\r\n", b"(", b")", b"<", b">"),
    *(b"Content-ID: <x>\r\n", b"Content-Transfer-Encoding: base64\r\n", b"@a,@b:", b"\xff", b"\0"),
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n",
)


def check(data: bytes) -> None:
    """One tree however the octets are cut; every part lies inside its own; all of it renders."""
    given = read(data)
    tree = _scan([given.payload])
    for pieces in given.ways():
        assert _scan(pieces) == tree
    assert (tree.header_start, tree.body_end) == (0, len(given.payload))
    assert _check_part(tree, 1, given.payload) <= MAX_PARTS
    for extended in (False, True):
        octets = body_structure(tree, extended=extended)
        _reads(octets).body(extended=extended)
    octets = header_envelope(given.payload[: tree.body_start])
    _reads(octets).envelope()
    _reads(envelope(tree.fields)).envelope()
    for number in range(4):
        found = find_part(tree, (number,))
        assert found is None or find_part(tree, (number, 1, 1, 1)) is not tree


def _scan(pieces: list[bytes]) -> Part:
    scanner = StructureScanner()
    for piece in pieces:
        scanner.feed(piece)
    return scanner.finish()


def _check_part(part: Part, depth: int, octets: bytes) -> int:
    """Check a part and those below it; return how many there are."""
    assert depth <= MAX_DEPTH
    assert 0 <= part.header_start <= part.body_start <= part.body_end <= len(octets)
    if not part.children:
        assert part.lines == octets.count(b"\n", part.body_start, part.body_end)
    count, at = 1, part.body_start
    for child in part.children:
        assert at <= child.header_start
        assert child.body_end <= part.body_end
        at = child.body_end
        count += _check_part(child, depth + 1, octets)
    return count


def _reads(octets: bytes) -> Reader:
    assert b"\0" not in octets
    return Reader(octets)


VECTORS = (
    vector(NESTED),
    vector(make_message(size=60)),
    vector(delivery_report()),
    vector(securejoin_request()),
    vector(
        b'From: A B <a@b>, "q\\"" <c@d> (x)\r\nTo: g: e@f, <@x,@y:h@i>;\r\nCc: nobody\r\n'
        b"Subject: =?utf-8?q?=C3=A4?=\r\n\tfolded\r\nDate: x\r\nMessage-ID: <1@x>\r\n\r\nhi\r\n"
    ),
    vector(
        b"Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: x\n\nbody\n--b\n\n--b--\n"
    ),
    vector(b"Content-Type: message/rfc822\r\n\r\n" * 30),
    vector(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" * 30),
    vector(
        b'Content-Type: text/html; charset="\xff"\r\nContent-Disposition: inline; a="b\\"c"\r\n'
        b"Content-Language: de, en\r\nContent-Location: x y\r\nContent-MD5: z\r\n\r\n"
    ),
)
