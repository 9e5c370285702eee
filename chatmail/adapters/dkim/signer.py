"""Signs what leaves this relay (RFC 6376, RFC 8463)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final

import attrs
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from chatmail.adapters.dkim.keys import KeyFolder, SigningKey
from chatmail.domain.formats.body_digest import BodyDigests, Canonicalization
from chatmail.domain.formats.dkim_header import SignatureTags, signed_names
from chatmail.domain.formats.rfc5322 import parse_header
from chatmail.domain.model.address import is_literal
from chatmail.domain.model.settings import IdentitySettings
from chatmail.domain.ports.mail_auth import DkimRecord

_SHA256: Final = Prehashed(hashes.SHA256())


@attrs.frozen
class Forms:
    """What `dkim.canonicalization` asks for."""

    header: Canonicalization = Canonicalization.RELAXED
    body: Canonicalization = Canonicalization.SIMPLE


def parse_forms(text: str) -> Forms:
    """Read `relaxed/simple`. Raises:  ValueError: it is none of the four pairs."""
    header, slash, body = text.strip().lower().partition("/")
    if not slash:
        raise ValueError("two of relaxed and simple, with a slash between")
    return Forms(Canonicalization(header), Canonicalization(body))


class KeySigner:
    """Makes the DkimSigner port real over the keys of a folder.

    `identity` is asked at each call: the domains are live settings. The keys are read when it is
    made and at `reload`; none is made for a relay that has no name, only an address.
    """

    def __init__(
        self,
        folder: KeyFolder,
        identity: Callable[[], IdentitySettings],
        forms: Forms = Forms(),
    ) -> None:
        """Raises:  PermanentFailure: a key cannot be read or made; the text is for the operator."""
        self._folder = folder
        self._identity = identity
        self._forms = forms
        self._keys: tuple[SigningKey, ...] = ()
        self._to_come: tuple[SigningKey, ...] = ()
        self.reload()

    def reload(self) -> None:
        """Read the keys anew, after `rotate` and `activate` of the folder."""
        if self._names():
            keys, to_come = self._folder.ensure(), self._folder.to_come()
            self._keys, self._to_come = keys, to_come

    def digests(self) -> BodyDigests:
        """Return empty hashes in the form `sign` uses."""
        return BodyDigests(self._forms.body)

    def sign(self, header: bytes, digests: BodyDigests, author_domain: str, now_s: int) -> bytes:
        """Return one DKIM-Signature field per key, each ended by CRLF; b"" for a foreign author."""
        if is_literal(author_domain) or author_domain not in self._identity().local_domains:
            return b""
        if not self._keys:  # the relay has got its first name while it runs
            self.reload()
        forms = self._forms
        body_hash = digests.sha256(forms.body)
        if body_hash is None:
            raise ValueError("the content was not hashed in the form of `digests`")
        block = parse_header(header)
        names = signed_names(block)
        fields: list[bytes] = []
        for key in self._keys:
            tags = SignatureTags(
                algorithm=f"{key.algorithm}-sha256",
                header_form=forms.header,
                body_form=forms.body,
                domain=author_domain,
                selector=key.selector,
                signed_s=now_s,
                names=names,
                body_hash=body_hash,
            )
            digest = hashlib.sha256(tags.to_be_signed(block)).digest()
            fields.append(tags.signed_field(_sign(key, digest)))
        return b"".join(fields)

    def records(self) -> tuple[DkimRecord, ...]:
        """Return the public keys in use, then those to come, of each domain that has a name."""
        return self._records((*self._keys, *self._to_come))

    def to_come(self) -> tuple[DkimRecord, ...]:
        """Return the public keys that are not signed with yet."""
        return self._records(self._to_come)

    def rotate(self, day: str) -> tuple[DkimRecord, ...]:
        """Make the keys that are to come, or return those made before.

        Args:  day: `20270131`, for the name of the selector.
        Raises:  PermanentFailure: a file cannot be written; the text is for the operator.
        """
        self._folder.rotate(day)
        self.reload()
        return self.to_come()

    def activate(self) -> tuple[DkimRecord, ...]:
        """Sign with the keys that are to come from now on, and return them.

        Raises:  PermanentFailure: there are none, or a file cannot be written.
        """
        self._folder.activate()
        self.reload()
        return self._records(self._keys)

    def record_of(self, selector: str) -> str | None:
        """Return the text of one selector's record, an old one's too; None: there is none."""
        key = self._folder.published(selector)
        return key.record() if key else None

    def _records(self, keys: Sequence[SigningKey]) -> tuple[DkimRecord, ...]:
        return tuple(
            DkimRecord(
                selector=key.selector,
                name=f"{key.selector}._domainkey.{domain}",
                algorithm=key.algorithm,
                text=key.record(),
            )
            for key in keys
            for domain in self._names()
        )

    def _names(self) -> list[str]:
        """Our domains that have a place for a key, the main one first."""
        identity = self._identity()
        others = sorted(identity.local_domains - {identity.mail_domain})
        return [one for one in (identity.mail_domain, *others) if not is_literal(one)]


def _sign(key: SigningKey, digest: bytes) -> bytes:
    if isinstance(key.private, RSAPrivateKey):
        return key.private.sign(digest, PKCS1v15(), _SHA256)
    return key.private.sign(digest)  # RFC 8463 §3: the hash is what is signed
