"""Header fields octet for octet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.formats.header_fields import (
    field_value,
    iter_fields,
    select_fields,
    select_other_fields,
)

HEADER = b"From: a@b\r\nSUBJECT:  folded\r\n\tvalue \r\nX-From: no\r\nfrom : second\r\n\r\n"


def test_fields_keep_their_octets_and_order_and_end_with_an_empty_line() -> None:
    names = frozenset((b"Subject", b"FROM"))
    assert select_fields(HEADER, names) == (
        b"From: a@b\r\nSUBJECT:  folded\r\n\tvalue \r\nfrom : second\r\n\r\n"
    )


def test_no_such_field_is_just_an_empty_line() -> None:
    assert select_fields(HEADER, frozenset((b"To",))) == b"\r\n"
    assert select_fields(HEADER, frozenset()) == b"\r\n"
    assert select_fields(b"", frozenset((b"To",))) == b"\r\n"


def test_the_other_fields_are_all_but_the_named() -> None:
    names = frozenset((b"subject", b"X-FROM"))
    assert select_other_fields(HEADER, names) == b"From: a@b\r\nfrom : second\r\n\r\n"


def test_a_name_is_no_pattern() -> None:
    assert select_fields(b"ab: 1\r\n\r\n", frozenset((b"a.",))) == b"\r\n"


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"From: a@b", id="no line end"),
        pytest.param(b"From: a@b\r\n", id="no empty line"),
        pytest.param(b"From: a@b\r\n\r\n", id="complete"),
    ],
)
def test_a_cut_header_block_still_ends_well(header: bytes) -> None:
    assert select_fields(header, frozenset((b"from",))) == b"From: a@b\r\n\r\n"


def test_values_are_unfolded() -> None:
    fields = dict(iter_fields(HEADER))
    assert field_value(fields[b"subject"]) == b"folded\tvalue"


@given(st.binary(max_size=200), st.sets(st.binary(min_size=1, max_size=3), max_size=3))
def test_any_octets_are_a_header_block(octets: bytes, names: set[bytes]) -> None:
    assert select_fields(octets, frozenset(names)).endswith(b"\r\n")
    assert select_other_fields(octets, frozenset(names)).endswith(b"\r\n")
