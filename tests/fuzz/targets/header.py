"""Header blocks: the strict fields of the gate, the lenient ones of FETCH, and edits."""

from __future__ import annotations

import email.parser
import email.policy
import re

from chatmail.domain.formats.header_fields import (
    field_value,
    iter_fields,
    select_fields,
    select_other_fields,
)
from chatmail.domain.formats.header_rules import content_type_of, header_facts, header_fault
from chatmail.domain.formats.rfc5322 import (
    HeaderBlock,
    edit_header,
    end_of_header,
    parse_header,
)
from chatmail.domain.model.message import AddField, DeleteField, ReplaceValue
from tests.builders import header, make_message

WORDS = (
    *(b"From: a@b\r\n", b"Subject: x\r\n", b"\r\n ", b"\r\n\t", b"\r\n\r\n", b": ", b" :", b":"),
    *(b"\n", b"\r", b"Content-Type: text/plain\r\n", b"From ", b"\0", b"\xc3\xa4", b"To: x\r\n"),
)
_NAMES = frozenset((b"from", b"Subject", b"TO"))


def check(data: bytes) -> None:
    """Fields are found where they are, by every reader, and edits touch no other octet."""
    _check_lenient(data)
    block = data if end_of_header(data) == len(data) else data + b"\r\n\r\n"
    block = block[: end_of_header(block)]
    parsed = parse_header(block)
    at = 0
    for name, start, value, end in parsed.fields:
        assert start == at < value < end
        assert block[start : value - 1].lower() == name
        assert block[end - 2 : end] == b"\r\n"
        at = end
    fault = header_fault(parsed)
    if parsed.fault is not None:
        assert fault.inbound
        return
    assert block[at:] == b"\r\n"
    header_facts(parsed, content_type_of(parsed))
    _check_edits(parsed)
    if fault.strict is None:
        _check_library(parsed)


def _check_lenient(octets: bytes) -> None:
    fields = list(iter_fields(octets))
    for name, field in fields:
        assert field in octets
        assert field[: len(name)].lower() == name
        assert b"\n " not in field_value(field)
    wanted = {name.lower() for name in _NAMES}
    chosen = select_fields(octets, _NAMES)
    others = select_other_fields(octets, _NAMES)
    for block in (chosen, others):
        assert block.endswith(b"\r\n")
    assert all(name in wanted for name, _ in iter_fields(chosen))
    assert not any(name in wanted for name, _ in iter_fields(others))
    assert len(list(iter_fields(chosen))) == sum(name in wanted for name, _ in fields)


def _check_edits(parsed: HeaderBlock) -> None:
    block = parsed.octets
    assert edit_header(block, ()) == block
    edited = edit_header(
        block,
        (DeleteField(b"to"), ReplaceValue(b"subject", b"[...]"), AddField(b"X-Added", b"1")),
    )
    again = parse_header(edited)
    assert again.fault is None
    assert again.values(b"to") == []
    assert again.values(b"subject") == [b"[...]"] * len(parsed.values(b"subject"))
    assert again.fields[-1][0] == b"x-added"
    untouched = (b"to", b"subject", b"x-added")
    assert [block[f[1] : f[3]] for f in parsed.fields if f[0] not in untouched] == [
        edited[f[1] : f[3]] for f in again.fields if f[0] not in untouched
    ]


def _check_library(parsed: HeaderBlock) -> None:
    """The standard library reads the same names and values, in the same order.

    It takes `From ` at the start for an mbox line, form feeds for line ends, and drops values of
    nothing but spaces; such blocks are left out.
    """
    if re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", parsed.octets):
        return
    seen = email.parser.BytesHeaderParser(policy=email.policy.compat32).parsebytes(parsed.octets)
    assert [name.lower().encode() for name in seen] == [f[0] for f in parsed.fields]
    for field, value in zip(parsed.fields, seen.values(), strict=True):
        assert re.sub(r"\s+", "", str(value)).encode() == re.sub(rb"\s+", b"", parsed.value(field))


VECTORS = (
    make_message().partition(b"\r\n\r\n")[0] + b"\r\n\r\n",
    header(("From", "a@b"), ("To", "x"), ("Subject", "long\r\n\tfolded"), ("to", "y")),
    b"\r\n",
    b" x: y\r\n\r\n",
    b"From a@b\r\nSubject: x\r\n\r\n",
    b"Subject : x\r\nTo:\r\n \r\nFrom\t: y\n\tz\r\n",
    b"From: a\r\nfrom: b\r\nX-\xc3\xa4: \xc3\xa4\r\n\r\n",
)
