"""The line splitter: limits, resynchronising, no dependence on how octets were cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.model.errors import RemoteProtocolError
from chatmail.domain.wire.line_buffer import MAX_SKIPPED_OCTETS, LineBuffer, LineTooLongError


def lines_of(buffer: LineBuffer, limit: int) -> list[bytes | str]:
    found: list[bytes | str] = []
    while True:
        try:
            line = buffer.take_line(limit)
        except LineTooLongError:
            found.append("too long")
            continue
        if line is None:
            return found
        found.append(line)


def test_lines_come_with_their_line_feed() -> None:
    buffer = LineBuffer()
    buffer.receive(b"a\r\nb\n\r\nrest")
    assert lines_of(buffer, 100) == [b"a\r\n", b"b\n", b"\r\n"]
    assert len(buffer) == 4


def test_a_torn_line_is_joined() -> None:
    buffer = LineBuffer()
    for octet in b"NOOP\r\nQU":
        buffer.receive(bytes([octet]))
    assert lines_of(buffer, 100) == [b"NOOP\r\n"]
    buffer.receive(b"IT\r\n")
    assert lines_of(buffer, 100) == [b"QUIT\r\n"]


def test_a_line_at_the_limit_passes_and_one_octet_more_does_not() -> None:
    buffer = LineBuffer()
    buffer.receive(b"x" * 8 + b"\r\n" + b"y" * 9 + b"\r\nok\r\n")
    assert lines_of(buffer, 10) == [b"x" * 8 + b"\r\n", "too long", b"ok\r\n"]


def test_an_overlong_line_without_end_is_reported_at_once_and_not_kept() -> None:
    buffer = LineBuffer()
    buffer.receive(b"x" * 10)
    assert lines_of(buffer, 10) == ["too long"]
    for _ in range(100):
        buffer.receive(b"x" * 1000)
        assert lines_of(buffer, 10) == []
    assert len(buffer) == 0
    buffer.receive(b"\r\nok\r\n")
    assert lines_of(buffer, 10) == [b"ok\r\n"]


def test_a_line_that_never_ends_is_hopeless() -> None:
    buffer = LineBuffer()
    buffer.receive(b"x" * (MAX_SKIPPED_OCTETS + 1))
    with pytest.raises(LineTooLongError):
        buffer.take_line(10)
    with pytest.raises(RemoteProtocolError) as raised:
        buffer.take_line(10)
    assert not isinstance(raised.value, LineTooLongError)


def test_counted_octets_stand_between_lines() -> None:
    buffer = LineBuffer()
    buffer.receive(b"a\r\n12\n45b\r\n")
    assert buffer.take_line(10) == b"a\r\n"
    assert buffer.take(5) == b"12\n45"
    assert buffer.take_line(10) == b"b\r\n"
    assert buffer.take(5) == b""


def test_taking_everything_does_not_copy_untouched_octets() -> None:
    buffer = LineBuffer()
    octets = b"x" * 2000
    buffer.receive(octets)
    assert buffer.take_all() is octets
    assert len(buffer) == 0


def test_what_was_left_after_taking_everything_is_not_scanned_from_the_middle() -> None:
    buffer = LineBuffer()
    buffer.receive(b"partial")
    assert buffer.take_line(100) is None
    assert buffer.take_all() == b"partial"
    buffer.receive(b"a\r\n")
    assert buffer.take_line(100) == b"a\r\n"


@given(
    st.lists(st.sampled_from([b"a", b"\r\n", b"\n", b"x" * 9, b"\r"]), max_size=30),
    st.lists(st.integers(1, 7), max_size=40),
)
def test_cutting_never_changes_the_lines(parts: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(parts)
    whole = LineBuffer()
    whole.receive(stream)
    expected = lines_of(whole, 8)
    cut = LineBuffer()
    found: list[bytes | str] = []
    for size in [*cuts, len(stream)]:
        cut.receive(stream[:size])
        stream = stream[size:]
        found += lines_of(cut, 8)
    assert found == expected
