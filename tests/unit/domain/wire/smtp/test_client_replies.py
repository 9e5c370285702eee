from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.model.errors import RemoteProtocolError
from chatmail.domain.wire.smtp.client_replies import (
    MAX_LINE_OCTETS,
    MAX_LINES,
    PeerReply,
    ReplyReader,
)


def read_all(*pieces: bytes) -> list[PeerReply]:
    reader = ReplyReader()
    replies = []
    for piece in pieces:
        reader.receive(piece)
        while (reply := reader.next_reply()) is not None:
            replies.append(reply)
    return replies


def test_one_line() -> None:
    assert read_all(b"250 2.0.0 Ok\r\n") == [PeerReply(250, ("2.0.0 Ok",))]


def test_several_lines_are_one_reply() -> None:
    assert read_all(b"250-relay\r\n250-SIZE 10\r\n250 PIPELINING\r\n") == [
        PeerReply(250, ("relay", "SIZE 10", "PIPELINING"))
    ]


def test_several_replies_in_one_piece() -> None:
    assert [reply.code for reply in read_all(b"250 a\r\n550 b\r\n354 c\r\n")] == [250, 550, 354]


@pytest.mark.parametrize("line", [b"250\r\n", b"250 \r\n", b"250 x\n"])
def test_a_code_without_text_and_a_bare_line_feed_pass(line: bytes) -> None:
    assert [reply.code for reply in read_all(line)] == [250]


def test_the_last_line_has_the_code() -> None:
    assert read_all(b"250-a\r\n550 b\r\n") == [PeerReply(550, ("a", "b"))]


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n", id="http"),
        pytest.param(b"\r\n", id="empty"),
        pytest.param(b"99 x\r\n", id="two-digits"),
        pytest.param(b"650 x\r\n", id="no-class"),
        pytest.param(b"2500 x\r\n", id="four-digits"),
        pytest.param(b"250_x\r\n", id="separator"),
        pytest.param("250 x\r\n٢٥٠ x\r\n".encode(), id="other-digits"),
        pytest.param(b"250 " + b"x" * MAX_LINE_OCTETS + b"\r\n", id="line-too-long"),
        pytest.param(b"x" * (MAX_LINE_OCTETS + 1), id="line-without-end"),
        pytest.param(b"250-x\r\n" * (MAX_LINES + 1), id="lines-without-end"),
        pytest.param((b"250-" + b"x" * 4000 + b"\r\n") * 20, id="too-much-of-it"),
    ],
)
def test_nonsense_and_floods_end_the_dialogue(octets: bytes) -> None:
    """A6.5."""
    with pytest.raises(RemoteProtocolError):
        read_all(octets)


def test_the_longest_lines_and_replies_pass() -> None:
    line = b"250 " + b"x" * (MAX_LINE_OCTETS - 6) + b"\r\n"
    assert len(line) == MAX_LINE_OCTETS
    assert len(read_all(line)) == 1
    assert len(read_all(b"250-x\r\n" * (MAX_LINES - 1) + b"250 x\r\n")) == 1


@pytest.mark.parametrize(
    ("text", "subject"),
    [("4.5.3 Many", "5.3"), ("5.1.10 x", "1.10"), ("x", ""), ("4.5.3.1 x", ""), ("", "")],
)
def test_subject_and_detail_of_the_enhanced_code(text: str, subject: str) -> None:
    assert PeerReply(452, (text,)).subject == subject


@given(st.binary(max_size=200), st.data())
def test_cuts_change_nothing(octets: bytes, data: st.DataObject) -> None:
    octets = b"250-a\r\n250 b\r\n550 c\r\n" + octets
    cut = data.draw(st.integers(0, len(octets)))

    def outcome(*pieces: bytes) -> object:
        reader, replies = ReplyReader(), []
        try:
            for piece in pieces:
                reader.receive(piece)
                while (reply := reader.next_reply()) is not None:
                    replies.append(reply)
        except RemoteProtocolError:
            return replies, "over"
        return replies

    assert outcome(octets) == outcome(octets[:cut], octets[cut:])
