"""An exchanger's answer: read as far as it makes sense."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.formats.exchange import (
    MAX_MESSAGES,
    MAX_RECIPIENTS,
    ExchangeError,
    parse_exchange,
)

BODY = base64.b64encode(b"Subject: x\r\n\r\nhello\r\n").decode()


def one(**changes: object) -> dict[str, object]:
    found = {"id": "7", "from": "a@b.test", "to": ["c@d.test"], "size": 1, "date": "", "body": BODY}
    return found | changes


def answer(*messages: object) -> bytes:
    return json.dumps({"hash": "x", "count": len(messages), "messages": messages}).encode()


def test_a_message_is_read() -> None:
    (parcel,) = parse_exchange(answer(one()))
    assert (parcel.id, parcel.sender, parcel.recipients) == ("7", "a@b.test", ("c@d.test",))
    assert b"".join(parcel.octets()) == b"Subject: x\r\n\r\nhello\r\n"


def test_other_forms_of_the_same_are_read() -> None:
    texts = one(id=7, to="c@d.test", body=BODY[:8] + "\r\n" + BODY[8:])
    texts["from"] = None
    (parcel,) = parse_exchange(answer(texts))
    assert (parcel.id, parcel.sender, parcel.recipients) == ("7", "", ("c@d.test",))
    assert b"".join(parcel.octets()).endswith(b"hello\r\n")


def test_a_large_body_comes_in_pieces() -> None:
    octets = bytes(range(256)) * 1000
    (parcel,) = parse_exchange(answer(one(body=base64.b64encode(octets).decode())))
    pieces = list(parcel.octets())
    assert max(map(len, pieces)) <= 65536
    assert b"".join(pieces) == octets


@pytest.mark.parametrize("octets", [b'{"hash": "x"}', b'{"messages": null}', answer()])
def test_nothing_is_nothing(octets: bytes) -> None:
    assert parse_exchange(octets) == ()


@pytest.mark.parametrize(
    "octets", [b"", b"<html>", b"[]", b'"x"', b'{"messages": {}}', b"\xff", b"[" * 100_000]
)
def test_what_is_no_answer_is_said(octets: bytes) -> None:
    with pytest.raises(ExchangeError):
        parse_exchange(octets)


@pytest.mark.parametrize(
    "message",
    [
        7,
        {},
        one(id=""),
        one(id=None),
        one(id=True),
        one(id="x" * 400),
        one(to=[]),
        one(to=[7]),
        one(to=["a@b.test"] * (MAX_RECIPIENTS + 1)),
        one(body=None),
        one(**{"from": 7}),
    ],
)
def test_a_message_without_sense_does_not_hide_the_others(message: object) -> None:
    assert [parcel.id for parcel in parse_exchange(answer(message, one(id="good")))] == ["good"]


def test_no_more_than_a_thousand_at_once() -> None:
    assert len(parse_exchange(answer(*[one()] * (MAX_MESSAGES + 1)))) == MAX_MESSAGES


@pytest.mark.parametrize("body", ["!!!!", "abc", "a=bc", "ä" * 4])
def test_a_body_that_is_not_base64(body: str) -> None:
    (parcel,) = parse_exchange(answer(one(body=body)))
    with pytest.raises(ExchangeError):
        list(parcel.octets())


@given(st.recursive(st.none() | st.integers() | st.text(max_size=9), st.lists, max_leaves=5))
def test_any_json_is_read_or_refused(value: object) -> None:
    try:
        parse_exchange(json.dumps({"messages": value}).encode())
    except ExchangeError:
        return
