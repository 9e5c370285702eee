from __future__ import annotations

import datetime
import os
import ssl
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from chatmail.adapters.acme.selfsigned import self_signed_pem
from chatmail.adapters.net.certificates import CertificatePair, check_pair, covers, load_into
from chatmail.adapters.net.errors import CertificateError

LATER_S = 200 * 365 * 86400


@pytest.fixture
def copy(pair: CertificatePair, tmp_path: Path) -> CertificatePair:
    own = CertificatePair(tmp_path / "chain.pem", tmp_path / "key.pem")
    own.chain.write_bytes(pair.chain.read_bytes())
    own.key.write_bytes(pair.key.read_bytes())
    return own


def test_facts_of_a_good_pair(pair: CertificatePair) -> None:
    facts = check_pair(pair, time.time(), ["relay.test", "127.0.0.1", "[127.0.0.1]"])
    assert facts.names == ("relay.test", "127.0.0.1")
    life = datetime.timedelta(seconds=facts.not_after_s - facts.not_before_s)
    assert life == datetime.timedelta(days=36500)


@pytest.mark.parametrize("which", ["chain", "key"])
def test_a_missing_file_is_named(copy: CertificatePair, which: str) -> None:
    path: Path = getattr(copy, which)
    path.unlink()
    with pytest.raises(CertificateError) as caught:
        check_pair(copy, time.time())
    assert str(caught.value) == f"{path}: cannot be read: No such file or directory"


def test_swapped_files_say_what_was_found(copy: CertificatePair) -> None:
    swapped = CertificatePair(copy.key, copy.chain)
    with pytest.raises(CertificateError) as caught:
        check_pair(swapped, time.time())
    assert str(caught.value) == f"{copy.key}: no certificate found, only private key"
    twice = CertificatePair(copy.chain, copy.chain)
    with pytest.raises(CertificateError) as caught:
        check_pair(twice, time.time())
    assert str(caught.value) == f"{copy.chain}: no private key found, only certificate"


@pytest.mark.parametrize(
    ("text", "found"),
    [(b"", "an empty file"), (b"secret stuff", "something that is no PEM")],
)
def test_other_content_is_described_but_not_shown(
    copy: CertificatePair, text: bytes, found: str
) -> None:
    copy.key.write_bytes(text)
    with pytest.raises(CertificateError) as caught:
        check_pair(copy, time.time())
    assert str(caught.value) == f"{copy.key}: no private key found, only {found}"


def test_an_encrypted_key_is_refused_without_asking_for_a_password(copy: CertificatePair) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    copy.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"pass"),
        )
    )
    with pytest.raises(CertificateError, match="encrypted"):
        check_pair(copy, time.time())
    with pytest.raises(CertificateError, match="cannot be used"):
        load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), copy)


def test_a_foreign_key_is_refused(copy: CertificatePair, other_pair: CertificatePair) -> None:
    copy.key.write_bytes(other_pair.key.read_bytes())
    with pytest.raises(CertificateError) as caught:
        check_pair(copy, time.time())
    assert str(caught.value) == f"{copy.key}: the private key does not belong to {copy.chain}"
    with pytest.raises(CertificateError, match="KEY_VALUES_MISMATCH"):
        load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), copy)


def test_an_expired_certificate_is_refused_unless_allowed(pair: CertificatePair) -> None:
    with pytest.raises(CertificateError, match=r"the certificate expired on \d{4}-\d\d-\d\d$"):
        check_pair(pair, time.time() + LATER_S)
    assert check_pair(pair, time.time() + LATER_S, allow_expired=True).serial


def test_names_that_are_not_covered_are_listed(pair: CertificatePair) -> None:
    with pytest.raises(CertificateError) as caught:
        check_pair(pair, time.time(), ["relay.test", "other.test", "::1"])
    assert str(caught.value) == f"{pair.chain}: the certificate does not cover other.test, ::1"


@pytest.mark.parametrize(
    ("names", "name", "expected"),
    [
        (["relay.test"], "RELAY.test", True),
        (["relay.test"], "www.relay.test", False),
        (["*.relay.test"], "www.relay.test", True),
        (["*.relay.test"], "a.www.relay.test", False),
        (["*.relay.test"], "relay.test", False),
        (["::1"], "[IPv6:0:0:0:0:0:0:0:1]", True),
        (["*.0.0.1"], "127.0.0.1", False),
        (["192.0.2.1"], "[192.0.2.1]", True),
    ],
)
def test_coverage(names: list[str], name: str, expected: bool) -> None:
    assert covers(names, name) is expected


def test_the_fingerprint_follows_symlinks(copy: CertificatePair, tmp_path: Path) -> None:
    live = tmp_path / "live"
    live.symlink_to(copy.chain)
    linked = CertificatePair(live, copy.key)
    before = linked.fingerprint()
    assert before == copy.fingerprint()
    renewed = tmp_path / "renewed.pem"
    renewed.write_bytes(copy.chain.read_bytes())
    fresh = tmp_path / "fresh"
    fresh.symlink_to(renewed)
    os.replace(fresh, live)
    assert linked.fingerprint() not in (None, before)
    live.unlink()
    assert linked.fingerprint() is None


def test_the_same_key_may_get_a_new_certificate(copy: CertificatePair) -> None:
    key = serialization.load_pem_private_key(copy.key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    copy.chain.write_bytes(self_signed_pem(key, ["renewed.test"], time.time()))
    assert check_pair(copy, time.time()).names == ("renewed.test",)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2a8648ce3d0201", "2a8648ce3d0209"),  # the key's algorithm: none that exists
        ("2a8648ce3d030107", "2a8648ce3d030199"),  # its curve
        ("551d11", "551d99"),  # the names' extension
        ("551d13", "551d11"),  # twice the same extension
        ("870400000000", "840400000000"),
    ],
)
def test_a_certificate_nobody_understands_is_refused_or_has_no_names(
    copy: CertificatePair, old: str, new: str
) -> None:
    leaf = x509.load_pem_x509_certificate(copy.chain.read_bytes())
    octets = leaf.public_bytes(serialization.Encoding.DER)
    spoilt = octets.replace(bytes.fromhex(old), bytes.fromhex(new))
    copy.chain.write_bytes(ssl.DER_cert_to_PEM_cert(spoilt).encode())
    with pytest.raises(CertificateError):
        check_pair(copy, time.time(), ["relay.test"] if spoilt != octets else ["other.test"])
