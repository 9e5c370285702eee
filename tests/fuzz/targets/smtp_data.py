"""The content of DATA against a reader that looks at the whole stream at once."""

from __future__ import annotations

from chatmail.domain.wire.smtp.data import CHUNK_OCTETS, ContentFault, DataReader
from tests.fuzz.cutting import read, vector

LIMITS = (500, 66_000, 200_000)
WORDS = (b"\r\n.\r\n", b"\r\n.", b"\n.\n", b"\r.\r", b"\r\n..", b"\n.\r\n", b"\r\n.\n", b"\0")


def check(data: bytes) -> None:
    """End, dots, size and fault are those that the whole stream shows, wherever windows end."""
    given = read(data)
    # Filler moves the interesting octets to the end of a window.
    filler = b"x" * (given.more and CHUNK_OCTETS - 128 + given.more)
    stream = filler + given.payload
    max_bytes = LIMITS[given.options % len(LIMITS)]
    whole = _feed([stream], max_bytes)
    assert _feed([filler, *given.pieces()] if filler else given.pieces(), max_bytes) == whole
    if whole[3] is not ContentFault.ENDLESS:
        assert whole == _expected(stream, max_bytes)


def _feed(pieces: list[bytes], max_bytes: int) -> tuple[bytes | None, bytes, int, object]:
    """Return content (None: refused), octets behind the end, size, fault; as if no piece was."""
    reader = DataReader(max_bytes)
    content: list[bytes] = []
    rest = None
    for at, piece in enumerate(pieces):
        chunks, rest = reader.feed(piece)
        for chunk in chunks:
            assert 0 < len(chunk) <= CHUNK_OCTETS
        content += chunks
        if rest is not None:
            rest += b"".join(pieces[at + 1 :])
            break
    if reader.fault is ContentFault.ENDLESS:
        return None, b"", 0, reader.fault
    if rest is None:
        return None, b"no end", 0, None
    return (b"".join(content) if reader.fault is None else None), rest, reader.size, reader.fault


def _expected(stream: bytes, max_bytes: int) -> tuple[bytes | None, bytes, int, object]:
    found = (b"\r\n" + stream).find(b"\r\n.\r\n")
    if found < 0:
        return None, b"no end", 0, None
    raw, rest = stream[:found], stream[found + 3 :]
    lines = [line.removeprefix(b".") for line in raw.split(b"\r\n")]
    content = b"\r\n".join(lines)
    if any(octet in line for line in raw.split(b"\r\n") for octet in (b"\r", b"\n", b"\0")):
        return None, rest, len(content), ContentFault.BAD_LINE
    if len(content) > max_bytes:
        return None, rest, len(content), ContentFault.TOO_BIG
    return content, rest, len(content), None


VECTORS = (
    vector(b"From: u\r\n\r\n..hi\r\n.dot\r\n\r\n.\r\nQUIT\r\n"),
    vector(b".\r\nRSET\r\n"),
    vector(b"one\r\n\n.\nMAIL FROM:<>\r\ntwo\r\n.\r\n"),
    vector(b"x" * 600 + b"\r\n.\r\nNOOP\r\n"),
    vector(b"x" * 120 + b"\r\n.\r\nNOOP\r\n", 1, 1),
    vector(b"x" * 126 + b"\r\n.\r\n", 1, 1),
    vector(b"x" * 124 + b"\r\n..\r\n.\r\n", 2, 2),
    vector(b"\r\n" * 80 + b".\r\n", 2, 3),
    # The end mark, and a stuffed dot, at each place where a window may cut it.
    *(
        vector(b"x" * (28 - cut) + mark + b"NOOP\r\n", 2, 100)
        for cut in range(1, 6)
        for mark in (b"\r\n.\r\n", b"\r\n..\r\n.\r\n")
    ),
)
