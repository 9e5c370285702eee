from __future__ import annotations

import pytest

from chatmail.domain.policy.stored_secret import needs_upgrade


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ("sha256:c2FsdA==:aGFzaA==", True),
        ("$6$rounds=1000$salt$hash", True),
        ("{SHA512-CRYPT}$6$rounds=4999$salt$hash", True),
        ("$5$rounds=1000$salt$hash", True),
        ("$6$salt$hash", False),
        ("$6$rounds=5000$salt$hash", False),
        ("{SHA256-CRYPT}$5$salt$hash", False),
        ("bcrypt:$2a$10$abc", False),
        ("$2b$12$abc", False),
        ("argon2:3:65536:4:c2FsdA==:aGFzaA==", False),
        ("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA", False),
        ("$scrypt$ln=14,r=8,p=1$c2FsdA$aGFzaA", False),
    ],
)
def test_only_weaker_forms_are_upgraded(stored: str, expected: bool) -> None:
    assert needs_upgrade(stored) is expected
