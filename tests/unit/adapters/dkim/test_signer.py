"""Signatures as others see them: dkimpy verifies every one."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from chatmail.adapters.dkim.keys import Algorithms, KeyFolder
from chatmail.adapters.dkim.signer import Forms, KeySigner, parse_forms
from chatmail.domain.formats.body_digest import Canonicalization
from chatmail.domain.formats.rfc5322 import parse_header
from tests.unit.adapters.dkim.world import (
    BODY,
    DOMAIN,
    HEADER,
    IDENTITY,
    NOW_S,
    dkimpy_says,
    folder,
    hashed,
    signer,
)

BODIES = [
    pytest.param(BODY, id="trailing-lines"),
    pytest.param(b"", id="empty"),
    pytest.param(b"\r\n\r\n", id="empty-lines"),
    pytest.param(b"no line end", id="no-line-end"),
    pytest.param("kön \t x\r\n".encode() * 4000, id="large"),
]


def tags_of(field: bytes) -> dict[str, str]:
    value = parse_header(field + b"\r\n").values(b"dkim-signature")[0]
    pairs = (tag.split(b"=", 1) for tag in value.split(b";"))
    return {name.strip().decode(): text.replace(b"\t", b"").decode() for name, text in pairs}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(
    "forms", ["relaxed/simple", "relaxed/relaxed", "simple/simple", "simple/relaxed"]
)
def test_dkimpy_accepts_what_is_signed(tmp_path: Path, forms: str, body: bytes) -> None:
    ours = signer(tmp_path / "dkim", forms=parse_forms(forms))
    prefix = ours.sign(HEADER, hashed(body), DOMAIN, NOW_S)
    record = ours.records()[0].text
    assert dkimpy_says(prefix + HEADER + body, record)
    assert not dkimpy_says(prefix + HEADER.replace(b"[...]", b"(...)") + body, record)
    assert not dkimpy_says(prefix + HEADER + b"x" + body, record)


@pytest.mark.parametrize("name", ["From", "Reply-To", "Subject", "To", "Autocrypt", "List-Id"])
def test_a_second_field_of_what_is_oversigned_breaks_the_signature(
    tmp_path: Path, name: str
) -> None:
    ours = signer(tmp_path / "dkim")
    prefix = ours.sign(HEADER, hashed(BODY), DOMAIN, NOW_S)
    added = f"{name}: <eve@evil.example>\r\n".encode()
    assert not dkimpy_says(prefix + added + HEADER + BODY, ours.records()[0].text)
    assert not dkimpy_says(prefix + HEADER[:-2] + added + b"\r\n" + BODY, ours.records()[0].text)


def test_trace_fields_added_on_the_way_do_not_break_the_signature(tmp_path: Path) -> None:
    ours = signer(tmp_path / "dkim")
    prefix = ours.sign(HEADER, hashed(BODY), DOMAIN, NOW_S)
    trace = b"Received: from there\r\nReturn-Path: <x@y.example>\r\nAuthentication-Results: z\r\n"
    assert dkimpy_says(trace + prefix + HEADER + BODY, ours.records()[0].text, 0)


def test_the_tags_are_those_of_the_reference(tmp_path: Path) -> None:
    field = signer(tmp_path / "dkim").sign(HEADER, hashed(BODY), DOMAIN, NOW_S)
    tags = tags_of(field)
    assert tags["a"] == "rsa-sha256"
    assert tags["c"] == "relaxed/simple"
    assert (tags["d"], tags["s"], tags["t"]) == (DOMAIN, "opendkim", str(NOW_S))
    assert not {"l", "x"} & set(tags)
    names = tags["h"].split(":")
    assert names.count("from") == names.count("subject") == 2
    assert names.count("reply-to") == names.count("message-id") == names.count("chat-version") == 1
    assert not {"received", "return-path", "dkim-signature", "authentication-results"} & set(names)
    assert max(map(len, field.split(b"\r\n"))) <= 998
    assert field.endswith(b"\r\n")
    assert not field.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("domain", ["[192.0.2.1]", "foreign.example", "sub.peer.example"])
def test_nothing_is_signed_for_a_literal_or_a_foreign_author(tmp_path: Path, domain: str) -> None:
    assert signer(tmp_path / "dkim").sign(HEADER, hashed(BODY), domain, NOW_S) == b""


def test_every_name_of_ours_is_signed_for_as_itself(tmp_path: Path) -> None:
    ours = signer(tmp_path / "dkim")
    field = ours.sign(HEADER, hashed(BODY), "other.example", NOW_S)
    assert tags_of(field)["d"] == "other.example"
    assert [record.name for record in ours.records()] == [
        "opendkim._domainkey.peer.example",
        "opendkim._domainkey.other.example",
    ]


def test_an_ed25519_signature_stands_beside_the_rsa_one(tmp_path: Path) -> None:
    ours = signer(tmp_path / "dkim", ed25519=True)
    prefix = ours.sign(HEADER, hashed(BODY), DOMAIN, NOW_S)
    assert prefix.count(b"DKIM-Signature:") == 2
    assert b"a=ed25519-sha256" in prefix
    assert dkimpy_says(prefix + HEADER + BODY, ours.records()[0].text, 0)
    assert {record.algorithm for record in ours.records()} == {"rsa", "ed25519"}


def test_the_digests_it_wants_are_in_the_form_it_signs(tmp_path: Path) -> None:
    ours = signer(tmp_path / "dkim", forms=parse_forms("relaxed/relaxed"))
    digests = ours.digests()
    digests.feed(BODY)
    assert digests.sha256(Canonicalization.RELAXED)
    assert dkimpy_says(
        ours.sign(HEADER, digests, DOMAIN, NOW_S) + HEADER + BODY, ours.records()[0].text
    )


@pytest.mark.parametrize("text", ["relaxed", "", "relaxed/", "strict/simple", "a/b/c"])
def test_other_forms_than_the_four_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"slash|not a valid"):
        parse_forms(text)


def test_after_a_rotation_the_next_record_is_shown_and_the_old_one_signed_with(
    tmp_path: Path,
) -> None:
    keys = folder(tmp_path / "dkim")
    ours = KeySigner(keys, lambda: IDENTITY, Forms())
    assert ours.to_come() == ()
    assert ours.rotate("20270131") == ours.to_come() == ours.rotate("20270201")
    assert [record.selector for record in ours.records()][::2] == ["opendkim", "opendkim-20270131"]
    assert tags_of(ours.sign(HEADER, hashed(BODY), DOMAIN, NOW_S))["s"] == "opendkim"
    activated = ours.activate()
    assert ours.to_come() == ()
    assert activated == ours.records()
    prefix = ours.sign(HEADER, hashed(BODY), DOMAIN, NOW_S)
    assert tags_of(prefix)["s"] == "opendkim-20270131"
    assert dkimpy_says(prefix + HEADER + BODY, ours.records()[0].text)
    assert ours.record_of("opendkim")
    assert ours.record_of("opendkim9") is None
    assert ours.record_of("../opendkim") is None


def test_a_relay_without_a_name_makes_no_key_until_it_has_one(tmp_path: Path) -> None:
    identity = attrs.evolve(
        IDENTITY, mail_domain="[192.0.2.1]", local_domains=frozenset({"[192.0.2.1]"})
    )
    (tmp_path / "dkim").mkdir()
    ours = KeySigner(
        KeyFolder(tmp_path / "dkim", "opendkim", Algorithms()), lambda: identity, Forms()
    )
    assert ours.records() == ()
    assert not list((tmp_path / "dkim").iterdir())
    folder(tmp_path / "dkim")
    identity = IDENTITY
    assert ours.sign(HEADER, hashed(BODY), DOMAIN, NOW_S)
    assert ours.records()
