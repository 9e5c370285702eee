"""What is read whole is what Delta Chat writes; everything else is left to the readers in a row."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatmail.domain.formats.content_type import parse_content_type
from chatmail.domain.formats.facts import NO_FINDING
from chatmail.domain.formats.pgp_mime import EncryptedBody
from chatmail.domain.formats.rfc5322 import end_of_header
from chatmail.domain.formats.usual_form import MAX_OCTETS, read_usual_form
from tests.builders import BOUNDARY, armor, encrypted_body, make_message, packets
from tests.unit.domain.formats.test_message_scanner import mutate
from tests.unit.domain.scanning import scan


def body_of(message: bytes) -> bytes:
    return message[end_of_header(message) :]


BODY = body_of(make_message(size=200))


def is_usual(body: bytes) -> bool:
    return read_usual_form(body, BOUNDARY.encode()) is not None


@pytest.mark.parametrize("size", [60, 640, 20_000, 40_000])
@pytest.mark.parametrize("preamble", [b"", b"\r\n", b"\r\n\r\n"])
def test_a_message_as_core_writes_it_is_read_whole(size: int, preamble: bytes) -> None:
    body = body_of(make_message(size=size)).lstrip(b"\r\n")
    assert is_usual(preamble + body)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Version: 1", b"Version: 2"),
        (b"-----BEGIN PGP MESSAGE-----", b"-----BEGIN PGP MESSAGE-----\r\nVersion: x"),
        (b"\r\n-----END PGP MESSAGE-----", b"AAAA\r\n-----END PGP MESSAGE-----"),
        (b"\r\n=", b"\r\n==\r\n="),
        (b"\r\n=", b"\r\n-\r\n="),
        (b"\r\n=", b"\r\n\r\n="),
        (BOUNDARY.encode() + b"--", BOUNDARY.encode() + b"-"),
        (b"application/octet-stream", b"application/octet"),
        (b"application/pgp-encrypted", b"application/pgp"),
    ],
)
def test_what_differs_is_left_to_the_readers(old: bytes, new: bytes) -> None:
    assert old in BODY
    assert not is_usual(BODY.replace(old, new))


def test_a_wrong_checksum_is_left_to_the_readers() -> None:
    at = BODY.index(b"\r\n=") + 3
    other = b"A" if BODY[at : at + 1] != b"A" else b"B"
    assert not is_usual(BODY[:at] + other + BODY[at + 1 :])
    assert scan(make_message(body=BODY[:at] + other + BODY[at + 1 :])).structure.strict == "A-05"


@pytest.mark.parametrize("width", [4, 60, 998, 999])
def test_lines_of_any_legal_length(width: int) -> None:
    body = encrypted_body(armor(packets(1500), width=width))
    message = make_message(body=body)
    assert is_usual(body_of(message)) == (width <= 998)
    assert (scan(message).structure == NO_FINDING) == (width <= 998)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**64))
def test_whole_or_cut_mutated_bodies_give_the_same_answer(seed: int) -> None:
    chance = random.Random(seed)
    message = make_message(body=mutate(chance, BODY))
    assert scan(message) == scan(message, [7] * 400)


def test_a_body_beyond_the_bound_is_not_held() -> None:
    content_type = parse_content_type(b'multipart/encrypted; boundary="%b"' % BOUNDARY.encode())
    assert content_type is not None
    whole, pieces = EncryptedBody(content_type), EncryptedBody(content_type)
    long_body = body_of(make_message(size=2 * MAX_OCTETS))
    whole.feed(long_body)
    for start in range(0, len(long_body), 16384):
        pieces.feed(long_body[start : start + 16384])
        assert len(pieces._held) <= MAX_OCTETS
    assert whole.finish() == pieces.finish() == NO_FINDING
    assert not pieces._held
    assert whole.is_transparent() is pieces.is_transparent() is False
