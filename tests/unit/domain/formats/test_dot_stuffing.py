from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.formats.dot_stuffing import DotStuffer


def stuffed(*pieces: bytes) -> bytes:
    stuffer = DotStuffer()
    return b"".join(map(stuffer.feed, pieces)) + stuffer.finish()


@pytest.mark.parametrize(
    ("content", "wire"),
    [
        pytest.param(b"a\r\n", b"a\r\n.\r\n", id="nothing-to-stuff"),
        pytest.param(b".\r\n", b"..\r\n.\r\n", id="lone-dot"),
        pytest.param(b"a\r\n.b\r\n..\r\n", b"a\r\n..b\r\n...\r\n.\r\n", id="every-line"),
        pytest.param(b"a.b\r\n", b"a.b\r\n.\r\n", id="dot-inside-a-line"),
        pytest.param(b"a", b"a\r\n.\r\n", id="torn-last-line"),
        pytest.param(b"a\r\n.", b"a\r\n..\r\n.\r\n", id="torn-dot"),
        pytest.param(b"a\r", b"a\r\r\n.\r\n", id="torn-line-end"),
        pytest.param(b"", b".\r\n", id="empty"),
    ],
)
def test_lines_that_begin_with_a_dot_get_another(content: bytes, wire: bytes) -> None:
    """A6.3: without this a lone dot would split the message."""
    assert stuffed(content) == wire


@given(
    st.lists(st.sampled_from([b".", b"\r\n", b"\r\n.", b"x", b"\r\n..", b"\r"]), max_size=12),
    st.data(),
)
def test_cuts_change_nothing(parts: list[bytes], data: st.DataObject) -> None:
    content = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=6)))
    bounds = [0, *cuts, len(content)]
    pieces = [content[a:b] for a, b in itertools.pairwise(bounds)]
    assert stuffed(*pieces) == stuffed(content)


@given(st.lists(st.binary(max_size=6).filter(lambda line: b"\r" not in line and b"\n" not in line)))
def test_a_receiver_gets_the_same_lines_back(lines: list[bytes]) -> None:
    content = b"".join(line + b"\r\n" for line in lines)
    wire = stuffed(content).split(b"\r\n")
    assert wire[-2:] == [b".", b""]
    received = [line.removeprefix(b".") for line in wire[:-2]]
    assert b"".join(line + b"\r\n" for line in received) == content
