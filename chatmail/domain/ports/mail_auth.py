"""Authenticity of mail between relays: DKIM (RFC 6376, RFC 8463)."""

from __future__ import annotations

from typing import Protocol

import attrs

from chatmail.domain.formats.body_digest import BodyDigests
from chatmail.domain.policy.encryption_gate import DkimResult


@attrs.frozen(kw_only=True)
class DkimRecord:
    """A public key as DNS shows it: `name` is `<selector>._domainkey.<domain>`."""

    selector: str
    name: str
    algorithm: str  # rsa or ed25519
    text: str  # v=DKIM1;k=rsa;p=…


class DkimSigner(Protocol):
    """Signs what leaves this relay."""

    def digests(self) -> BodyDigests:
        """Return empty hashes in the form `sign` uses, to be fed with the content."""

    def sign(self, header: bytes, digests: BodyDigests, author_domain: str, now_s: int) -> bytes:
        """Return DKIM-Signature fields, each ended by CRLF, to put in front of `header`.

        Sync: about 0.5 ms with RSA-2048.
        Args:  header: the whole header block as it will be sent. digests: of the content.
        Returns:  b"" for an author this relay has no key for (a literal, a foreign domain).
        """

    def records(self) -> tuple[DkimRecord, ...]:
        """Return the public keys in use, and those that are to come."""


class DkimVerifier(Protocol):
    """Looks at the signatures of what arrives."""

    async def verify(self, header: bytes, digests: BodyDigests, author_domain: str) -> DkimResult:
        """Say what the signatures of `author_domain` are worth (federation-web.md B5).

        Args:  header: the header block as it arrived. digests: of the content as it arrived.
        Never raises for what a peer wrote. At most 5 signatures, 10 s.
        """
