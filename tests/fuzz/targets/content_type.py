"""Content-Type values, against a second parser and the standard library's reading of them."""

from __future__ import annotations

import email.message
import re

from chatmail.domain.formats.content_type import parse_content_type
from chatmail.domain.formats.mime_structure import MAX_PARAMETERS, parse_parameterised
from tests.unit.domain.strict_packets import Bad
from tests.unit.domain.strict_parser import read_content_type

WORDS = (
    *(b"multipart/encrypted", b"; boundary=", b'"', b"\\", b"; protocol=", b"*0*=", b"utf-8''"),
    *(b";", b"=", b" ", b"\t", b"(comment)", b"text/plain", b"; charset=utf-8"),
)


def check(data: bytes) -> None:
    """What is accepted has one reading; the lenient reader of stored mail is total."""
    value = re.sub(rb"[\r\n\0]", b" ", data)
    head, parameters = parse_parameterised(value)
    assert len(parameters) <= MAX_PARAMETERS
    assert len(head) <= len(value)
    assert all(name == name.lower() for name, _ in parameters)
    parsed = parse_content_type(value.strip(b" \t"))
    try:
        expected = read_content_type(value.strip(b" \t"))
    except Bad:
        assert parsed is None
        return
    assert parsed is not None
    assert (parsed.media_type, dict(parsed.parameters)) == expected
    assert dict(parameters) == expected[1] or len(value) > 200 or len(expected[1]) > 64
    _check_library(value.strip(b" \t"), *expected)


def _check_library(value: bytes, media_type: bytes, parameters: dict[bytes, bytes]) -> None:
    message = email.message.Message()
    message["Content-Type"] = value.decode("latin-1")
    if media_type.count(b"/") == 1:
        assert message.get_content_type() == media_type.decode("latin-1")
    boundary = parameters.get(b"boundary")
    # The library splits at a semicolon in quotes when a backslash stands before the quote.
    if boundary is not None and b"\\" not in value and boundary == boundary.strip():
        assert message.get_boundary() == boundary.decode("latin-1").rstrip()


VECTORS = (
    b'multipart/encrypted; protocol="application/pgp-encrypted"; \tboundary="a b"',
    b"text/plain; charset=utf-8; format=flowed; delsp=no;",
    b'text/plain; name="a\\"b;c"',
    b"text/plain; boundary*0=a; boundary*1=b",
    b"text/plain (comment)",
    b"TEXT/Plain;a=b;A=c",
    b"text",
    b"multipart/mixed; boundary=x;;",
)
