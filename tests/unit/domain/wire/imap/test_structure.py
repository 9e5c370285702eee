"""ENVELOPE, BODY, BODYSTRUCTURE."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.wire.imap.structure import (
    MAX_ADDRESSES,
    body_structure,
    header_envelope,
    parse_addresses,
)
from tests.unit.domain.formats.test_mime_structure import ENCRYPTED, NESTED, scan


def test_envelope_of_an_ordinary_header() -> None:
    header = (
        b"Date: Thu, 01 Jan 2026 00:00:00 +0000\r\nFrom: Ann <ann@relay.test>\r\n"
        b"To: bob@[127.0.0.1],\r\n c@d\r\nMessage-ID: <m@x>\r\nSubject: a  \r\n b\r\n\r\n"
    )
    ann = b'(("Ann" NIL "ann" "relay.test"))'
    assert header_envelope(header) == (
        b'("Thu, 01 Jan 2026 00:00:00 +0000" "a b" %b %b %b '
        b'((NIL NIL "bob" "[127.0.0.1]")(NIL NIL "c" "d")) NIL NIL NIL "<m@x>")' % (ann, ann, ann)
    )


def test_envelope_of_nothing_is_all_nil() -> None:
    assert header_envelope(b"") == b"(" + b" ".join([b"NIL"] * 10) + b")"


@pytest.mark.parametrize(
    ("value", "addresses"),
    [
        pytest.param(b"a@b", [(None, b"a", b"b")], id="bare"),
        pytest.param(b'"Doe, J." <j@d>', [(b"Doe, J.", b"j", b"d")], id="quoted name"),
        pytest.param(b"John Q Doe <j@d>", [(b"John Q Doe", b"j", b"d")], id="phrase"),
        pytest.param(b"j@d (a comment (nested))", [(None, b"j", b"d")], id="comment"),
        pytest.param(b'"a b"@d', [(None, b"a b", b"d")], id="quoted local part"),
        pytest.param(b"<@r1,@r2:j@d>", [(None, b"j", b"d")], id="obsolete route"),
        pytest.param(b"g: a@b", [(None, b"g", None), (None, b"a", b"b"), (None,) * 3], id="open"),
        pytest.param(
            b"grp: a@b, c@d;",
            [(None, b"grp", None), (None, b"a", b"b"), (None, b"c", b"d"), (None, None, None)],
            id="group",
        ),
        pytest.param(
            b"undisclosed recipients:;",
            [(None, b"undisclosed recipients", None), (None, None, None)],
            id="empty group",
        ),
        pytest.param(b"nobody", [(None, b"nobody", b"")], id="no domain"),
        pytest.param(b" , ,", [], id="only commas"),
    ],
)
def test_addresses(value: bytes, addresses: list[object]) -> None:
    assert parse_addresses(value) == addresses


def test_number_of_addresses_is_bounded() -> None:
    assert len(parse_addresses(b"a@b," * 5000)) <= MAX_ADDRESSES


def test_structure_of_an_encrypted_message() -> None:
    assert body_structure(scan(ENCRYPTED), extended=False) == (
        b'(("application" "pgp-encrypted" NIL NIL NIL "7bit" 12)'
        b'("application" "octet-stream" ("name" "encrypted.asc") NIL NIL "7bit" 64) "encrypted")'
    )


def test_extended_structure_tells_parameters_disposition_language_location() -> None:
    message = (
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: inline; a=b\r\n"
        b"Content-Language: de, en\r\nContent-MD5: abc\r\nContent-ID: <i>\r\n"
        b"Content-Transfer-Encoding: BASE64\r\nContent-Location: here\r\n\r\nx\r\n"
    )
    assert body_structure(scan(message), extended=True) == (
        b'("text" "plain" ("charset" "utf-8") "<i>" NIL "BASE64" 3 1 "abc" '
        b'("inline" ("a" "b")) ("de" "en") "here")'
    )


def test_structure_of_a_message_inside_a_message() -> None:
    told = body_structure(scan(NESTED), extended=True)
    assert b'("message" "rfc822" NIL NIL NIL "7bit"' in told
    assert b'(NIL "inner" NIL NIL NIL NIL NIL NIL NIL NIL)' in told
    assert told.endswith(b'"mixed" ("boundary" "b1") NIL NIL NIL)')


def balanced(text: bytes) -> bool:
    """Say whether parentheses outside quotes and literals match."""
    depth = at = 0
    while at < len(text):
        char = text[at : at + 1]
        if char == b'"':
            at = text.index(b'"', at + 1)
        elif char == b"{":
            end = text.index(b"}\r\n", at)
            at = end + 2 + int(text[at + 1 : end])
        elif char in b"()":
            depth += 1 if char == b"(" else -1
        at += 1
    return depth == 0


@given(st.binary(max_size=120))
def test_any_header_value_stays_within_the_grammar(value: bytes) -> None:
    header = b"From: " + value + b"\r\nContent-Type: " + value + b"\r\nSubject: " + value
    assert balanced(header_envelope(header + b"\r\n\r\n"))
    assert balanced(body_structure(scan(header + b"\r\n\r\nbody"), extended=True))


@given(st.text(alphabet='ab@<>,;:"\\() ', max_size=40))
def test_any_address_list_stays_within_the_grammar(value: str) -> None:
    assert balanced(header_envelope(b"To: " + value.encode() + b"\r\n\r\n"))
