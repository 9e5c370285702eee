"""Strength of stored password hashes, told from their form."""

from __future__ import annotations

import re
from typing import Final

WEAK_SHA_CRYPT_ROUNDS: Final = 5000

_SHA_CRYPT: Final = re.compile(r"(?:\{[A-Z0-9-]+\})?\$[56]\$(?:rounds=(\d{1,9})\$)?")


def needs_upgrade(stored: str) -> bool:
    """Say whether a hash is weaker than the target scheme and should be replaced at login.

    Only one round of SHA-256, and sha-crypt below its default of 5000 rounds, are. Everything
    else stays as imported: a login never makes a hash weaker.
    Source:  spec policy 2.8.
    """
    if stored.startswith("sha256:"):
        return True
    match = _SHA_CRYPT.match(stored)
    return match is not None and int(match[1] or WEAK_SHA_CRYPT_ROUNDS) < WEAK_SHA_CRYPT_ROUNDS
