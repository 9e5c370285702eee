"""What a signature is worth: those of others, those that were tampered with, hostile ones."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from chatmail.adapters.dkim.signer import parse_forms
from chatmail.domain.policy.encryption_gate import DkimResult
from chatmail.domain.ports.remote import DnsFault
from tests.pace import slowdown
from tests.unit.adapters.dkim.judging import NAME, NOW_S, RECORD, Judge, Outside, by_dkimpy
from tests.unit.adapters.dkim.world import BODY, DOMAIN, HEADER, ed_key, signer


@pytest.mark.parametrize("header_form", [b"simple", b"relaxed"])
@pytest.mark.parametrize("body_form", [b"simple", b"relaxed"])
@pytest.mark.parametrize("body", [BODY, b"", b"\r\n\r\n", b"a \t b\r\n" * 5000], ids=len)
async def test_what_dkimpy_signed_passes(header_form: bytes, body_form: bytes, body: bytes) -> None:
    message = by_dkimpy(HEADER + body, canonicalize=(header_form, body_form))
    assert await Judge().says(message) is DkimResult.PASS


@pytest.mark.parametrize(
    "forms", ["relaxed/simple", "relaxed/relaxed", "simple/simple", "simple/relaxed"]
)
async def test_what_we_signed_passes(tmp_path: Path, forms: str) -> None:
    ours = signer(tmp_path / "dkim", forms=parse_forms(forms), ed25519=True)
    digests = ours.digests()
    digests.feed(BODY)
    message = ours.sign(HEADER, digests, DOMAIN, NOW_S) + HEADER + BODY
    judge = Judge(Outside({one.name: (one.text.encode(),) for one in ours.records()}))
    assert await judge.says(message) is DkimResult.PASS
    # Ed25519 alone is enough too.
    _, ed = re.split(rb"(?=DKIM-Signature:)", message)[1:]
    assert b"ed25519" in ed
    assert await judge.says(ed) is DkimResult.PASS
    assert await judge.says(ed.replace(b"[...]", b"(...)")) is DkimResult.BAD


def edited(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def edit(message: bytes) -> bytes:
        assert old in message
        return message.replace(old, new, 1)

    return edit


def retagged(name: str, value: str | None) -> Callable[[bytes], bytes]:
    """Change, add or remove one tag of the signature, which breaks it at the latest."""

    def edit(message: bytes) -> bytes:
        field = message[: message.index(b"\r\nFrom:")]
        tags = [tag for tag in field.split(b";") if tag.strip().partition(b"=")[0] != name.encode()]
        if value is not None:
            tags.insert(1, f" {name}={value}".encode())
        return b";".join(tags) + message[len(field) :]

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(edited(b"hello", b"hellO"), id="body"),
        pytest.param(edited(b"[...]", b"other"), id="subject"),
        pytest.param(edited(b"<ann@", b"<eve@"), id="author"),
        pytest.param(edited(b"\r\nFrom:", b"\r\nFrom: <eve@peer.example>\r\nFrom:"), id="two-from"),
        pytest.param(retagged("bh", base64.b64encode(b"x" * 32).decode()), id="body-hash"),
        pytest.param(retagged("b", base64.b64encode(b"x" * 256).decode()), id="signature"),
        pytest.param(retagged("b", "!!!!"), id="no-base64"),
        pytest.param(retagged("b", ""), id="empty-signature"),
        pytest.param(retagged("b", None), id="no-signature"),
        pytest.param(retagged("bh", None), id="no-body-hash"),
        pytest.param(retagged("h", None), id="no-names"),
        pytest.param(retagged("s", None), id="no-selector"),
        pytest.param(retagged("s", "a/../b"), id="odd-selector"),
        pytest.param(retagged("a", "rsa-sha1"), id="sha1"),
        pytest.param(retagged("a", "ed25519-sha256"), id="other-algorithm"),
        pytest.param(retagged("c", "relaxed/strange"), id="odd-form"),
        pytest.param(retagged("q", "http"), id="odd-query"),
        pytest.param(retagged("i", "@other.example"), id="foreign-identity"),
        pytest.param(retagged("i", "peer.example"), id="identity-without-at"),
        pytest.param(retagged("x", str(NOW_S - 4000)), id="expired"),
        pytest.param(retagged("t", "soon"), id="odd-time"),
        pytest.param(retagged("t", str(NOW_S + 10**6)), id="from-the-future"),
    ],
)
async def test_what_was_tampered_with_never_passes(edit: Callable[[bytes], bytes]) -> None:
    message = by_dkimpy()
    assert await Judge().says(edit(message)) is DkimResult.BAD


async def test_a_signature_of_a_part_of_the_body_is_worthless() -> None:
    message = by_dkimpy(length=True)
    assert b"l=" in message
    assert await Judge().says(message) is DkimResult.BAD
    assert await Judge().says(message + b"more\r\n") is DkimResult.BAD


async def test_a_signature_that_does_not_cover_the_author_is_worthless() -> None:
    message = by_dkimpy(headers=[b"from", b"to", b"subject"])
    without = re.sub(rb"h=from : ", b"h=", message)
    assert without != message
    judge = Judge()
    assert await judge.says(message) is DkimResult.PASS
    assert await judge.says(without) is DkimResult.BAD
    assert len(judge.outside.asked) == 1


async def test_only_the_domain_of_the_author_itself_counts() -> None:
    for domain in ("other.example", "sub.peer.example", "example"):
        message = by_dkimpy(domain=domain)
        assert await Judge().says(message) is DkimResult.NONE
    assert await Judge().says(HEADER + BODY) is DkimResult.NONE
    assert await Judge().says(by_dkimpy(domain="PEER.example")) is DkimResult.PASS


async def test_the_identity_may_be_below_the_domain_unless_the_key_forbids_it() -> None:
    message = by_dkimpy(identity=b"ann@sub.peer.example")
    assert await Judge().says(message) is DkimResult.BAD
    lax = Judge(Outside({NAME: (RECORD.replace(";t=s", "").encode(),)}))
    assert await lax.says(message) is DkimResult.PASS


async def test_an_expiry_has_an_hour_of_leeway(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Judge()
    message = by_dkimpy()
    at = int(re.search(rb"t=(\d+)", message)[1])  # type: ignore[index]
    judge.clock.time_s = at + 100.0
    assert await judge.says(message) is DkimResult.PASS


async def test_five_signatures_are_tried_topmost_first() -> None:
    signed = by_dkimpy()
    good = signed[: signed.index(b"\r\nFrom:") + 2]
    bad = good.replace(b"bh=", b"bh=AA")
    judge = Judge()
    assert await judge.says(bad * 4 + signed) is DkimResult.PASS
    assert await judge.says(bad * 5 + signed) is DkimResult.BAD


async def test_one_good_signature_is_enough_whatever_else_is_there() -> None:
    signed = by_dkimpy()
    good = signed[: signed.index(b"\r\nFrom:") + 2]
    absent = good.replace(b"s=opendkim", b"s=gone")
    judge = Judge()
    judge.outside.records[f"gone._domainkey.{DOMAIN}"] = DnsFault.SERVFAIL
    assert await judge.says(absent + signed) is DkimResult.PASS
    tampered = signed.replace(b"[...]", b"other")
    assert await judge.says(absent + tampered) is DkimResult.UNAVAILABLE


async def test_a_body_that_differs_costs_no_look_at_dns() -> None:
    judge = Judge()
    assert await judge.says(by_dkimpy() + b"-- \r\nfooter\r\n") is DkimResult.BAD
    assert judge.outside.asked == []


@pytest.mark.parametrize(
    "junk",
    [
        b" b" + b"\r\n " * 2500,
        b" b=" + b"A\r\n " * 10_000,
        b" h=" + b"x:" * 20_000,
        b";" * 30_000,
        b" " * 900,
    ],
    ids=["spaces", "folds", "names", "semicolons", "blanks"],
)
async def test_hostile_fields_take_no_time(junk: bytes) -> None:
    field = b"DKIM-Signature: v=1; a=rsa-sha256; d=peer.example; s=x; h=from; bh=AA==;" + junk
    message = field[:60_000] + b"\r\n" + by_dkimpy()
    judge = Judge()
    start = time.thread_time()
    await judge.says(message)
    assert time.thread_time() - start < 0.2 * slowdown()


@given(
    st.integers(0, len(HEADER + BODY) + 500),
    st.integers(1, 255),
)
def test_no_changed_octet_passes_unless_it_is_not_covered(place: int, flip: int) -> None:
    message = bytearray(SIGNED)
    message[place % len(message)] ^= flip
    octets = bytes(message)
    end = octets.find(b"\r\n\r\n")
    if end < 0:
        return
    result = trio.run(Judge().says, octets)
    if result is DkimResult.PASS:
        # What relaxed canonicalisation forgives: spaces, case of names; and the last bits of the
        # signature's own base64, which it cannot cover.
        assert covered(octets) == covered(SIGNED)


def covered(message: bytes) -> list[bytes]:
    return message.lower().partition(b"\r\nfrom:")[2].split()


SIGNED = by_dkimpy(
    headers=[
        *(b"from", b"to", b"subject", b"date", b"message-id", b"chat-version", b"content-type")
    ]
)


def test_the_ed25519_key_of_the_tests_is_one() -> None:
    assert ed_key().public_key()
