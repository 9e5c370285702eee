"""`/mxdeliv` from both sides: any answer has one meaning, any envelope is addresses or refused."""

from __future__ import annotations

import re

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.federation import HopFault, RecipientFate
from chatmail.domain.wire.mxdeliv import (
    MAX_PATIENCE_S,
    MAX_RECEIVED_RECIPIENTS,
    Answer,
    MxdelivFieldError,
    header_fields,
    judge_answer,
    parse_recipients,
    parse_sender,
    requests,
)
from tests.fuzz.cutting import read, vector

_REPLY = re.compile(r"[2-5]\d\d [245]\.\d{1,3}\.\d{1,3} [\x20-\x7e]+\Z")
_SUCCESSES = (200, 201, 202, 204)

WORDS = (
    *(b"250 2.0.0 OK", b"554 5.7.1 ", b"450 4.2.0 ", b"550 5.5.0 ", b"<html>", b"text/html"),
    *(b"Sun, 06 Nov 1994 08:49:37 GMT", b"120", b"<a@b.example>", b"a@[127.0.0.1]", b",", b"\x1e"),
)


def check(data: bytes) -> None:
    """Answers: one fate or one fault, success only for success. Envelopes: clean addresses."""
    given = read(data)
    parts = given.payload.split(b"\x1e")
    status = (given.options << 8 | given.more) % 1000
    _check_answer(status, parts)
    values = [part.decode("latin-1") for part in parts]
    _check_envelope(values)


def _check_answer(status: int, parts: list[bytes]) -> None:
    head, content_type, retry_after, date = (*parts, b"", b"", b"")[:4]
    judgement = judge_answer(
        Answer(
            status=status,
            head=head,
            content_type=content_type.decode("latin-1"),
            retry_after=retry_after.decode("latin-1"),
            date=date.decode("latin-1"),
        )
    )
    assert (judgement.fate is None) != (judgement.fault is None)
    assert _REPLY.match(judgement.reply), judgement.reply
    assert len(judgement.reply) <= 300
    if judgement.fate is RecipientFate.DELIVERED:
        assert status in _SUCCESSES
        assert not head.lstrip().startswith(b"<")
        assert judgement.reply[0] == "2"
    else:
        assert judgement.reply[0] in "45"
    assert judgement.fault in (
        None,
        HopFault.UNSUPPORTED,
        HopFault.BROKEN,
        HopFault.UNCLEAR,
        HopFault.BUSY,
    )
    assert judgement.retry_after_s is None or 0 <= judgement.retry_after_s <= MAX_PATIENCE_S


def _check_envelope(values: list[str]) -> None:
    try:
        sender = parse_sender(values[:1])
        recipients = parse_recipients(values[1:])
    except MxdelivFieldError:
        return
    assert 0 < len(recipients) == len(set(recipients)) <= MAX_RECEIVED_RECIPIENTS
    batches = list(requests(recipients))
    assert [one for batch in batches for one in batch] == list(recipients)
    for batch in batches:
        fields = header_fields("h", sender, batch, 1, "ua")
        assert not any(b"\r" in value or b"\n" in value for _, value in fields)
        again = [value.decode() for name, value in fields if name == b"X-Mail-To"]
        assert _addresses(again) == list(batch)


def _addresses(values: list[str]) -> list[EmailAddress]:
    return [EmailAddress.parse(value) for value in values]


def _status(code: int, *parts: bytes) -> bytes:
    return vector(b"\x1e".join(parts), code >> 8, code & 0xFF)


VECTORS = (
    _status(200, b"250 2.0.0 OK\r\n", b"text/plain"),
    _status(200, b" <html>", b"text/plain"),
    _status(200, b"OK", b"Text/HTML; charset=utf-8"),
    _status(302, b""),
    _status(400, b"554 5.7.1 No DKIM signature found\n"),
    _status(400, b"550 5.5.0 \xff\0"),
    _status(403, b"Forbidden"),
    _status(413, b""),
    _status(429, b"", b"", b"30"),
    _status(503, b"", b"", b"Sun, 06 Nov 1994 08:50:37 GMT", b"Sun, 06 Nov 1994 08:49:37 GMT"),
    _status(507, b"full", b"", b"99999999999"),
    _status(599, b""),
    _status(0, b"<a@b.example>", b"<c@d.example>,e@[127.0.0.1]", b"f@[IPv6:::1]"),
    _status(0, b"", b"a@b.example"),
    _status(0, b"<>", b"a@b.example," * 101),
    _status(0, b"a@b", b"x\x00@d.example"),
)
