from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from chatmail.app.config import load_config
from chatmail.app.config_choice import ConfigError
from chatmail.app.config_tls import pair_problem

NOW = datetime(2025, 6, 15, tzinfo=UTC)
DOMAIN = "relay.example.org"


class Pair:
    """A certificate and its key in two files."""

    def __init__(self, folder: Path, *names: str, passphrase: bytes | None = None) -> None:
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        private = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([])
        alternatives: list[x509.GeneralName] = [
            x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
            for name in names
        ]
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(private.public_key())
            .serial_number(1)
            .not_valid_before(NOW - timedelta(days=1))
            .not_valid_after(NOW + timedelta(days=1))
        )
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), False)
        certificate = builder.sign(private, hashes.SHA256())
        self.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        locked = (
            serialization.BestAvailableEncryption(passphrase)
            if passphrase
            else serialization.NoEncryption()
        )
        self.key.write_bytes(
            private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked
            )
        )

    def problem(self, domain: str = DOMAIN, now: datetime = NOW) -> str | None:
        return pair_problem(self.cert, self.key, domain, now.timestamp())


@pytest.mark.parametrize("name", [DOMAIN, "*.example.org"])
def test_good_pair_is_no_problem(tmp_path: Path, name: str) -> None:
    assert Pair(tmp_path, name).problem() is None


def test_literal_domain_needs_its_address(tmp_path: Path) -> None:
    pair = Pair(tmp_path, "192.0.2.1")
    assert pair.problem("[192.0.2.1]") is None
    assert pair.problem("[192.0.2.2]") == f"{pair.cert} does not name [192.0.2.2]"


@pytest.mark.parametrize("names", [("other.example.org",), ()])
def test_wrong_name_is_told(tmp_path: Path, names: tuple[str, ...]) -> None:
    pair = Pair(tmp_path, *names)
    assert pair.problem() == f"{pair.cert} does not name {DOMAIN}"


def test_dates_are_told_and_can_be_skipped(tmp_path: Path) -> None:
    pair = Pair(tmp_path, DOMAIN)
    late, early = NOW + timedelta(days=2), NOW - timedelta(days=2)
    assert pair.problem(now=late) == f"{pair.cert} expired on 2025-06-16"
    assert pair.problem(now=early) == f"{pair.cert} is not valid before 2025-06-14"
    assert pair_problem(pair.cert, pair.key, DOMAIN, 0) is None


def test_foreign_key_is_told(tmp_path: Path) -> None:
    pair = Pair(tmp_path, DOMAIN)
    (tmp_path / "other").mkdir()
    pair.key = Pair(tmp_path / "other", DOMAIN).key
    assert pair.problem() == f"{pair.key} is not the key of the certificate in {pair.cert}"


def test_missing_key_says_what_was_found(tmp_path: Path) -> None:
    pair = Pair(tmp_path, DOMAIN)
    pair.key = pair.cert
    assert pair.problem() == f"{pair.cert} holds no private key: found certificate"
    pair = Pair(tmp_path, DOMAIN)
    pair.key.write_text("")
    assert pair.problem() == f"{pair.key} holds no private key: the file is empty"
    pair.key.write_text("hello")
    assert pair.problem() == f"{pair.key} holds no private key: found no PEM block"


def test_damaged_locked_and_absent_files_are_told(tmp_path: Path) -> None:
    pair = Pair(tmp_path, DOMAIN, passphrase=b"x")
    assert pair.problem() == f"{pair.key} holds a private key locked by a passphrase"
    damaged = "-----BEGIN {0}-----\nAAAA\n-----END {0}-----\n"
    pair.key.write_text(damaged.format("PRIVATE KEY"))
    assert pair.problem() == f"{pair.key} holds a damaged private key"
    pair.cert.write_text(damaged.format("CERTIFICATE"))
    assert pair.problem() == f"{pair.cert} holds a damaged certificate"
    pair.cert.write_text("")
    assert pair.problem() == f"{pair.cert} holds no certificate: the file is empty"
    pair.cert.unlink()
    assert pair.problem() == f"{pair.cert} cannot be read: No such file or directory"


def test_bad_pair_stops_the_start(tmp_path: Path) -> None:
    pair = Pair(tmp_path, "other.example.org")
    file = tmp_path / "c.toml"
    file.write_text(
        f'[server]\ndomain = "{DOMAIN}"\n[tls]\ncert = "{pair.cert.name}"\nkey = "key.pem"\n'
    )
    with pytest.raises(ConfigError, match=r"c.toml:4: tls.cert: .* does not name relay"):
        load_config(file, {}, now_s=NOW.timestamp())
