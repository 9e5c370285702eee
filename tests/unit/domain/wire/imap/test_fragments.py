from __future__ import annotations

import pytest

from chatmail.domain.wire.imap.fragments import (
    CHUNK_BYTES,
    LINE_TOO_LONG,
    FragmentReader,
    LiteralHeader,
    Skip,
    literal_header,
)


def reader(*pieces: bytes) -> FragmentReader:
    made = FragmentReader()
    for piece in pieces:
        made.receive(piece)
    return made


@pytest.mark.parametrize(
    ("line", "header"),
    [
        (b"a {5}", LiteralHeader(5, True, 2)),
        (b"a {5+}", LiteralHeader(5, False, 2)),
        (b"{0}", LiteralHeader(0, True, 0)),
        (b"a {007}", LiteralHeader(7, True, 2)),
        (b"a {99999999999}", LiteralHeader(99999999999, True, 2)),
        (b"a {" + b"9" * 5000 + b"+}", LiteralHeader(2**64, False, 2)),
    ],
)
def test_a_literal_is_announced_at_the_end_of_a_line(line, header):
    assert literal_header(line) == header


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"}",
        b"{}",
        b"{+}",
        b"{-1}",
        b"{5-}",
        b"{5} ",
        b"{5",
        b"5}",
        b"{a}",
        b"{5++}",
        b"{ 5}",
        "{٣}".encode(),
    ],
)
def test_what_only_looks_like_a_literal_announces_none(line):
    assert literal_header(line) is None


def test_lines_end_with_crlf_or_lf():
    made = reader(b"one\r\ntwo\nthree\r\r\n\r\n")
    assert [made.line(99) for _ in range(5)] == [b"one", b"two", b"three\r", b"", None]


def test_a_line_may_come_in_pieces():
    made = reader(b"on")
    assert made.line(99) is None
    made.receive(b"e\r")
    assert made.line(99) is None
    made.receive(b"\nt")
    assert made.line(99) == b"one"
    assert made.buffered == 1


@pytest.mark.parametrize("pieces", [(b"12345\n",), (b"1234", b"5\n"), (b"12345",)])
def test_a_line_over_its_limit_is_reported_and_kept(pieces):
    made = reader(*pieces)
    assert made.line(4) is LINE_TOO_LONG
    assert made.peek(3) == b"123"
    assert made.line(5) in (b"12345", None)


def test_counted_octets_are_never_split_at_line_ends():
    made = reader(b"a\r\nb")
    assert made.exactly(5) is None
    made.receive(b"\n")
    assert made.exactly(5) == b"a\r\nb\n"
    assert made.exactly(0) == b""


def test_streamed_octets_come_in_chunks():
    made = reader(b"x" * (CHUNK_BYTES + 10))
    assert len(made.some(10**9)) == CHUNK_BYTES
    assert made.some(4) == b"xxxx"
    assert made.some(10**9) == b"x" * 6
    assert made.some(10) == b""


def test_a_small_message_is_handed_on_without_a_copy():
    octets = b"m" * 2000
    assert reader(octets).some(2000) is octets


def test_skipping_swallows_literals_and_the_lines_between():
    made = reader(b"A1 NOOP\r\nx {3+}\r\nA2 )\r\nA3 NOOP\r\n")
    made.begin_skip(9)
    assert made.skip(100) is Skip.DONE
    assert made.line(99) == b"A3 NOOP"


def test_skipping_needs_all_octets():
    made = reader(b"12")
    made.begin_skip(3)
    assert made.skip(100) is Skip.NEED_DATA
    made.receive(b"3 {2+")
    assert made.skip(100) is Skip.NEED_DATA
    made.receive(b"}\r")
    assert made.skip(100) is Skip.NEED_DATA
    made.receive(b"\nab\r\nnext\r\n")
    assert made.skip(100) is Skip.DONE
    assert made.line(99) == b"next"


def test_a_synchronising_literal_ends_what_is_skipped():
    made = reader(b"x {3}\r\nA3 NOOP\r\n")
    made.begin_skip(0)
    assert made.skip(100) is Skip.DONE
    assert made.line(99) == b"A3 NOOP"


@pytest.mark.parametrize("number", [b"101", b"9" * 30, b"0" * 60 + b"5"])
def test_a_literal_too_large_to_skip_is_hopeless(number):
    made = reader(b"x" * 100 + b"{" + number + b"+}\r\n")
    made.begin_skip(0)
    assert made.skip(100) is Skip.HOPELESS


def test_skipping_a_long_line_keeps_almost_nothing():
    made = FragmentReader()
    made.begin_skip(0)
    for _ in range(100):
        made.receive(b"x" * 1000)
        assert made.skip(100) is Skip.NEED_DATA
        assert made.buffered == 0
    made.receive(b"\nnext\n")
    assert made.skip(100) is Skip.DONE
    assert made.line(99) == b"next"
