"""Public keys of other domains: from DNS, or from their web server; kept for a while.

Source:  RFC 6376 §3.6.2; spec federation-web B5.4, B5.5.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, TypeAlias

import attrs
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from chatmail.domain.formats.dkim_tags import (
    MAX_RECORD_OCTETS,
    DkimSignature,
    KeyRecord,
    parse_key_record,
)
from chatmail.domain.ports.remote import DnsFault, Fetched, HttpFetcher, Resolver
from chatmail.domain.ports.system import Clock

HTTPS_PORT: Final = 443
FOUND_S: Final = 600.0
RECHECKED_S: Final = 30.0
ABSENT_S: Final = 60.0
FETCHED_S: Final = 86_400.0
FETCH_TIMEOUT_S: Final = 5.0
MAX_KEPT: Final = 10_000
MIN_BITS: Final = 1024
MAX_BITS: Final = 8192
MAX_EXPONENT: Final = 1 << 32
"""One of 3072 bits, which the library allows, makes each verification cost 8 ms of the loop."""

_SHA256: Final = Prehashed(hashes.SHA256())


class NoKey(enum.Enum):
    """Why there is no key."""

    ABSENT = "absent"  # none is published, or none that may be used
    UNAVAILABLE = "unavailable"  # nobody knows at the moment


@attrs.frozen(eq=False)
class PublicKey:
    """A key that signatures are tried with."""

    record: KeyRecord
    key: RSAPublicKey | Ed25519PublicKey

    def verifies(self, signature: DkimSignature, digest: bytes) -> bool:
        """Say whether this key made the signature over a SHA-256 digest."""
        if signature.algorithm != f"{self.record.algorithm}-sha256".encode():
            return False
        if self.record.is_exact and signature.identity_domain != signature.domain:
            return False
        try:
            if isinstance(self.key, RSAPublicKey):
                self.key.verify(signature.signature, digest, PKCS1v15(), _SHA256)
            else:
                self.key.verify(signature.signature, digest)
        except InvalidSignature:
            return False
        return True


Answer: TypeAlias = PublicKey | NoKey


@attrs.frozen
class _Kept:
    answer: Answer
    since_s: float
    until_s: float


class KeyLookup:
    """Finds keys. Bounded: the least recently used of 10,000 goes.

    `https_port`: where other relays' web servers are (`federation.https_port`).
    """

    def __init__(
        self,
        resolver: Resolver,
        fetcher: HttpFetcher,
        clock: Clock,
        *,
        https_port: Callable[[], int] = lambda: HTTPS_PORT,
    ) -> None:
        self._https_port = https_port
        self._resolver = resolver
        self._fetcher = fetcher
        self._clock = clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    async def find(self, signature: DkimSignature, *, younger_than_s: float = FETCHED_S) -> Answer:
        """Return the key a signature names. Never raises for what others publish.

        Args:  younger_than_s: what was looked up longer ago is looked up again.
        """
        now_s = self._clock.monotonic_s()
        kept = self._kept.get(signature.key_name)
        if kept and now_s < kept.until_s and now_s - kept.since_s <= younger_than_s:
            self._kept.move_to_end(signature.key_name)
            return kept.answer
        answer, life_s = await self._look_up(signature)
        if life_s:
            self._keep(signature.key_name, _Kept(answer, now_s, now_s + life_s))
        return answer

    def _keep(self, name: str, kept: _Kept) -> None:
        self._kept[name] = kept
        self._kept.move_to_end(name)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

    async def _look_up(self, signature: DkimSignature) -> tuple[Answer, float]:
        """Return the answer and how long it may be kept."""
        found = await self._resolver.txt(signature.key_name)
        if not isinstance(found, DnsFault):
            key = _first_key(found)
            return (key, FOUND_S) if isinstance(key, PublicKey) else (key, ABSENT_S)
        fetched = await self._fetch(signature)
        if fetched is not None:
            return fetched, FETCHED_S
        if found in (DnsFault.NXDOMAIN, DnsFault.NO_DATA):
            return NoKey.ABSENT, ABSENT_S
        return NoKey.UNAVAILABLE, 0.0

    async def _fetch(self, signature: DkimSignature) -> PublicKey | None:
        port = self._https_port()
        host = signature.domain if port == HTTPS_PORT else f"{signature.domain}:{port}"
        url = f"https://{host}/.well-known/_domainkey/{signature.selector}"
        found = await self._fetcher.get(
            url, max_octets=MAX_RECORD_OCTETS, timeout_s=FETCH_TIMEOUT_S
        )
        if not isinstance(found, Fetched):
            return None
        key = _first_key((found.octets.strip(),))
        return key if isinstance(key, PublicKey) else None


def _first_key(records: tuple[bytes, ...]) -> Answer:
    """Return the key of the first record that parses as one (B5.4)."""
    for text in records:
        record = parse_key_record(text)
        if record is not None:
            return usable(record)
    return NoKey.ABSENT


def usable(record: KeyRecord) -> Answer:
    """Return the key of a record if signatures may be tried with it."""
    if not record.public:
        return NoKey.ABSENT  # revoked
    try:
        if record.algorithm == "ed25519":
            return PublicKey(record, Ed25519PublicKey.from_public_bytes(record.public))
        key = serialization.load_der_public_key(record.public)
    except (ValueError, UnsupportedAlgorithm):
        return NoKey.ABSENT
    # RFC 8301 §3.2: below 1024 bits anybody may have the private key.
    if not isinstance(key, RSAPublicKey) or not MIN_BITS <= key.key_size <= MAX_BITS:
        return NoKey.ABSENT
    if key.public_numbers().e >= MAX_EXPONENT:
        return NoKey.ABSENT
    return PublicKey(record, key)
