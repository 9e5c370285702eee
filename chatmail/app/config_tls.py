"""Whether a certificate and a key on disk can be used, said in the operator's words."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

MAX_PEM_OCTETS: Final = 1024 * 1024

_LABEL: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")


def pair_problem(cert: Path, key: Path, domain: str, now_s: float) -> str | None:
    """Say what is wrong with a pair of PEM files; None: nothing.

    Args:  domain: normalised mail domain the certificate must name. now_s: 0 skips the dates.
    """
    try:
        certificate = _certificate(cert)
        private = _private_key(key)
    except ValueError as error:
        return str(error)
    if certificate.public_key() != private.public_key():
        return f"{key} is not the key of the certificate in {cert}"
    if now_s and certificate.not_valid_after_utc.timestamp() <= now_s:
        return f"{cert} expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
    if now_s and certificate.not_valid_before_utc.timestamp() > now_s:
        return f"{cert} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}"
    if domain and not _names(certificate, domain):
        return f"{cert} does not name {domain}"
    return None


def _certificate(path: Path) -> x509.Certificate:
    content = _content(path)
    if b"-----BEGIN CERTIFICATE-----" not in content:
        raise ValueError(f"{path} holds no certificate: {_found(content)}")
    try:
        return x509.load_pem_x509_certificate(content)
    except ValueError:
        raise ValueError(f"{path} holds a damaged certificate") from None


def _private_key(path: Path) -> PrivateKeyTypes:
    content = _content(path)
    if b"PRIVATE KEY-----" not in content:
        raise ValueError(f"{path} holds no private key: {_found(content)}")
    try:
        return serialization.load_pem_private_key(content, password=None)
    except TypeError:
        raise ValueError(f"{path} holds a private key locked by a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"{path} holds a damaged private key") from None


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_PEM_OCTETS)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def _found(content: bytes) -> str:
    labels = [label.decode("ascii").lower() for label in _LABEL.findall(content)]
    if labels:
        return "found " + ", ".join(dict.fromkeys(labels))
    return "the file is empty" if not content.strip() else "found no PEM block"


def _names(certificate: x509.Certificate, domain: str) -> bool:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    if domain.startswith("["):
        address = ipaddress.ip_address(domain[1:-1].removeprefix("IPv6:"))
        return address in names.get_values_for_type(x509.IPAddress)
    wildcard = "*." + domain.partition(".")[2]
    dns = {name.lower() for name in names.get_values_for_type(x509.DNSName)}
    return domain in dns or wildcard in dns
