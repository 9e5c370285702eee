"""Keys, signed messages, and a second opinion on them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from chatmail.adapters.dkim.keys import Algorithms, KeyFolder, PrivateKey
from chatmail.adapters.dkim.signer import Forms, KeySigner
from chatmail.domain.formats.body_digest import BodyDigests, Canonicalization
from chatmail.domain.model.settings import IdentitySettings

DOMAIN = "peer.example"
NOW_S = 1_760_000_000
IDENTITY = IdentitySettings(
    mail_domain=DOMAIN,
    local_domains=frozenset({DOMAIN, "other.example", "[192.0.2.1]"}),
    hostname="mx.peer.example",
)
BOTH_FORMS = (Canonicalization.SIMPLE, Canonicalization.RELAXED)
HEADER = (
    b"From: <ann@peer.example>\r\n"
    b"To: <bob@relay.test>\r\n"
    b"Subject: [...]\r\n"
    b"Date: Sat, 21 Nov 2026 12:00:00 +0000\r\n"
    b"Message-ID: <one@peer.example>\r\n"
    b"Chat-Version:  1.0\r\n"
    b"Content-Type: multipart/encrypted;\r\n"
    b'\tboundary="b"\r\n'
    b"\r\n"
)
BODY = b"--b\r\nhello  there \r\n\r\n--b--\r\n\r\n\r\n"


@cache
def rsa_key(bits: int = 2048) -> RSAPrivateKey:
    """One key for all tests: making them takes long."""
    return generate_private_key(65537, bits)


@cache
def ed_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def pem(key: PrivateKey, form: str = "PKCS8") -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        getattr(serialization.PrivateFormat, form),
        serialization.NoEncryption(),
    )


def folder(directory: Path, *, ed25519: bool = False, selector: str = "opendkim") -> KeyFolder:
    """A folder whose keys are there already."""
    directory.mkdir(mode=0o700, exist_ok=True)
    (directory / f"{selector}.pem").write_bytes(pem(rsa_key()))
    if ed25519:
        (directory / f"{selector}-ed.pem").write_bytes(pem(ed_key()))
    return KeyFolder(directory, selector, Algorithms(2048, ed25519))


def signer(directory: Path, *, ed25519: bool = False, forms: Forms | None = None) -> KeySigner:
    keys = folder(directory, ed25519=ed25519)
    return KeySigner(keys, lambda: IDENTITY, forms or Forms())


def hashed(body: bytes, *forms: Canonicalization) -> BodyDigests:
    digests = BodyDigests(*(forms or BOTH_FORMS))
    digests.feed(body)
    return digests


def dkimpy_says(message: bytes, record: str, index: int = 0) -> bool:
    """Ask the library about one signature."""
    try:
        return bool(
            dkim.DKIM(message).verify(idx=index, dnsfunc=lambda name, timeout=5: record.encode())
        )
    except dkim.DKIMException:
        return False
