"""The self-signed certificate a relay without a public name lives with.

Made once, never replaced by itself: clients may have remembered its key.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from chatmail.adapters.net.certificates import CertificatePair
from chatmail.adapters.net.errors import CertificateError

LIFE_DAYS: Final = 36500
CHAIN_NAME: Final = "fullchain.pem"
KEY_NAME: Final = "privkey.pem"


def ensure_self_signed(directory: Path, names: Sequence[str], now_s: float) -> CertificatePair:
    """Return the pair in `directory`, made now if neither file exists.

    A key alone (the power went between the two files) gets its certificate; a chain alone is an
    error, for a new key would lock out clients that remember the old one.

    Args:  directory: `<state>/tls`. names: DNS names and IP addresses, the first one is the common
        name; `[…]` around addresses is allowed. now_s: unix time.
    Raises:  CertificateError: the files cannot be written or do not fit.
    Source:  spec federation-web E1.2.
    """
    pair = CertificatePair(directory / CHAIN_NAME, directory / KEY_NAME)
    has_key = pair.key.exists()
    if pair.chain.exists():
        if not has_key:
            raise CertificateError(f"{pair.key}: the private key of {pair.chain} is missing")
        return pair
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = _load_key(pair.key) if has_key else ec.generate_private_key(ec.SECP256R1())
        if not has_key:
            _write(pair.key, _key_pem(key), 0o600)
        _write(pair.chain, self_signed_pem(key, names, now_s), 0o644)
    except OSError as error:
        raise CertificateError(
            f"{error.filename or directory}: cannot be written: {error.strerror}"
        ) from error
    return pair


def self_signed_pem(key: ec.EllipticCurvePrivateKey, names: Sequence[str], now_s: float) -> bytes:
    """Return a certificate for `key` as PEM: 36500 days, no CA, for servers, all names in the SAN.

    The SAN counts, a common name alone is not looked at by Delta Chat core.
    """
    bare = list(dict.fromkeys(_bare(name) for name in names))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, bare[0][:64])])
    start = datetime.datetime.fromtimestamp(int(now_s), datetime.UTC) - datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=LIFE_DAYS))
        .add_extension(x509.SubjectAlternativeName([_san(name) for name in bare]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def _bare(name: str) -> str:
    inner = name.strip("[]")
    return inner[5:] if inner[:5].lower() == "ipv6:" else inner


def _san(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"{path}: no private key that can be used") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{path}: not an elliptic curve key")
    return key


def _write(path: Path, text: bytes, mode: int) -> None:
    """Write a file so that it is there whole and durable, or not at all."""
    fresh = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(fd, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
