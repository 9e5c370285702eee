"""Secure-Join requests, asked directly; the forms themselves are in the tables of the gate."""

from __future__ import annotations

import pytest

from chatmail.domain.formats.content_type import parse_content_type
from chatmail.domain.formats.facts import Finding
from chatmail.domain.formats.rfc5322 import parse_header
from chatmail.domain.formats.securejoin import secure_join_finding

FIELDS = b"Secure-Join: vc-request\r\nSecure-Join-Invitenumber: abc\r\n\r\n"
BODY = b"Secure-Join: vc-request\r\n"


def finding(block: bytes, media_type: bytes, body: bytes = BODY) -> Finding:
    content_type = parse_content_type(media_type)
    assert content_type is not None
    return secure_join_finding(parse_header(block), content_type, body)


def test_flat_request() -> None:
    assert finding(FIELDS, b"text/plain") == Finding()


def test_other_media_types_are_none() -> None:
    assert finding(FIELDS, b"text/html") == Finding("X-SJ3", "X-SJ3")
    assert finding(FIELDS, b"multipart/alternative; boundary=b") == Finding("X-SJ3", "X-SJ3")


@pytest.mark.parametrize("name", [b"Secure-Join: vc-request", b"Secure-Join: vg-request"])
def test_the_step_must_be_named_once(name: bytes) -> None:
    assert finding(name + b"\r\n" + FIELDS, b"text/plain").inbound == "X-SJ1"


def test_a_part_field_of_ones_own_counts_by_direction() -> None:
    part = b"--b\r\nContent-Type: text/plain\r\nX: y\r\n\r\n" + BODY + b"\r\n--b--\r\n"
    assert finding(FIELDS, b"multipart/mixed; boundary=b", part) == Finding("X-SJ3", None)
