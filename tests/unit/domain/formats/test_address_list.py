"""Address lists for ENVELOPE."""

from __future__ import annotations

import email.utils
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.formats.address_list import MAX_ADDRESSES, AddressReader, parse_addresses

MAILBOXES = [
    b"a@b",
    b"<a@b.example>",
    b"Ann <ann@relay.test>",
    b"Ann  Other <ann+x@[127.0.0.1]>",
    b'"Doe, J." <j@d>',
    b'"" <j@d>',
    b"=?utf-8?q?=C3=BC?= <j@d>",
]


@pytest.mark.parametrize(
    ("value", "addresses"),
    [
        pytest.param(b"a@b", [(None, b"a", b"b")], id="bare"),
        pytest.param(b'"Doe, J." <j@d>', [(b"Doe, J.", b"j", b"d")], id="quoted name"),
        pytest.param(b"John Q Doe <j@d>", [(b"John Q Doe", b"j", b"d")], id="phrase"),
        pytest.param(b"j@d (a comment (nested))", [(None, b"j", b"d")], id="comment"),
        pytest.param(b"(a \\(b) <j@d>", [(None, b"j", b"d")], id="escape in a comment"),
        pytest.param(b'(a "b) <j@d>', [(None, b"j", b"d")], id="quote in a comment"),
        pytest.param(b"j@d (never ends", [(None, b"j", b"d")], id="open comment"),
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
    assert len(parse_addresses(b"a@b," * 5000)) == MAX_ADDRESSES


@pytest.mark.parametrize("value", [b"<", b"(", b"@", b'"', b"a:", b"[", b"a ", b";", b'"\\'])
def test_effort_is_bounded_for_all_lists_of_a_header_together(value: bytes) -> None:
    reader = AddressReader()
    for _ in range(3):
        reader.read(value * 60_000)
    assert reader.read(b"a@b" if reader._effort <= 0 else b"") == []


def test_a_list_whose_effort_is_spent_ends_its_group() -> None:
    found = parse_addresses(b"g: " + b"(" * 60_000)
    assert found == [(None, b"g", None), (None, None, None)]


@given(st.lists(st.sampled_from(MAILBOXES), max_size=6))
def test_the_short_way_reads_what_the_long_way_reads(mailboxes: list[bytes]) -> None:
    # A comment in front makes no address look usual.
    slow = b",".join(b"()" + mailbox for mailbox in mailboxes)
    assert parse_addresses(b",".join(mailboxes)) == parse_addresses(slow)


@pytest.mark.skipif(sys.version_info < (3, 11, 4), reason="the library misreads literals")
@given(st.lists(st.sampled_from(MAILBOXES), min_size=1, max_size=6))
def test_ordinary_lists_are_what_the_standard_library_reads(mailboxes: list[bytes]) -> None:
    wanted = email.utils.getaddresses([b", ".join(mailboxes).decode()])
    found = [
        ((name or b"").decode(), b"@".join((mailbox or b"", host or b"")).decode())
        for name, mailbox, host in parse_addresses(b", ".join(mailboxes))
    ]
    assert found == wanted
