"""Key files: made once, kept private, taken over from other servers, exchanged."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from chatmail.adapters.dkim import keys
from chatmail.adapters.dkim.keys import Algorithms, KeyFolder, parse_algorithms
from chatmail.domain.model.errors import PermanentFailure
from tests.unit.adapters.dkim.world import ed_key, folder, pem, rsa_key


@pytest.fixture(autouse=True)
def one_key_is_enough(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Do not make a key of RSA for each test; returns the sizes asked for."""
    asked: list[int] = []

    def generate(exponent: int, bits: int) -> rsa.RSAPrivateKey:
        assert exponent == 65537
        asked.append(bits)
        return rsa_key()

    monkeypatch.setattr(keys, "generate_private_key", generate)
    return asked


DAY = "20270131"
SECOND = f"opendkim-{DAY}"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_keys_are_made_at_the_first_start_and_kept(
    tmp_path: Path, one_key_is_enough: list[int]
) -> None:
    directory = tmp_path / "state" / "dkim"
    made = KeyFolder(directory, "opendkim", Algorithms(2048, True)).ensure()
    assert one_key_is_enough == [2048]
    assert [(key.selector, key.algorithm) for key in made] == [
        ("opendkim", "rsa"),
        ("opendkim-ed", "ed25519"),
    ]
    assert mode(directory) == 0o700
    for name in ("opendkim.pem", "opendkim-ed.pem"):
        assert mode(directory / name) == 0o600
        assert (directory / name).read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    again = KeyFolder(directory, "opendkim", Algorithms(2048, True)).ensure()
    assert [key.record() for key in again] == [key.record() for key in made]
    assert one_key_is_enough == [2048]
    assert sorted(os.listdir(directory)) == ["opendkim-ed.pem", "opendkim.pem"]


def test_the_record_holds_the_key_as_verifiers_want_it(tmp_path: Path) -> None:
    rsa_record, ed_record = [
        key.record() for key in folder(tmp_path / "dkim", ed25519=True).ensure()
    ]
    assert rsa_record.startswith("v=DKIM1;k=rsa;p=MIIBIjAN")
    assert rsa_record.endswith(";s=email;t=s")
    raw = (
        ed_key()
        .public_key()
        .public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    )
    assert f"v=DKIM1;k=ed25519;p={base64.b64encode(raw).decode()};" in ed_record


@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL"])
@pytest.mark.parametrize("name", ["opendkim.private", "relay.test_opendkim.key", "opendkim.pem"])
def test_the_files_of_other_servers_are_used_where_they_lie(
    tmp_path: Path, name: str, form: str, one_key_is_enough: list[int]
) -> None:
    (tmp_path / name).write_bytes(pem(rsa_key(), form))
    (key,) = KeyFolder(tmp_path, "opendkim", Algorithms()).ensure()
    assert key.record() == folder(tmp_path / "ours").ensure()[0].record()
    assert one_key_is_enough == []


def test_a_key_may_be_taken_over_with_its_selector(tmp_path: Path) -> None:
    ours = KeyFolder(tmp_path / "dkim", "opendkim", Algorithms())
    ours.adopt("default", pem(rsa_key(), "TraditionalOpenSSL"))
    assert ours.selector == "default"
    assert KeyFolder(tmp_path / "dkim", "opendkim", Algorithms()).ensure()[0].selector == "default"
    assert mode(tmp_path / "dkim" / "default.pem") == 0o600


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        pem(rsa_key(1024)),
    ],
    ids=["empty", "nonsense", "curve", "short"],
)
def test_what_is_no_key_to_sign_with_is_said(tmp_path: Path, octets: bytes) -> None:
    ours = KeyFolder(tmp_path, "opendkim", Algorithms())
    with pytest.raises(PermanentFailure):
        ours.adopt("default", octets)
    (tmp_path / "opendkim.pem").write_bytes(octets)
    with pytest.raises(PermanentFailure, match=r"opendkim\.pem"):
        ours.ensure()


@pytest.mark.parametrize("selector", ["../evil", "", "a b", "a..b", "x" * 65, "-a", ".a", "a/b"])
def test_odd_selectors_are_refused(tmp_path: Path, selector: str) -> None:
    ours = folder(tmp_path / "dkim")
    assert ours.published(selector) is None
    with pytest.raises(PermanentFailure):
        ours.adopt(selector, pem(rsa_key()))
    (tmp_path / "dkim" / "selector").write_text(selector + "\n")
    with pytest.raises(PermanentFailure):
        ours.ensure()


def test_a_second_key_is_signed_with_after_it_was_activated(tmp_path: Path) -> None:
    directory = tmp_path / "dkim"
    ours = folder(directory, ed25519=True)
    with pytest.raises(PermanentFailure):
        ours.activate()
    made = ours.rotate(DAY)
    assert [key.selector for key in made] == [SECOND, f"{SECOND}-ed"]
    assert [key.record() for key in ours.rotate(DAY)] == [key.record() for key in made]
    assert ours.ensure()[0].selector == "opendkim"
    assert ours.next_selector == SECOND
    assert ours.activate()[0].selector == SECOND
    assert (ours.selector, ours.next_selector) == (SECOND, None)
    restarted = KeyFolder(directory, "opendkim", Algorithms())
    assert restarted.ensure()[0].selector == SECOND
    assert restarted.published("opendkim") is not None  # queued mail still points there
    assert restarted.rotate(DAY)[0].selector == f"opendkim-{DAY}-2"


def test_a_key_has_an_age_and_old_ones_are_known(tmp_path: Path) -> None:
    directory = tmp_path / "dkim"
    assert KeyFolder(directory, "opendkim", Algorithms()).in_use_since_s() is None
    ours = folder(directory, ed25519=True)
    ours.ensure()
    os.utime(directory / "opendkim.pem", (1000, 1000))
    assert ours.in_use_since_s() == 1000
    assert ours.retired() == ()
    ours.rotate(DAY)
    assert (ours.in_use_since_s(), ours.retired()) == (1000, ())
    ours.activate()
    since_s = ours.in_use_since_s()
    assert since_s is not None
    assert since_s > 1000
    assert ours.retired() == ("opendkim", "opendkim-ed")


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "dkim").write_text("a file")
    with pytest.raises(PermanentFailure, match="dkim"):
        KeyFolder(tmp_path / "dkim", "opendkim", Algorithms()).ensure()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rsa2048", Algorithms(2048, False)),
        ("RSA4096, ed25519", Algorithms(4096, True)),
        ("ed25519 rsa3072", Algorithms(3072, True)),
    ],
)
def test_algorithms(text: str, expected: Algorithms) -> None:
    assert parse_algorithms(text) == expected


@pytest.mark.parametrize("text", ["", "ed25519", "rsa1024", "rsa2048 rsa4096", "rsa2048 dsa", "x"])
def test_algorithms_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="one of"):
        parse_algorithms(text)
