from __future__ import annotations

import base64
import importlib
from types import SimpleNamespace

import argon2.low_level
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.adapters.system import password_schemes
from chatmail.adapters.system.password_schemes import burn, hash_password, verify

PASSWORD = b"correct horse"
SALT = b"relay-salt-00001"
SHA512 = (
    "$6$relaysalt$goXm07dTnKe0Erzi6PBIN6OtY96gW/pLtM3rhU8zr7wmuDVfQcVsBl8g"
    "kiQFU4J2LN1eBAM4PaEs141f5tK37/"
)
SHA256 = "$5$relaysalt$qf5XTxdEQNEG7vPmtBtvcNEUvz/Fnzi4Wh1KMf2fdr7"
ARGON2ID = hash_password(PASSWORD, SALT)


def maddy_argon2(time_cost: int, memory_kib: int, threads: int, length: int) -> str:
    digest = argon2.low_level.hash_secret_raw(
        PASSWORD, SALT, time_cost, memory_kib, threads, length, argon2.low_level.Type.ID
    )
    salt, text = (base64.b64encode(part).decode() for part in (SALT, digest))
    return f"argon2:{time_cost}:{memory_kib}:{threads}:{salt}:{text}"


FORMS = {
    "sha256": "sha256:cmVsYXktc2FsdC0wMDAx:GHtCKcv/6+aDkK2PNLaCBjf4vJ7TsSVyG7ImLn4kzYY=",
    "sha256-crypt": SHA256,
    "sha512-crypt": SHA512,
    "dovecot-sha256": "{SHA256-CRYPT}" + SHA256,
    "dovecot-sha512": "{SHA512-CRYPT}" + SHA512,
    "dovecot-crypt": "{CRYPT}" + SHA512,
    "scrypt": "$scrypt$ln=14,r=8,p=1$cmVsYXktc2FsdC0wMDAx$"
    "1uN4Uuzf/wNfaj5S/80u/Bi2Cq+K/rDnauQvDNrZ9zg=",
    "argon2id": ARGON2ID,
    "dovecot-argon2id": "{ARGON2ID}" + ARGON2ID,
    "maddy-argon2-time-3-length-64": maddy_argon2(3, 1024, 4, 64),
    "maddy-argon2-time-1-length-32": maddy_argon2(1, 1024, 1, 32),
}


@pytest.mark.parametrize("stored", FORMS.values(), ids=FORMS.keys())
def test_every_form_verifies_and_refuses(stored: str) -> None:
    assert verify(stored, PASSWORD)
    assert not verify(stored, b"correct horsf")
    assert not verify(stored, b"")


def test_new_hashes_are_argon2id_19_mib_2_1() -> None:
    assert ARGON2ID.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


@pytest.mark.parametrize("password", [b'a"b\\c d{}%', "пароль и ёж".encode(), b"x" * 256])
def test_passwords_are_octets(password: bytes) -> None:
    stored = hash_password(password, SALT)
    assert verify(stored, password)
    assert not verify(stored, password.strip() + b" ")


BROKEN = [
    "",
    "plain",
    "{PLAIN}correct horse",
    "{SSHA}abc",
    "sha256:abc",
    "sha256:!!!!:AAAA",
    "sha256:AAAA:AAAA:AAAA",
    "argon2:1:2:3:4",
    "argon2:x:1024:1:AAAA:AAAA",
    "argon2:1:1024:1:AAAA:",
    "argon2:1:1:1:AAAAAAAAAAAAAAAAAAAAAA==:AAAA",
    "argon2:1:99999999:1:AAAAAAAAAAAAAAAAAAAAAA==:AAAAAAAAAAA=",
    "argon2:9999:1024:1:AAAAAAAAAAAAAAAAAAAAAA==:AAAAAAAAAAA=",
    "$argon2id$v=19$m=99999999,t=2,p=1$AAAA$AAAA",
    "$argon2id$v=19$m=19456,t=2,p=1$",
    "$argon2id$nonsense",
    "$argon2i$v=19$m=19456,t=2,p=1$AAAA$AAAA",
    "$scrypt$ln=30,r=8,p=1$AAAA$AAAA",
    "$scrypt$ln=20,r=32,p=16$AAAA$AAAA",
    "$scrypt$ln=0,r=8,p=1$AAAA$AAAA",
    "$scrypt$ln=14$AAAA$AAAA",
    "$scrypt$ln=14,r=8,p=1$AAAA$!!!!",
    "$2b$nonsense",
    "bcrypt:nonsense",
    "$1$md5$abc",
    "sha256:" + "A" * 4000 + ":AAAA",
]


@pytest.mark.parametrize("stored", BROKEN)
def test_malformed_or_absurd_forms_never_match(stored: str) -> None:
    assert not verify(stored, PASSWORD)


def test_endless_password_is_refused_before_work() -> None:
    assert not verify(FORMS["sha256"], b"x" * 1025)
    burn(b"x" * 100_000)


@given(
    st.sampled_from(["sha256:", "argon2:", "$argon2id$", "$scrypt$", "{CRYPT}", "$2", "$6$"]),
    st.text(max_size=40),
)
def test_any_stored_text_has_an_answer(start: str, rest: str) -> None:
    assert verify(start + rest, PASSWORD) is False


def test_bcrypt_without_its_library_never_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(password_schemes.importlib, "import_module", absent)
    assert not verify("bcrypt:$2b$12$abc", PASSWORD)


@pytest.mark.parametrize(
    "stored", ["bcrypt:$2a$10$abc", "$2b$10$abc", "{BLF-CRYPT}$2y$10$abc", "{CRYPT}$2b$10$abc"]
)
def test_bcrypt_forms_reach_the_library_cut_at_72_octets(
    stored: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bytes, bytes]] = []

    def checkpw(password: bytes, hashed: bytes) -> bool:
        seen.append((password, hashed))
        return True

    monkeypatch.setattr(importlib, "import_module", lambda _name: SimpleNamespace(checkpw=checkpw))
    assert verify(stored, b"p" * 100)
    assert seen == [(b"p" * 72, stored[stored.index("$2") :].encode())]


def test_malformed_bcrypt_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def checkpw(password: bytes, hashed: bytes) -> bool:
        raise ValueError("Invalid salt")

    monkeypatch.setattr(importlib, "import_module", lambda _name: SimpleNamespace(checkpw=checkpw))
    assert not verify("$2b$10$abc", PASSWORD)
