from __future__ import annotations

import ipaddress
import stat
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from chatmail.adapters.acme.selfsigned import ensure_self_signed
from chatmail.adapters.net.certificates import CertificatePair, check_pair
from chatmail.adapters.net.errors import CertificateError

NAMES = ["_relay.test", "www._relay.test", "[192.0.2.1]", "[IPv6:2001:db8::1]", "_relay.test"]


def leaf(pair: CertificatePair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.chain.read_bytes())


def test_the_certificate_is_what_clients_expect(tmp_path: Path) -> None:
    now_s = time.time()
    pair = ensure_self_signed(tmp_path / "tls", NAMES, now_s)
    assert pair.chain == tmp_path / "tls" / "fullchain.pem"
    assert pair.key == tmp_path / "tls" / "privkey.pem"
    certificate = leaf(pair)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    extensions = certificate.extensions
    basic = extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical
    assert not basic.value.ca
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    san = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.DNSName) == ["_relay.test", "www._relay.test"]
    assert san.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address("192.0.2.1"),
        ipaddress.ip_address("2001:db8::1"),
    ]
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert life.days == 36500
    assert certificate.not_valid_before_utc.timestamp() < now_s
    check_pair(pair, now_s, ["_relay.test", "192.0.2.1"])


def test_only_the_owner_reads_the_key_and_nothing_is_left_over(tmp_path: Path) -> None:
    pair = ensure_self_signed(tmp_path, NAMES, time.time())
    assert stat.S_IMODE(pair.key.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fullchain.pem", "privkey.pem"]


def test_it_is_never_made_anew(tmp_path: Path) -> None:
    pair = ensure_self_signed(tmp_path, NAMES, time.time())
    before = pair.chain.read_bytes(), pair.key.read_bytes()
    ensure_self_signed(tmp_path, ["other.test"], time.time() + 40000 * 86400)
    assert (pair.chain.read_bytes(), pair.key.read_bytes()) == before


def test_a_key_without_certificate_is_kept(tmp_path: Path) -> None:
    pair = ensure_self_signed(tmp_path, NAMES, time.time())
    key, public = pair.key.read_bytes(), leaf(pair).public_key()
    pair.chain.unlink()
    (tmp_path / ".fullchain.pem.new").write_bytes(b"torn")
    assert ensure_self_signed(tmp_path, NAMES, time.time()) == pair
    assert pair.key.read_bytes() == key
    assert leaf(pair).public_key() == public
    assert not (tmp_path / ".fullchain.pem.new").exists()


def test_a_certificate_without_key_is_an_error(tmp_path: Path) -> None:
    pair = ensure_self_signed(tmp_path, NAMES, time.time())
    pair.key.unlink()
    with pytest.raises(CertificateError, match="is missing"):
        ensure_self_signed(tmp_path, NAMES, time.time())
    assert not pair.key.exists()


def test_a_damaged_key_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "privkey.pem").write_bytes(b"damaged")
    with pytest.raises(CertificateError, match="no private key"):
        ensure_self_signed(tmp_path, NAMES, time.time())


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    with pytest.raises(CertificateError, match="cannot be written: Not a directory"):
        ensure_self_signed(blocked / "tls", NAMES, time.time())
