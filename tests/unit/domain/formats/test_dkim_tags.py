"""Tag lists: strict, total, bounded."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.formats.body_digest import Canonicalization
from chatmail.domain.formats.dkim_tags import (
    candidates,
    digests_for,
    parse_key_record,
    parse_tags,
    render_key_record,
)
from chatmail.domain.formats.rfc5322 import parse_header

NOW_S = 1_760_000_000
HASH = base64.b64encode(b"h" * 32).decode()
GOOD = {
    "v": "1",
    "a": "rsa-sha256",
    "d": "peer.example",
    "s": "sel",
    "h": "From:To",
    "bh": HASH,
    "b": "QUJD",
}


def field(**changes: str | None) -> bytes:
    tags = {**GOOD, **changes}
    text = "; ".join(f"{name}={value}" for name, value in tags.items() if value is not None)
    return f"DKIM-Signature: {text}\r\n".encode()


def found(*fields: bytes, domain: str = "peer.example") -> list[bool]:
    block = parse_header(b"".join(fields) + b"From: a@peer.example\r\n\r\n")
    return [one is not None for one in candidates(block, domain, NOW_S)]


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        (b"a=1;b=2", {b"a": b"1", b"b": b"2"}),
        (b" a = 1 ;\r\n\tb=2; ", {b"a": b"1", b"b": b"2"}),
        (b"a=", {b"a": b""}),
        (b"a=x=y", {b"a": b"x=y"}),
        (b"", {}),
        (b"a=1;;b=2", None),
        (b"a", None),
        (b"=1", None),
        (b"1a=1", None),
        (b"a=1;a=1", None),
        (b"a b=1", None),
    ],
)
def test_tag_lists(text: bytes, tags: dict[bytes, bytes] | None) -> None:
    assert parse_tags(text) == tags


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"c": "relaxed/relaxed"},
        {"c": "relaxed"},
        {"a": "ed25519-sha256"},
        {"d": "PEER.Example."},
        {"i": "@peer.example"},
        {"i": "someone@below.peer.example"},
        {"q": "dns/txt"},
        {"t": str(NOW_S), "x": str(NOW_S + 1)},
        {"x": str(NOW_S - 3599), "t": "1"},
        {"bh": HASH[:20] + "\r\n\t" + HASH[20:]},
        {"s": "a.b"},
        {"unknown": "x"},
    ],
    ids=str,
)
def test_signatures_worth_a_look(changes: dict[str, str]) -> None:
    assert found(field(**changes)) == [True]


@pytest.mark.parametrize(
    "changes",
    [
        {"v": "2"},
        {"v": None},
        {"a": "rsa-sha1"},
        {"a": None},
        {"b": ""},
        {"b": "*"},
        {"bh": "QUJD"},
        {"h": "to:subject"},
        {"h": "from:" * 300 + "to"},
        {"h": "from::to"},
        {"l": "10"},
        {"s": "a/b"},
        {"s": "-a"},
        {"s": ""},
        {"q": "http"},
        {"c": "strict/simple"},
        {"i": "@other.example"},
        {"i": "@notpeer.example"},
        {"i": "peer.example"},
        {"t": "now"},
        {"t": str(NOW_S + 100_000)},
        {"x": str(NOW_S - 3601)},
        {"t": str(NOW_S), "x": str(NOW_S - 1)},
        {"z": " " * 100 + "x"},
        {"z": "x" * 9000},
    ],
    ids=str,
)
def test_signatures_that_are_worthless(changes: dict[str, str | None]) -> None:
    assert found(field(**changes)) == [False]


def test_signatures_of_other_domains_are_none() -> None:
    for domain in ("other.example", "sub.peer.example", "", "[192.0.2.1]", "\xff"):
        assert found(field(d=domain)) == []
    assert found(b"DKIM-Signature: d=peer.example; d=peer.example\r\n") == []


def test_at_most_five_count_topmost_first() -> None:
    bad = field(l="1")
    assert found(field(d="x.example"), bad, field(), *[bad] * 9) == [False, True, *[False] * 3]


def test_the_forms_of_all_signatures_are_hashed() -> None:
    def forms(*fields: bytes) -> set[Canonicalization] | None:
        digests = digests_for(b"".join(fields) + b"\r\n")
        return digests and {form for form in Canonicalization if digests.sha256(form)}

    assert forms(b"From: a@b.example\r\n") is None
    assert forms(field()) == {Canonicalization.SIMPLE}
    assert forms(field(c="simple/relaxed")) == {Canonicalization.RELAXED}
    assert forms(field(c="relaxed/relaxed"), field(c="relaxed")) == set(Canonicalization)
    assert forms(field(c="odd/odd")) is None
    assert forms(b"X: dkim-signature: c=relaxed/relaxed; d=x\r\n") is None


@given(st.binary(max_size=300))
def test_nothing_is_raised_for_any_octets(octets: bytes) -> None:
    parse_tags(octets)
    parse_key_record(octets)
    header = b"DKIM-Signature: v=1; d=peer.example; " + octets + b"\r\n\r\n"
    digests_for(header)
    candidates(parse_header(header), "peer.example", NOW_S)


@given(st.binary(min_size=1, max_size=400), st.sampled_from(["rsa", "ed25519"]))
def test_a_record_that_was_written_can_be_read(public: bytes, algorithm: str) -> None:
    record = parse_key_record(render_key_record(algorithm, public).encode())
    assert record is not None
    assert (record.algorithm, record.public, record.is_exact) == (algorithm, public, True)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"p",
        b"v=DKIM1",
        b"v=DKIM2; p=QUJD",
        b"p=QUJD; v=DKIM1",
        b"p=QUJD; p=QUJD",
        b"k=dsa; p=QUJD",
        b"h=sha1; p=QUJD",
        b"s=tlsrpt; p=QUJD",
        b"p=?",
        b"p=" + b"A" * 9000,
    ],
)
def test_records_that_are_no_key(text: bytes) -> None:
    assert parse_key_record(text) is None


def test_a_revoked_key_is_a_key_that_is_empty() -> None:
    record = parse_key_record(b"v=DKIM1; p=")
    assert record is not None
    assert record.public == b""
