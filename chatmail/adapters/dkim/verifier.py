"""Looks at the signatures of what arrives.

dkimpy says which octets of a header a signature covers; which signatures count, their keys, and
the arithmetic are ours: its own loop takes what it is given (`l=`, ten hours of clock, 512 bits).
Source: RFC 6376 §6; spec federation-web B5.
"""

from __future__ import annotations

import hashlib
from typing import Final, TypeAlias

import trio
from dkim import hash_headers
from dkim.canonicalization import CanonicalizationPolicy

from chatmail.adapters.dkim.key_lookup import RECHECKED_S, KeyLookup, NoKey, PublicKey
from chatmail.domain.formats.body_digest import BodyDigests, Canonicalization
from chatmail.domain.formats.dkim_tags import DkimSignature, candidates
from chatmail.domain.formats.rfc5322 import HeaderBlock, parse_header
from chatmail.domain.policy.encryption_gate import DkimResult
from chatmail.domain.ports.system import Clock

LIMIT_S: Final = 10.0

_Fields: TypeAlias = list[tuple[bytes, bytes]]


class KeyVerifier:
    """Makes the DkimVerifier port real."""

    def __init__(self, keys: KeyLookup, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock

    async def verify(self, header: bytes, digests: BodyDigests, author_domain: str) -> DkimResult:
        """Say what the signatures of `author_domain` are worth.

        Cancellation:  safe; nothing is kept but keys.
        Cost:  0.2 ms per signature whose key is known, in the loop; else one DNS query.
        """
        block = parse_header(header)
        signatures = candidates(block, author_domain, self._clock.now_s())
        if not signatures:
            return DkimResult.NONE
        result = DkimResult.UNAVAILABLE
        with trio.move_on_after(LIMIT_S):
            result = await self._best(Covered(block), signatures, digests)
        return result

    async def _best(
        self,
        covered: Covered,
        signatures: tuple[DkimSignature | None, ...],
        digests: BodyDigests,
    ) -> DkimResult:
        result = DkimResult.BAD
        for signature in signatures:
            # The body first: a mailing list's footer costs no look at DNS.
            if signature is None or digests.sha256(signature.body_form) != signature.body_hash:
                continue
            found = await self._try(signature, covered.digest(signature))
            if found is DkimResult.PASS:
                return found
            if found is DkimResult.UNAVAILABLE:
                result = found
        return result

    async def _try(self, signature: DkimSignature, digest: bytes) -> DkimResult:
        key = await self._keys.find(signature)
        if isinstance(key, PublicKey) and not key.verifies(signature, digest):
            # A relay that was set up anew has another key under the same selector.
            key = await self._keys.find(signature, younger_than_s=RECHECKED_S)
        if key is NoKey.UNAVAILABLE:
            return DkimResult.UNAVAILABLE
        if isinstance(key, PublicKey) and key.verifies(signature, digest):
            return DkimResult.PASS
        return DkimResult.BAD


class Covered:
    """One header block, in the canonical forms that were asked for."""

    def __init__(self, block: HeaderBlock) -> None:
        self._block = block
        octets = block.octets
        self._raw: _Fields = [
            (octets[start : value - 1], octets[value:end]) for _, start, value, end in block.fields
        ]
        self._names = {name for name, *_ in block.fields}
        self._forms: dict[Canonicalization, _Fields] = {}

    def digest(self, signature: DkimSignature) -> bytes:
        """Return the SHA-256 of what a signature covers."""
        form = signature.header_form
        policy = CanonicalizationPolicy.from_c_value(form.value.encode("ascii"))
        if form not in self._forms:
            self._forms[form] = policy.canonicalize_headers(self._raw)
        # A name that is not there adds nothing; looking for it would take time.
        names = [name for name in (*signature.names, b"from") if name in self._names]
        octets, (_, start, value, end) = self._block.octets, signature.field
        own = (octets[start : value - 1], octets[value:end])
        hasher = hashlib.sha256()
        hash_headers(hasher, policy, self._forms[form], names, own, signature.tags)
        return hasher.digest()
