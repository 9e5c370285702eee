"""Header blocks: fields, mailboxes, edits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.formats.rfc5322 import (
    edit_header,
    end_of_header,
    parse_header,
    parse_mailbox,
    parse_mailboxes,
)
from chatmail.domain.model.message import AddField, DeleteField, ReplaceValue

BLOCK = b"From: a@b\r\nSubject:\r\n folded\r\n\ttext\r\nX-Empty:\r\nfrom:c\r\n\r\n"


def test_fields_with_their_spans() -> None:
    block = parse_header(BLOCK)
    assert block.fault is None
    assert [field[0] for field in block.fields] == [b"from", b"subject", b"x-empty", b"from"]
    assert b"".join(BLOCK[start:end] for _, start, _, end in block.fields) == BLOCK[:-2]
    assert block.values(b"from") == [b"a@b", b"c"]
    assert block.first(b"subject") == b"folded\ttext"
    assert block.first(b"x-empty") == b""
    assert block.first(b"date") is None


def test_empty_block() -> None:
    assert parse_header(b"\r\n").fields == ()
    assert parse_header(b"\r\n").fault is None


@pytest.mark.parametrize(
    ("block", "fault"),
    [
        (b" x\r\n\r\n", "H-02"),
        (b"\tx: y\r\n\r\n", "H-02"),
        (b"a: b\r\nno field\r\n\r\n", "H-01"),
        (b"a : b\r\n\r\n", "H-01"),
        (b": b\r\n\r\n", "H-01"),
        (b"a\x7f: b\r\n\r\n", "H-01"),
        ("ä: b\r\n\r\n".encode(), "H-01"),
        (b"a: b\rc\r\n\r\n", "H-01"),
    ],
)
def test_faults(block: bytes, fault: str) -> None:
    assert parse_header(block).fault == fault


@pytest.mark.parametrize(
    ("octets", "end"),
    [(b"", -1), (b"\r\nbody", 2), (b"a: b\r\n", -1), (b"a: b\r\n\r\nbody\r\n\r\n", 8)],
)
def test_end_of_header(octets: bytes, end: int) -> None:
    assert end_of_header(octets) == end


# --- edits -------------------------------------------------------------------------------------


def test_no_edit_changes_nothing() -> None:
    assert edit_header(BLOCK, ()) is BLOCK


def test_delete_removes_every_field_of_the_name_and_its_folds() -> None:
    assert edit_header(BLOCK, [DeleteField(b"from")]) == (
        b"Subject:\r\n folded\r\n\ttext\r\nX-Empty:\r\n\r\n"
    )
    assert edit_header(BLOCK, [DeleteField(b"subject")]) == (
        b"From: a@b\r\nX-Empty:\r\nfrom:c\r\n\r\n"
    )


def test_replace_keeps_the_name_as_it_was_written() -> None:
    assert edit_header(BLOCK, [ReplaceValue(b"subject", b"[...]")]) == (
        b"From: a@b\r\nSubject: [...]\r\nX-Empty:\r\nfrom:c\r\n\r\n"
    )
    assert edit_header(BLOCK, [ReplaceValue(b"date", b"x")]) == BLOCK


def test_add_comes_last_before_the_empty_line() -> None:
    edits = [AddField(b"Date", b"now"), AddField(b"Message-ID", b"<1>")]
    assert edit_header(BLOCK, edits) == BLOCK[:-2] + b"Date: now\r\nMessage-ID: <1>\r\n\r\n"
    assert edit_header(b"\r\n", edits[:1]) == b"Date: now\r\n\r\n"


def test_delete_then_add_of_one_name_adds() -> None:
    edits = [DeleteField(b"x-empty"), AddField(b"X-Empty", b"no")]
    assert edit_header(BLOCK, edits).endswith(b"from:c\r\nX-Empty: no\r\n\r\n")


names = st.sampled_from([b"A", b"b", b"X-y"])
values = st.sampled_from([b"", b" x", b" x\r\n y", b"\r\n\tz", b" \xc3\xa4"])


@given(st.lists(st.tuples(names, values), max_size=6), names)
def test_edits_preserve_all_other_octets(fields: list[tuple[bytes, bytes]], name: bytes) -> None:
    block = b"".join(b"%b:%b\r\n" % field for field in fields) + b"\r\n"
    rest = b"".join(b"%b:%b\r\n" % field for field in fields if field[0].lower() != name.lower())
    assert edit_header(block, [DeleteField(name.lower())]) == rest + b"\r\n"


# --- mailboxes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"a@b.c", ["a@b.c"]),
        (b" <A@B.c> ", ["a@b.c"]),
        (b"Alice <a@b.c>", ["a@b.c"]),
        (b'"x@y" <a@b.c>', ["a@b.c"]),
        (b'"a \\" <x@y>" <a@b.c>', ["a@b.c"]),
        (b"A. B. C <a@b.c>", ["a@b.c"]),
        (b"(x@y) a@b.c (z (<n@m>) \\) )", ["a@b.c"]),
        (b"Alice (work) Smith (x) < a@b.c > (y)", ["a@b.c"]),
        (b'"a"@b.c', ["a@b.c"]),
        (b'"a\\.b"@b.c', ["a.b@b.c"]),
        (b"a@[1.2.3.4]", ["a@[1.2.3.4]"]),
        (b"a@1.2.3.4", ["a@[1.2.3.4]"]),
        (b"a@[IPv6:::1]", ["a@[IPv6:::1]"]),
        (b"a@_x.example", ["a@_x.example"]),
        (b"a@b.c, <d@e.f>", ["a@b.c", "d@e.f"]),
        (b"a@b.c,d@e.f , G <g@h.i>", ["a@b.c", "d@e.f", "g@h.i"]),
        (b"!#$%&'*+/=?^_`{|}~-@b.c", ["!#$%&'*+/=?^_`{|}~-@b.c"]),
    ],
)
def test_mailboxes(value: bytes, found: list[str]) -> None:
    assert [str(address) for address in parse_mailboxes(value)] == found


@pytest.mark.parametrize(
    "value",
    [
        b"", b" ", b"a", b"@b", b"a@", b"<>", b"<a@b", b"a@b>", b"a@b c", b"a b@c", b"a @b",
        b"a@b <c@d>", b"<a@b> c", b"<a@b><c@d>", b"<a@b> <c@d>", b"<<a@b>>", b"a@b,", b",a@b",
        b"a@b,,c@d", b"g: a@b;", b"undisclosed: ;", b"<@x:a@b>", b"<@x,@y:a@b>", b".a@b", b"a.@b",
        b"a..b@c", b"a@.b", b"a@b..c", b'"a@b', b'"a" b@c', b'"a b"@c', b"(a@b", b"a@b (c",
        b"a@b)", b"a@b;", b"a@b:c", b"a@@b", b"a@b@c", b"a\\b@c", b"\xe4@b", b'"\xe4"@b',
        b"a@[1.2.3", b"a@[1.2.3.4]x", b"a@[x]", b"a@-b", b"a" * 65 + b"@b", b"a@b\0",
        b", ".join([b"a@b"] * 17),
    ],
)  # fmt: skip
def test_what_is_no_mailbox_list(value: bytes) -> None:
    assert parse_mailboxes(value) == ()


def test_one_mailbox() -> None:
    assert str(parse_mailbox(b"A <a@b>")) == "a@b"
    assert parse_mailbox(b"a@b, c@d") is None
    assert parse_mailbox(b"") is None


def test_long_values_are_parsed_too() -> None:
    assert str(parse_mailbox(b'"' + b"x" * 5000 + b'" <a@b>')) == "a@b"


@given(st.text(alphabet='ab@<>(),;:\\". ', max_size=20))
def test_any_value_gives_addresses_or_nothing(value: str) -> None:
    for address in parse_mailboxes(value.encode()):
        assert address.local
        assert address.domain
