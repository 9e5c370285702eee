"""What a signature is worth: those of others, those that were tampered with, those without key."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable
from pathlib import Path

import attrs
import dkim
import pytest
import trio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from hypothesis import given
from hypothesis import strategies as st

from chatmail.adapters.dkim import key_lookup
from chatmail.adapters.dkim.key_lookup import KeyLookup, NoKey, PublicKey, usable
from chatmail.adapters.dkim.signer import parse_forms
from chatmail.adapters.dkim.verifier import KeyVerifier
from chatmail.domain.formats.body_digest import BodyDigests
from chatmail.domain.formats.dkim_tags import KeyRecord, digests_for, parse_key_record
from chatmail.domain.policy.encryption_gate import DkimResult
from chatmail.domain.ports.remote import DnsFault, Fetched, FetchFault
from tests.pace import slowdown
from tests.unit.adapters.dkim.world import (
    BODY,
    DOMAIN,
    HEADER,
    ed_key,
    pem,
    rsa_key,
    signer,
)
from tests.unit.fakes.system import FakeClock

NOW_S = int(time.time())  # dkimpy dates its signatures by itself
NAME = f"opendkim._domainkey.{DOMAIN}"


def spki(bits: int = 2048) -> str:
    octets = (
        rsa_key(bits)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return base64.b64encode(octets).decode()


RECORD = f"v=DKIM1;k=rsa;p={spki()};s=email;t=s"


@attrs.define
class Outside:
    """DNS and the web, as a test wants them; they count what they are asked."""

    records: dict[str, tuple[bytes, ...] | DnsFault] = attrs.field(factory=dict)
    pages: dict[str, bytes] = attrs.field(factory=dict)
    asked: list[str] = attrs.field(factory=list)
    is_slow: bool = False

    async def txt(self, name: str) -> tuple[bytes, ...] | DnsFault:
        self.asked.append(name)
        await trio.lowlevel.checkpoint()
        if self.is_slow:
            await trio.sleep_forever()
        return self.records.get(name, DnsFault.NXDOMAIN)

    async def get(
        self, url: str, *, max_octets: int, timeout_s: float, is_operators_word: bool = False
    ) -> Fetched | FetchFault:
        self.asked.append(url)
        await trio.lowlevel.checkpoint()
        page = self.pages.get(url)
        return FetchFault.ABSENT if page is None else Fetched("text/plain", page)


@attrs.define
class Judge:
    """A verifier and what it stands on."""

    outside: Outside = attrs.field(factory=lambda: Outside({NAME: (RECORD.encode(),)}))
    clock: FakeClock = attrs.field(factory=lambda: FakeClock(NOW_S + 60.0))
    keys: KeyLookup = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.keys = KeyLookup(self.outside, self.outside, self.clock)  # type: ignore[arg-type]

    async def says(self, message: bytes, domain: str = DOMAIN) -> DkimResult:
        end = message.index(b"\r\n\r\n") + 4
        digests = digests_for(message[:end]) or BodyDigests()
        digests.feed(message[end:])
        return await KeyVerifier(self.keys, self.clock).verify(message[:end], digests, domain)


def by_dkimpy(
    message: bytes = HEADER + BODY,
    *,
    canonicalize: tuple[bytes, bytes] = (b"relaxed", b"simple"),
    identity: bytes | None = None,
    domain: str = DOMAIN,
    bits: int = 2048,
    length: bool = False,
    headers: list[bytes] | None = None,
    algorithm: bytes = b"rsa-sha256",
) -> bytes:
    """Sign as a peer does that uses dkimpy."""
    return (
        bytes(
            dkim.DKIM(message).sign(
                b"opendkim",
                domain.encode(),
                pem(rsa_key(bits), "TraditionalOpenSSL"),
                algorithm,
                identity,
                canonicalize,
                headers,
                length,
            )
        )
        + message
    )


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


@pytest.mark.parametrize(
    ("record", "result"),
    [
        pytest.param(RECORD, DkimResult.PASS, id="ours"),
        pytest.param(f"p={spki()}", DkimResult.PASS, id="key-alone"),
        pytest.param(f"v=DKIM1; k=rsa; t=y; p={spki()};", DkimResult.PASS, id="testing"),
        pytest.param(f"v=DKIM1; h=sha1:sha256; p={spki()}", DkimResult.PASS, id="hashes"),
        pytest.param(f"v=DKIM1; h=sha1; p={spki()}", DkimResult.BAD, id="sha1-alone"),
        pytest.param("v=DKIM1; p=", DkimResult.BAD, id="revoked"),
        pytest.param(f"v=DKIM2; p={spki()}", DkimResult.BAD, id="version"),
        pytest.param(f"p={spki()}; v=DKIM1", DkimResult.BAD, id="version-not-first"),
        pytest.param(f"v=DKIM1; s=tlsrpt; p={spki()}", DkimResult.BAD, id="not-for-mail"),
        pytest.param(f"v=DKIM1; p={spki()}; p={spki()}", DkimResult.BAD, id="twice"),
        pytest.param("v=DKIM1; p=AAAA", DkimResult.BAD, id="no-key"),
        pytest.param(f"v=DKIM1; k=ed25519; p={spki()}", DkimResult.BAD, id="other-kind"),
        pytest.param("hello", DkimResult.BAD, id="text"),
        pytest.param("", DkimResult.BAD, id="empty"),
    ],
)
async def test_records(record: str, result: DkimResult) -> None:
    judge = Judge(Outside({NAME: (record.encode(),)}))
    assert await judge.says(by_dkimpy()) is result


async def test_a_key_of_1024_bits_is_enough_and_a_shorter_one_is_not() -> None:
    judge = Judge(Outside({NAME: (f"p={spki(1024)}".encode(),)}))
    assert await judge.says(by_dkimpy(bits=1024)) is DkimResult.PASS
    assert usable(published(65537, 2**768 + 1)) is NoKey.ABSENT


def published(exponent: int, modulus: int) -> KeyRecord:
    """A record of an RSA key; never mind whose product the modulus is."""
    octets = (
        RSAPublicNumbers(exponent, modulus)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    record = parse_key_record(b"p=" + base64.b64encode(octets))
    assert record is not None
    return record


@pytest.mark.parametrize(
    ("exponent", "bits", "is_usable"),
    [
        (65537, 8192, True),
        (3, 2048, True),
        (65537, 8193, False),
        (65537, 16384, False),
        (2**32 + 1, 2048, False),
        (2**3070 + 1, 3072, False),
    ],
)
def test_a_key_that_makes_us_work_is_none(exponent: int, bits: int, is_usable: bool) -> None:
    key = usable(published(exponent, 2 ** (bits - 1) + 1))
    assert isinstance(key, PublicKey) is is_usable


async def test_the_first_record_that_is_a_key_counts() -> None:
    judge = Judge(Outside({NAME: (b"v=spf1 -all", RECORD.encode(), b"p=")}))
    assert await judge.says(by_dkimpy()) is DkimResult.PASS


@pytest.mark.parametrize(
    ("fault", "result"),
    [
        (DnsFault.NXDOMAIN, DkimResult.BAD),
        (DnsFault.NO_DATA, DkimResult.BAD),
        (DnsFault.SERVFAIL, DkimResult.UNAVAILABLE),
        (DnsFault.TIMEOUT, DkimResult.UNAVAILABLE),
    ],
)
async def test_trouble_with_dns_is_temporary_and_absence_is_not(
    fault: DnsFault, result: DkimResult
) -> None:
    judge = Judge(Outside({NAME: fault}))
    message = by_dkimpy()
    assert await judge.says(message) is result
    judge.outside.pages[f"https://{DOMAIN}/.well-known/_domainkey/opendkim"] = RECORD.encode()
    judge.clock.advance(61.0)
    assert await judge.says(message) is DkimResult.PASS
    judge.clock.advance(80_000.0)
    before = len(judge.outside.asked)
    assert await judge.says(message) is DkimResult.PASS
    assert len(judge.outside.asked) == before


async def test_keys_are_kept_ten_minutes_and_their_absence_one() -> None:
    judge = Judge()
    message = by_dkimpy()
    for _ in range(3):
        await judge.says(message)
    assert len(judge.outside.asked) == 1
    judge.clock.advance(601.0)
    await judge.says(message)
    assert len(judge.outside.asked) == 2
    empty = Judge(Outside())
    for seconds, lookups in ((0.0, 1), (59.0, 1), (2.0, 2)):
        empty.clock.advance(seconds)
        await empty.says(message)
        assert empty.outside.asked.count(NAME) == lookups


async def test_trouble_is_not_kept() -> None:
    judge = Judge(Outside({NAME: DnsFault.TIMEOUT}))
    assert await judge.says(by_dkimpy()) is DkimResult.UNAVAILABLE
    judge.outside.records[NAME] = (RECORD.encode(),)
    assert await judge.says(by_dkimpy()) is DkimResult.PASS


async def test_a_new_key_under_the_old_selector_is_found() -> None:
    judge = Judge(Outside({NAME: (f"p={spki(1024)}".encode(),)}))
    assert await judge.says(by_dkimpy()) is DkimResult.BAD
    judge.outside.records[NAME] = (RECORD.encode(),)
    judge.clock.advance(31.0)
    assert await judge.says(by_dkimpy()) is DkimResult.PASS


async def test_the_web_is_asked_at_the_port_where_relays_are() -> None:
    outside = Outside()
    outside.pages[f"https://{DOMAIN}:8443/.well-known/_domainkey/opendkim"] = RECORD.encode()
    judge = Judge(outside)
    judge.keys = KeyLookup(outside, outside, judge.clock, https_port=lambda: 8443)  # type: ignore[arg-type]
    assert await judge.says(by_dkimpy()) is DkimResult.PASS


async def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_lookup, "MAX_KEPT", 3)
    judge = Judge(Outside())
    for number in range(10):
        await judge.says(by_dkimpy().replace(b"s=opendkim", b"s=key%d" % number))
    assert len(judge.keys) == 3


async def test_ten_seconds_are_the_limit(autojump_clock: trio.testing.MockClock) -> None:
    judge = Judge(Outside(is_slow=True))
    assert await judge.says(by_dkimpy()) is DkimResult.UNAVAILABLE
    assert trio.current_time() == pytest.approx(10.0)


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
