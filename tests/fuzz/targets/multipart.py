"""Multipart bodies: every octet is in one piece, and cuts move no octet to another."""

from __future__ import annotations

import re

from chatmail.domain.formats.mime import MultipartSplitter, Piece, split_multipart
from tests.builders import encrypted_body, multipart, part, report_body
from tests.fuzz.cutting import read, vector

BOUNDARIES = (b"b", b"b-", b"--", b"b b", b"18c7a0c1f2e4b3a9_0_ab12cd34ef56")
WORDS = (
    *(b"\r\n", b"\r\n\r\n", b"\r\n--b", b"\r\n--b--", b"--b\r\n", b"--b--\r\n", b"--", b" ", b"\t"),
    *(
        b"Content-Type: text/plain\r\n",
        b"Content-Transfer-Encoding: base64\r\n",
        b"-",
        b"\r\n--b--b",
    ),
)

Pieces = list[tuple[Piece, bytes]]


def check(data: bytes) -> None:
    """The pieces, put together again, are the body; cut otherwise, they are the same."""
    given = read(data)
    body = re.sub(rb"\r(?!\n)|(?<!\r)\n|\0", b"A", given.payload)
    boundary = BOUNDARIES[given.options % len(BOUNDARIES)]
    whole = _split([body], boundary)
    for pieces in given.ways(body):
        assert _split(pieces, boundary) == whole
    _check_account(whole, body, boundary)
    small = split_multipart(body, boundary)
    assert (small is None) == any(piece is Piece.BAD for piece, _ in whole)


def _split(pieces: list[bytes], boundary: bytes) -> Pieces:
    splitter = MultipartSplitter(boundary)
    events = [event for piece in pieces for event in splitter.feed(piece)] + splitter.finish()
    joined: Pieces = []
    for piece, octets in events:
        if joined and joined[-1][0] is piece:
            joined[-1] = (piece, joined[-1][1] + octets)
        else:
            joined.append((piece, octets))
    if joined and joined[-1][0] is Piece.BAD:
        # How much was handed out before a rule broke is all that cuts may change.
        return [event for event in joined if event[0] not in (Piece.CONTENT, Piece.PREAMBLE)]
    return joined


def _check_account(whole: Pieces, body: bytes, boundary: bytes) -> None:
    if any(piece is Piece.BAD for piece, _ in whole):
        return
    delimiter, pattern, gap = b"--" + re.escape(boundary), b"", rb"\r\n"
    for piece, octets in whole:
        if piece is Piece.PART:
            pattern += gap + delimiter + rb"[ \t]*\r\n" + re.escape(octets)
            gap = rb"(?:\r\n)?"  # a part without content shares its empty line with what follows
        elif piece is Piece.CLOSE:
            pattern += gap + delimiter + rb"--[ \t]*(?:\r\n|\Z)"
        elif piece is not Piece.END:
            pattern += re.escape(octets)
            gap = rb"\r\n"
    assert re.fullmatch(pattern, b"\r\n" + body)


VECTORS = (
    vector(multipart(part(b"x", "Content-Type: text/plain"), part(b"y"), boundary="b")),
    vector(multipart(part(b""), boundary="b", preamble=b"", epilogue=b"end")),
    vector(b"--b\r\n\r\n--b--"),
    vector(b"--b \t\r\nA: b\r\n\r\nx\r\n--bb\r\n--b--x\r\n--b--  \r\n"),
    vector(b"--b\r\n--b--\r\n"),
    vector(b"--b-\r\n\r\nx\r\n--b---\r\n--b---", 1),
    vector(b"--b" + b" " * 1000 + b"\r\n\r\n--b--"),
    vector(b"--b\r\n" + b"A: b\r\n" * 400),
    vector(encrypted_body(size=60), 4),
    vector(report_body(), 4),
)
