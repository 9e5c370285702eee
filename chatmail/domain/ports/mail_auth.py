"""Authenticity of mail between relays: DKIM (RFC 6376, RFC 8463)."""

from __future__ import annotations

from collections.abc import Sequence
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


@attrs.frozen
class RetiredKey:
    """A key that is not signed with any more: its record may go from DNS at `until_s`."""

    name: str
    until_s: int


class KeyRing(Protocol):
    """The keys of this relay. What is made or activated is used at once. Sync, reads files.

    Every method raises PermanentFailure: a file cannot be read or written.
    """

    def records(self) -> Sequence[DkimRecord]:
        """Return the public keys in use, then those that are to come."""

    def to_come(self) -> Sequence[DkimRecord]:
        """Return the public keys that are not signed with yet."""

    def rotate(self) -> Sequence[DkimRecord]:
        """Make the keys that are to come, or return those made before."""

    def activate(self) -> Sequence[DkimRecord]:
        """Sign with the keys that are to come from now on, and return them."""

    def in_use_since_s(self) -> float | None:
        """Return since when the present key is signed with; None: there is none."""

    def retired(self) -> Sequence[RetiredKey]:
        """Return the keys that were signed with before."""


class DkimVerifier(Protocol):
    """Looks at the signatures of what arrives."""

    async def verify(self, header: bytes, digests: BodyDigests, author_domain: str) -> DkimResult:
        """Say what the signatures of `author_domain` are worth (federation-web.md B5).

        Args:  header: the header block as it arrived. digests: of the content as it arrived.
        Never raises for what a peer wrote. At most 5 signatures, 10 s.
        """
