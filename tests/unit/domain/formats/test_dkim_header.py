"""Which fields are covered, and in which form: the examples of RFC 6376."""

from __future__ import annotations

import pytest

from chatmail.domain.formats.body_digest import Canonicalization
from chatmail.domain.formats.dkim_header import SignatureTags, canonical_header, signed_names
from chatmail.domain.formats.rfc5322 import parse_header

RELAXED, SIMPLE = Canonicalization.RELAXED, Canonicalization.SIMPLE


@pytest.mark.parametrize(
    ("form", "result"),
    [
        (RELAXED, b"a:X\r\nb:Y Z\r\n"),
        (SIMPLE, b"A: X\r\nB : Y\t\r\n\tZ  \r\n"),
    ],
)
def test_the_example_of_section_3_4_5(form: Canonicalization, result: bytes) -> None:
    octets = b"A: X\r\nB: Y\t\r\n\tZ  \r\n\r\n"  # a space before the colon is no field here
    block = parse_header(octets)
    expected = result.replace(b"B : ", b"B: ")
    assert canonical_header(block, [b"a", b"b"], form) == expected


def test_fields_of_one_name_are_taken_from_below() -> None:
    block = parse_header(b"A: 1\r\nB: 2\r\nA: 3\r\n\r\n")
    assert canonical_header(block, [b"a", b"a", b"a", b"x"], RELAXED) == b"a:3\r\na:1\r\n"


def test_names_are_covered_once_more_than_they_occur_where_a_second_would_deceive() -> None:
    block = parse_header(
        b"Received: x\r\nFrom: a\r\nTo: b\r\nTo: c\r\nMessage-ID: d\r\nChat-Version: 1\r\n"
        b"Secure-Join: vc-request\r\nSender: a\r\nList-Foo: x\r\nX-Mailer: y\r\n"
        b"Return-Path: <z>\r\nDKIM-Signature: v=1\r\nAuthentication-Results: x\r\n\r\n"
    )
    names = signed_names(block)
    counts = {name: names.count(name) for name in set(names)}
    assert counts[b"from"] == 2
    assert counts[b"to"] == 3
    for absent in (b"reply-to", b"subject", b"cc", b"autocrypt", b"references", b"list-id"):
        assert counts[absent] == 1
    for once in (b"message-id", b"chat-version", b"secure-join", b"sender", b"list-foo"):
        assert counts[once] == 1
    never = (b"received", b"return-path", b"dkim-signature", b"authentication-results")
    assert not set(never) & set(names)
    assert b"x-mailer" not in names


def test_the_field_is_folded_and_what_is_signed_has_an_empty_value() -> None:
    block = parse_header(b"From: a@b.example\r\n\r\n")
    tags = SignatureTags(
        algorithm="rsa-sha256",
        header_form=SIMPLE,
        body_form=SIMPLE,
        domain="b.example",
        selector="sel",
        signed_s=1,
        names=signed_names(block),
        body_hash=b"h" * 32,
    )
    covered = tags.to_be_signed(block)
    assert covered.startswith(b"From: a@b.example\r\nDKIM-Signature: v=1; a=rsa-sha256;")
    assert covered.endswith(b"\r\n\tb=")
    field = tags.signed_field(b"x" * 256)
    assert field.startswith(covered.partition(b"\r\n")[2])
    assert field.endswith(b"\r\n")
    assert max(map(len, field.split(b"\r\n"))) <= 80
    assert len(parse_header(field + b"\r\n").fields) == 1
