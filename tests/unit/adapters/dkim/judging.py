"""A verifier with a world outside, and messages that another implementation signed."""

from __future__ import annotations

import base64
import time

import attrs
import dkim
import trio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from chatmail.adapters.dkim.key_lookup import KeyLookup
from chatmail.adapters.dkim.verifier import KeyVerifier
from chatmail.domain.formats.body_digest import BodyDigests
from chatmail.domain.formats.dkim_tags import KeyRecord, digests_for, parse_key_record
from chatmail.domain.policy.encryption_gate import DkimResult
from chatmail.domain.ports.remote import DnsFault, Fetched, FetchFault
from tests.unit.adapters.dkim.world import BODY, DOMAIN, HEADER, pem, rsa_key
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
