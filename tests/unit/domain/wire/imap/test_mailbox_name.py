from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.wire.imap.mailbox_name import (
    canonical_name,
    decode_name,
    decode_utf8_name,
    encode_name,
    matches,
)


@pytest.mark.parametrize(
    ("wire", "name"),
    [
        (b"INBOX", "INBOX"),
        (b"Inbox", "INBOX"),
        (b"inbox/x", "inbox/x"),
        (b"", ""),
        (b"A&-B", "A&B"),
        (b"Entw&APw-rfe", "Entwürfe"),
        pytest.param(
            b"~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/台北/日本語", id="rfc3501-5.1.3"
        ),
        (b"&2D3eAA-", "😀"),
    ],
)
def test_modified_utf7_is_read_and_written(wire, name):
    assert decode_name(wire) == name
    assert decode_name(encode_name(name)) == name


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(b"a&b", id="unterminated-shift"),
        pytest.param(b"&", id="bare-ampersand"),
        pytest.param(b"&AGE-", id="printable-ascii-encoded"),
        pytest.param(b"&APw-&APw-", id="superfluous-shift"),
        pytest.param(b"&AP-", id="odd-octets"),
        pytest.param(b"&APx-", id="bits-left-over"),
        pytest.param(b"&2D0-", id="lone-surrogate"),
        pytest.param(b"&A/A-", id="slash-in-base64"),
        pytest.param("ü".encode(), id="8-bit"),
        pytest.param(b"a\x01b", id="control"),
        pytest.param(b"&!!!-", id="not-base64"),
    ],
)
def test_a_name_that_is_not_canonical_modified_utf7_is_refused(wire):
    assert decode_name(wire) is None


@given(st.text(max_size=30))
def test_names_survive_the_wire(name):
    assert decode_name(encode_name(name)) == canonical_name(name)


@given(st.binary(max_size=20))
def test_one_name_has_one_wire_form(wire):
    name = decode_name(wire)
    if name is not None and name != "INBOX":
        assert encode_name(name) == wire


def test_only_the_whole_name_inbox_is_case_insensitive():
    assert canonical_name("iNbOx") == "INBOX"
    assert canonical_name("Inbox/x") == "Inbox/x"


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*", "a/b", True),
        ("%", "a/b", False),
        ("%", "a", True),
        ("%", "", True),
        ("a/%", "a/b", True),
        ("a/%", "a/b/c", False),
        ("a/*", "a/b/c", True),
        ("a*c", "a/b/c", True),
        ("a%c", "abc", True),
        ("a%c", "a/c", False),
        ("%/%", "a/b", True),
        ("%/%", "a", False),
        ("a", "ab", False),
        ("ab", "a", False),
        ("", "", True),
        ("", "a", False),
        ("inbox", "INBOX", True),
        ("InB%", "INBOX", True),
        ("ABC", "abc", False),
        ("*%", "a/b", True),
        ("%%b", "ab", True),
    ],
)
def test_list_patterns(pattern, name, expected):
    assert matches(pattern, name) is expected


@given(st.text("ab/*%", max_size=8), st.text("ab/", max_size=10))
def test_patterns_mean_what_the_regular_expression_means(pattern, name):
    expression = "".join({"*": ".*", "%": "[^/]*"}.get(c, re.escape(c)) for c in pattern)
    assert matches(pattern, name) is (re.fullmatch(expression, name) is not None)


def test_a_hostile_pattern_does_not_backtrack():
    name = "a" * 200
    began = time.thread_time()
    assert not matches("*a" * 99 + "b", name)
    assert not matches("%a" * 32000, name)
    assert time.thread_time() - began < 2


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        pytest.param("Grüße/日本".encode(), "Grüße/日本", id="UTF-8"),
        pytest.param(b"Gr&APw-n", "Gr&APw-n", id="nothing is shifted"),
        pytest.param(b"inBox", "INBOX", id="INBOX in any case"),
        pytest.param(b"a\xff", None, id="not UTF-8"),
        pytest.param(b"\xed\xa0\x80", None, id="surrogate"),
        pytest.param(b"a\x07", None, id="control character"),
        pytest.param(b"a\x7f", None, id="delete"),
    ],
)
def test_names_in_utf8(raw, name):
    """RFC 6855 §3, RFC 9051 §5.1."""
    assert decode_utf8_name(raw) == name
