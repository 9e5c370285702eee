"""End of data, dots, forbidden octets, sizes, and independence from cuts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatmail.domain.wire.smtp.data import CHUNK_OCTETS, ContentFault, DataReader

LIMIT = 1 << 20


def read(stream: bytes, sizes: list[int], max_bytes: int = LIMIT) -> tuple[object, ...]:
    """Feed `stream` in pieces; return chunks, fault, size and what follows the end."""
    reader = DataReader(max_bytes)
    chunks: list[bytes] = []
    for size in [*sizes, len(stream)]:
        piece, stream = stream[:size], stream[size:]
        if not piece:
            continue
        new, rest = reader.feed(piece)
        chunks += new
        if rest is not None:
            if reader.fault is not ContentFault.ENDLESS:
                rest += stream
            return chunks, reader.fault, reader.size, rest
    return chunks, reader.fault, reader.size, None


def stuffed(content: bytes) -> bytes:
    lines = content.split(b"\r\n")
    return b"\r\n".join(b"." + line if line.startswith(b".") else line for line in lines)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\r\n", id="one-empty-line"),
        pytest.param(b"Subject: x\r\n\r\nbody\r\n", id="plain"),
        pytest.param(b".\r\nx\r\n", id="first-line-is-a-dot"),
        pytest.param(b"..\r\n.x\r\n...\r\n", id="dots"),
        pytest.param(b"a\r\n.\r\n.\r\n", id="lone-dots"),
        pytest.param(
            bytes(range(1, 10)) + b"\x0b\x0c" + bytes(range(14, 256)) + b"\r\n", id="8bit"
        ),
        pytest.param(b"x" * 10_000 + b"\r\n", id="long-line"),
        pytest.param(b"trailing  \t \r\n  \r\n", id="spaces"),
    ],
)
@pytest.mark.parametrize("step", [1, 2, 3, 7, 4096, LIMIT])
def test_content_is_byte_exact_and_one_chunk(content: bytes, step: int) -> None:
    stream = stuffed(content) + b".\r\n"
    chunks, fault, size, rest = read(stream, [step] * (len(stream) // step))
    assert chunks == ([content] if content else [])
    assert fault is None
    assert size == len(content)
    assert rest == b""


def test_a_message_without_dots_is_copied_once_at_most() -> None:
    reader = DataReader(LIMIT)
    octets = b"x" * 100 + b"\r\n"
    reader.feed(octets)
    chunks, rest = reader.feed(b".\r\nMAIL")
    assert chunks == [octets]
    assert rest == b"MAIL"


@pytest.mark.parametrize(
    "fake_end",
    [
        b"\n.\n",
        b"\r.\r",
        b"\n.\r\n",
        b"\r\n.\n",
        b"\r\n.\r",
        b"\r\n\x00.\r\n",
        b"\r\n.\x00\r\n",
        b"\r\r\n.\r\r\n",
        b"\n\r.\n\r",
    ],
)
def test_nothing_but_crlf_dot_crlf_ends_content(fake_end: bytes) -> None:
    smuggled = b"MAIL FROM:<evil@relay.example>\r\nDATA\r\n"
    stream = b"one" + fake_end + smuggled + b"\r\n.\r\nQUIT\r\n"
    chunks, fault, _, rest = read(stream, [])
    assert rest == b"QUIT\r\n"
    assert chunks == []
    assert fault is ContentFault.BAD_LINE


@pytest.mark.parametrize("bad", [b"a\rb", b"a\nb", b"a\0b", b"\r", b"\n", b"x\r\r\n", b"\n\n"])
@pytest.mark.parametrize("offset", [0, CHUNK_OCTETS - 2, CHUNK_OCTETS - 1, CHUNK_OCTETS, 70_000])
def test_bare_line_ends_and_nul_are_noticed_anywhere(bad: bytes, offset: int) -> None:
    stream = b"x" * offset + bad + b"yz\r\n.\r\n"
    _, fault, _, rest = read(stream, [])
    assert fault is ContentFault.BAD_LINE
    assert rest == b""


@pytest.mark.parametrize("before", range(CHUNK_OCTETS - 12, CHUNK_OCTETS + 3))
def test_the_end_is_found_and_dots_are_removed_at_any_chunk_border(before: int) -> None:
    content = b"x" * before + b"\r\n.y\r\n.\r\n" + b"z" * 9 + b"\r\n"
    chunks, fault, size, rest = read(stuffed(content) + b".\r\nNOOP\r\n", [])
    assert isinstance(chunks, list)
    assert b"".join(chunks) == content
    assert max(map(len, chunks)) <= CHUNK_OCTETS
    assert (fault, size, rest) == (None, len(content), b"NOOP\r\n")


def test_a_large_message_leaves_in_chunks_while_it_arrives() -> None:
    reader = DataReader(LIMIT)
    chunks: list[bytes] = []
    for _ in range(20):
        new, rest = reader.feed(b"y" * 16_000)
        chunks += new
        assert rest is None
    assert len(chunks) == 320_000 // CHUNK_OCTETS
    assert all(len(chunk) == CHUNK_OCTETS for chunk in chunks)


def test_a_drip_of_single_octets_does_not_gather_objects() -> None:
    reader = DataReader(LIMIT)
    for _ in range(1000):
        reader.feed(b"x")
    assert len(reader._pieces) <= 65


def test_content_at_the_limit_passes_whatever_its_stuffing_adds() -> None:
    content = b".a\r\n" * 25
    chunks, fault, size, _ = read(stuffed(content) + b".\r\n", [], max_bytes=100)
    assert (chunks, fault, size) == ([content], None, 100)


def test_content_above_the_limit_is_read_to_its_end_and_not_handed_out() -> None:
    content = b"x" * 99 + b"\r\n"
    chunks, fault, size, rest = read(content + b".\r\nNOOP\r\n", [10] * 20, max_bytes=100)
    assert (chunks, fault, size, rest) == ([], ContentFault.TOO_BIG, 101, b"NOOP\r\n")


def test_content_above_twice_the_limit_is_not_waited_for() -> None:
    reader = DataReader(2 * CHUNK_OCTETS)
    seen = 0
    rest = None
    while rest is None:
        chunks, rest = reader.feed(b"x" * CHUNK_OCTETS)
        seen += sum(map(len, chunks))
        assert reader.size <= 5 * CHUNK_OCTETS
    assert reader.fault is ContentFault.ENDLESS
    assert seen == 2 * CHUNK_OCTETS
    assert rest == b""


PARTS = [b"\r\n", b".", b"\r", b"\n", b"\0", b"a", b"..", b"\r\n.\r\n", b"x" * 300]


@settings(max_examples=150)
@given(
    st.lists(st.sampled_from(PARTS), max_size=25),
    st.lists(st.integers(1, 9), max_size=60),
    st.integers(0, 2).map(lambda n: n * (CHUNK_OCTETS - 5)),
)
def test_cutting_never_changes_what_is_read(parts: list[bytes], cuts: list[int], pad: int) -> None:
    stream = b"p" * pad + b"".join(parts) + b"\r\n.\r\nrest"
    first = [pad] if pad else []
    assert read(stream, [*first, *cuts], 2000) == read(stream, [], 2000)
    assert read(stream, [*first, *cuts]) == read(stream, [])


@given(st.binary(max_size=400), st.lists(st.integers(1, 50), max_size=20))
def test_any_content_of_proper_lines_survives(content: bytes, cuts: list[int]) -> None:
    proper = content.replace(b"\0", b"").replace(b"\r", b"").replace(b"\n", b"\r\n") + b"\r\n"
    chunks, fault, size, rest = read(stuffed(proper) + b".\r\n", cuts)
    assert isinstance(chunks, list)
    assert (b"".join(chunks), fault, size, rest) == (proper, None, len(proper), b"")
