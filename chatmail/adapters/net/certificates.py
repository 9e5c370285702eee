"""A certificate chain and its key on disk: read, judged, watched."""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeAlias

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from chatmail.adapters.net.errors import CertificateError

_ODD_EXTENSIONS: Final = (x509.DuplicateExtension, x509.UnsupportedGeneralNameType)

Fingerprint: TypeAlias = tuple[tuple[int, int, int], ...]


@attrs.frozen
class CertificatePair:
    """Where the chain (leaf first) and the private key lie, both PEM. Symlinks are followed."""

    chain: Path
    key: Path

    def fingerprint(self) -> Fingerprint | None:
        """Return what changes when a file is replaced; None: one is missing or unreadable."""
        try:
            stats = [os.stat(path) for path in (self.chain, self.key)]
        except OSError:
            return None
        return tuple((stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in stats)


@attrs.frozen(kw_only=True)
class CertificateFacts:
    """What status pages and alerts say of a certificate. Times are unix time, s."""

    names: tuple[str, ...]
    not_before_s: int
    not_after_s: int
    serial: int


def check_pair(
    pair: CertificatePair, now_s: float, names: Sequence[str] = (), *, allow_expired: bool = False
) -> CertificateFacts:
    """Read and judge a pair.

    Args:  names: DNS names or IP addresses the certificate has to cover.
    Raises:  CertificateError: unreadable, no certificate, no private key, a key that belongs to
        another certificate, expired, a name not covered. The message is one line and names the
        file.
    Source:  spec admin 5.3, federation-web E1.1.
    """
    leaf = _read_leaf(pair.chain)
    try:
        _check_key(pair, leaf)
        facts = _facts(leaf)
    except (ValueError, UnsupportedAlgorithm, *_ODD_EXTENSIONS) as error:
        raise CertificateError(f"{pair.chain}: the certificate cannot be understood") from error
    if facts.not_after_s <= now_s and not allow_expired:
        raise CertificateError(f"{pair.chain}: the certificate expired on {_day(facts)}")
    missing = [name for name in names if not covers(facts.names, name)]
    if missing:
        raise CertificateError(f"{pair.chain}: the certificate does not cover {', '.join(missing)}")
    return facts


def covers(certificate_names: Sequence[str], name: str) -> bool:
    """Say whether a subject alternative name matches (RFC 6125 §6.4: `*` is one whole label)."""
    wanted = _normal(name)
    if wanted in map(_normal, certificate_names):
        return True
    _, dot, parent = wanted.partition(".")
    return bool(dot) and not _is_address(wanted) and f"*.{parent}" in certificate_names


def load_into(context: ssl.SSLContext, pair: CertificatePair) -> None:
    """Load the pair into a context that nobody uses yet.

    Raises:  CertificateError: OpenSSL refuses it.
    """
    try:
        context.load_cert_chain(pair.chain, pair.key, password=_no_password)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise CertificateError(f"{pair.chain}: the pair cannot be used: {reason}") from error


def _no_password() -> str:
    # Without this OpenSSL would ask on the terminal for the password of an encrypted key.
    raise ValueError("the private key is encrypted")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"{path}: cannot be read: {error.strerror}") from error


def _read_leaf(path: Path) -> x509.Certificate:
    text = _read(path)
    try:
        return x509.load_pem_x509_certificates(text)[0]
    except ValueError as error:
        raise CertificateError(f"{path}: no certificate found, only {_found(text)}") from error


def _check_key(pair: CertificatePair, leaf: x509.Certificate) -> None:
    text = _read(pair.key)
    try:
        key = serialization.load_pem_private_key(text, password=None)
    except TypeError as error:
        raise CertificateError(f"{pair.key}: the private key is encrypted") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"{pair.key}: no private key found, only {_found(text)}") from error
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise CertificateError(f"{pair.key}: the private key does not belong to {pair.chain}")


def _found(text: bytes) -> str:
    """Name the PEM labels of a file (never its content)."""
    lines = map(bytes.strip, text.split(b"\n", 10_000))
    labels = {
        line[11:-5].decode("ascii", "replace").lower()
        for line in lines
        if line.startswith(b"-----BEGIN ") and line.endswith(b"-----")
    }
    if labels:
        return " and ".join(sorted(labels))
    return "something that is no PEM" if text.strip() else "an empty file"


def _facts(leaf: x509.Certificate) -> CertificateFacts:
    try:
        san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = (
            *san.get_values_for_type(x509.DNSName),
            *map(str, san.get_values_for_type(x509.IPAddress)),
        )
    except (x509.ExtensionNotFound, ValueError):
        names = ()
    return CertificateFacts(
        names=names,
        not_before_s=int(leaf.not_valid_before_utc.timestamp()),
        not_after_s=int(leaf.not_valid_after_utc.timestamp()),
        serial=leaf.serial_number,
    )


def _day(facts: CertificateFacts) -> str:
    return datetime.datetime.fromtimestamp(facts.not_after_s, datetime.UTC).date().isoformat()


def _normal(name: str) -> str:
    bare = name.strip("[]").lower()
    try:
        return str(ipaddress.ip_address(bare.removeprefix("ipv6:")))
    except ValueError:
        return bare.removesuffix(".")


def _is_address(name: str) -> bool:
    return name[-1:].isdigit() or ":" in name
