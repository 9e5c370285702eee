"""What a SEARCH looks for in content: cuts change nothing, and plain searching agrees."""

from __future__ import annotations

from chatmail.domain.wire.imap.search_content import Content, ContentProbe, needs_content
from chatmail.domain.wire.imap.search_keys import (
    SearchAnd,
    SearchDate,
    SearchHeader,
    SearchNot,
    SearchOr,
    SearchText,
)
from tests.builders import make_message
from tests.fuzz.cutting import read, vector

WORDS = (
    *(b"Subject: =?utf-8?q?=C3=A4?=\r\n", b"=?utf-8?b?w6Q=?=", b"=?x?q?a?=", b"=?iso-8859-1?q?"),
    *(b"Date: Tue, 18 Nov 2025 09:21:17 +0000\r\n", b"Date: ", b"\r\n\r\n", b"\r\n ", b"\n"),
    *(b"hello", b"HELLO", b"\xc3\xa4", b"\xff", b"99999999999", b"?=", b"=?"),
)
MAX_NEEDLE = 20


def check(data: bytes) -> None:
    """The payload is what is looked for, an LF, the header block, an empty line, the body."""
    given = read(data)
    wanted, _, message = given.payload.partition(b"\n")
    needle = wanted[:MAX_NEEDLE].decode("latin-1")
    header, _, body = message.partition(b"\r\n\r\n")
    in_body, anywhere = SearchText(needle, False), SearchText(needle, True)
    field = SearchHeader("Subject", needle)
    day = SearchDate(("<", "=", ">=")[given.options % 3], given.more * 80, sent=True)
    key = SearchAnd((in_body, SearchNot(SearchOr(anywhere, field)), day))
    assert needs_content(key) is Content.WHOLE
    found = _holds(key, header, [body])
    for pieces in given.ways(body):
        assert _holds(key, header, pieces) == found
    is_in_body = needle.encode().lower() in body.lower()
    assert found[0] == is_in_body
    assert found[1] or not is_in_body
    assert found[1] or not found[2] or not needle


def _holds(key: SearchAnd, header: bytes, pieces: list[bytes]) -> list[bool]:
    probe = ContentProbe(key)
    probe.header(header + b"\r\n\r\n")
    for piece in pieces or [b""]:
        probe.body(piece)
    first, second, day = key.keys
    assert isinstance(second, SearchNot)
    assert isinstance(second.key, SearchOr)
    keys = (first, second.key.first, second.key.second, day)
    return [probe.holds(leaf) for leaf in keys]  # type: ignore[arg-type]


VECTORS = (
    vector(b"hello\n" + make_message(encrypted=False, text="Say Hello")),
    vector(b"\xe4\nSubject: =?utf-8?q?=C3=A4?=\r\nDate: x\r\n\r\nbody", 1, 255),
    vector(b"\nDate: Tue, 18 Nov 2025 09:21:17 +0000\r\n\r\n", 2, 250),
    vector(b"x\nSubject: =?x-none?b?!!!?=\r\n =?utf-8?b?w6\r\n\r\nx", 0),
    vector(b"abab\nSubject: y\r\n\r\nabaababab", 0),
)
