"""The usual message with one thing changed: its fields, type, parts, packets, armor."""

from __future__ import annotations

from chatmail.domain.model.message import Door
from tests.builders import (
    BOUNDARY,
    CONTROL_PART,
    armor,
    encrypted_body,
    make_message,
    mpi,
    multipart,
    noise,
    packets,
    part,
    payload_part,
)
from tests.unit.domain.policy.judging import APPEND, INB, SUB

OURS = (SUB, APPEND)
ALL = (SUB, APPEND, INB, Door.HTTPS_INBOUND)
OCTETS = "Content-Type: application/octet-stream"


def with_fields(*fields: tuple[str, str]) -> bytes:
    return make_message(size=200, fields=fields)


def with_raw(before: bytes = b"", after: bytes = b"") -> bytes:
    """A message with raw octets before its first field, or after its last."""
    block, body = make_message(size=200).split(b"\r\n\r\n", 1)
    return before + block + b"\r\n" + after + b"\r\n" + body


def with_type(value: str, boundary: str = BOUNDARY) -> bytes:
    body = encrypted_body(size=200).replace(BOUNDARY.encode(), boundary.encode())
    return make_message(fields=[("Content-Type", value)], body=body)


def with_parts(*parts: bytes, **around: object) -> bytes:
    return make_message(body=multipart(*parts, **around))  # type: ignore[arg-type]


def with_control(content: bytes, *fields: str) -> bytes:
    fields = fields or ("Content-Type: application/pgp-encrypted",)
    return with_parts(part(content, *fields), payload_part(armor(packets(200))))


def with_payload(content: bytes, *fields: str) -> bytes:
    return with_parts(CONTROL_PART, payload_part(content, *fields))


def with_packets(octets: bytes) -> bytes:
    return with_payload(armor(octets))


GOOD = packets(200)
ARMORED = armor(GOOD)
LINES = ARMORED.split(b"\r\n")  # BEGIN, blank, data …, checksum, END, nothing
ECDH = mpi(b"\x40" + noise(32)) + b"\x30" + noise(48)
TEXT = b"The quick brown fox jumps over the lazy dog. " * 40


def lines(*changed: bytes) -> bytes:
    return b"\r\n".join(changed)


def edited(at: int, line: bytes) -> bytes:
    """The armor with one line replaced."""
    return lines(*LINES[:at], line, *LINES[at + 1 :] if at != -1 else [])


def inserted(at: int, *more: bytes) -> bytes:
    """The armor with lines put before the one at `at` (negative counts from END)."""
    at = at if at >= 0 else len(LINES) + at
    return lines(*LINES[:at], *more, *LINES[at:])
