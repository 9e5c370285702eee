"""Every stored form of a password hash that this server reads, and the one it writes.

Plain functions that take long: they run in a thread. A form that is malformed, unknown or
absurdly expensive never matches.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import importlib
import re
from collections.abc import Callable
from typing import Any, Final

import argon2.exceptions
import argon2.low_level

from chatmail.adapters.system import sha_crypt

MEMORY_KIB: Final = 19456
TIME_COST: Final = 2
PARALLELISM: Final = 1
SALT_OCTETS: Final = 16
MAX_PASSWORD_OCTETS: Final = 1024
"""New passwords end at 256 octets; imported ones may be longer, but not without end."""

_MAX_MEMORY_KIB: Final = 1024 * 1024
_MAX_TIME_COST: Final = 64
_MAX_LANES: Final = 64

_PREFIX: Final = re.compile(r"\{([A-Z0-9-]+)\}")
_PREFIXES: Final = frozenset({"SHA512-CRYPT", "SHA256-CRYPT", "BLF-CRYPT", "ARGON2ID", "CRYPT"})
_SCRYPT: Final = re.compile(r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([^$]+)\$([^$]+)\Z")
_ARGON2ID: Final = re.compile(r"\$argon2id\$v=19\$m=(\d{1,8}),t=(\d{1,4}),p=(\d{1,3})\$")

_DUMMY_SALT: Final = bytes(SALT_OCTETS)


def hash_password(password: bytes, salt: bytes) -> str:
    """Return the target form, `$argon2id$v=19$m=19456,t=2,p=1$…` (spec policy 2.8).

    Cost:  about 27 ms and 19 MiB, without the interpreter lock.
    """
    return argon2.low_level.hash_secret(
        password,
        salt,
        time_cost=TIME_COST,
        memory_cost=MEMORY_KIB,
        parallelism=PARALLELISM,
        hash_len=32,
        type=argon2.low_level.Type.ID,
    ).decode("ascii")


def burn(password: bytes) -> None:
    """Do the work of one verification for nothing."""
    hash_password(password[:MAX_PASSWORD_OCTETS], _DUMMY_SALT)


def verify(stored: str, password: bytes) -> bool:
    """Say whether `password` belongs to `stored`, whatever its known form."""
    if len(password) > MAX_PASSWORD_OCTETS:
        return False
    prefix = _PREFIX.match(stored)
    if prefix is not None:
        if prefix[1] not in _PREFIXES:
            return False
        stored = stored[prefix.end() :]
    for start, check in _CHECKS.items():
        if stored.startswith(start):
            return check(stored, password)
    return False


def _verify_argon2id(stored: str, password: bytes) -> bool:
    match = _ARGON2ID.match(stored)
    if match is None or not _is_affordable(*map(int, match.groups())):
        return False
    try:
        return argon2.low_level.verify_secret(
            stored.encode("ascii", "replace"), password, argon2.low_level.Type.ID
        )
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


def _verify_maddy_argon2(stored: str, password: bytes) -> bool:
    """Check `argon2:<time>:<KiB>:<threads>:<salt>:<hash>`; time and hash length count."""
    parts = stored.split(":")
    if len(parts) != 6 or not all(part.isdecimal() and len(part) < 9 for part in parts[1:4]):
        return False
    time_cost, memory_kib, lanes = map(int, parts[1:4])
    salt, expected = _base64(parts[4]), _base64(parts[5])
    if salt is None or not expected or not _is_affordable(memory_kib, time_cost, lanes):
        return False
    try:
        actual = argon2.low_level.hash_secret_raw(
            password,
            salt,
            time_cost=time_cost,
            memory_cost=memory_kib,
            parallelism=lanes,
            hash_len=len(expected),
            type=argon2.low_level.Type.ID,
        )
    except argon2.exceptions.HashingError:
        return False
    return hmac.compare_digest(actual, expected)


def _is_affordable(memory_kib: int, time_cost: int, lanes: int) -> bool:
    return memory_kib <= _MAX_MEMORY_KIB and time_cost <= _MAX_TIME_COST and lanes <= _MAX_LANES


def _verify_sha256(stored: str, password: bytes) -> bool:
    parts = stored.split(":")
    if len(parts) != 3:
        return False
    salt, expected = _base64(parts[1]), _base64(parts[2])
    if salt is None or expected is None:
        return False
    return hmac.compare_digest(hashlib.sha256(salt + password).digest(), expected)


def _verify_bcrypt(stored: str, password: bytes) -> bool:
    check = _bcrypt_check()
    if check is None:
        return False
    # bcrypt reads 72 octets; its library refuses longer input instead of cutting it.
    try:
        return bool(check(password[:72], stored.removeprefix("bcrypt:").encode("ascii", "replace")))
    except ValueError:
        return False


def _bcrypt_check() -> Callable[[bytes, bytes], Any] | None:
    """Return the library's check; None: it is not installed, so these hashes never match."""
    try:
        module = importlib.import_module("bcrypt")
    except ImportError:
        return None
    check: Callable[[bytes, bytes], Any] = module.checkpw
    return check


def _verify_scrypt(stored: str, password: bytes) -> bool:
    match = _SCRYPT.match(stored)
    if match is None:
        return False
    ln, r, p = int(match[1]), int(match[2]), int(match[3])
    salt, expected = _base64(match[4]), _base64(match[5])
    if salt is None or not expected or not (1 <= ln <= 20 and 1 <= r <= 32 and 1 <= p <= 16):
        return False
    room = 128 * r * (2**ln + p + 2) + 1024 * 1024
    if room > _MAX_MEMORY_KIB * 1024:
        return False
    actual = hashlib.scrypt(
        password, salt=salt, n=2**ln, r=r, p=p, maxmem=room, dklen=len(expected)
    )
    return hmac.compare_digest(actual, expected)


def _base64(text: str) -> bytes | None:
    """Decode standard base64, with or without padding; None: it is none, or longer than any."""
    if len(text) > 1024:
        return None
    try:
        return base64.b64decode(
            text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True
        )
    except (binascii.Error, ValueError):
        return None


_CHECKS: Final[dict[str, Callable[[str, bytes], bool]]] = {
    "$argon2id$": _verify_argon2id,
    "argon2:": _verify_maddy_argon2,
    "sha256:": _verify_sha256,
    "bcrypt:": _verify_bcrypt,
    "$2": _verify_bcrypt,
    "$5$": sha_crypt.verify,
    "$6$": sha_crypt.verify,
    "$scrypt$": _verify_scrypt,
}
