"""The SHA-256 and SHA-512 forms of crypt(3), for hashes imported from other servers.

Written after the public description of the scheme; the standard library's module for it is
gone in Python 3.13. Slow by purpose: call it in a thread.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from typing import Any, Final

DEFAULT_ROUNDS: Final = 5000
MIN_ROUNDS: Final = 1000
MAX_ROUNDS: Final = 1_000_000
"""The scheme allows 999,999,999: hours for one login. Nobody stores that."""

_STORED: Final = re.compile(r"\$([56])\$(?:rounds=(\d{1,9})\$)?([^$:\n]{0,16})\$([./0-9A-Za-z]+)\Z")
_ALPHABET: Final = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

# Which octets of the digest share one group of 24 bits; the rest ends the text.
_ORDER: Final = {
    "5": [tuple((21 * group + third) % 30 for third in (0, 10, 20)) for group in range(10)],
    "6": [tuple((22 * group + third) % 63 for third in (0, 21, 42)) for group in range(21)],
}
_TAIL: Final = {"5": ((31, 30), 3), "6": ((63,), 2)}

_Hash = Callable[..., Any]


def verify(stored: str, password: bytes) -> bool:
    """Say whether `password` belongs to a `$5$` or `$6$` text. False for malformed ones.

    Cost:  about 1.5 µs per round, holding the interpreter lock.
    """
    match = _STORED.match(stored)
    if match is None:
        return False
    method, rounds_text, salt, expected = match.groups()
    rounds = max(MIN_ROUNDS, int(rounds_text)) if rounds_text else DEFAULT_ROUNDS
    if rounds > MAX_ROUNDS:
        return False
    actual = _digest_text(method, password, salt.encode(), rounds)
    return hmac.compare_digest(actual.encode(), expected.encode())


def _digest_text(method: str, password: bytes, salt: bytes, rounds: int) -> str:
    new: _Hash = hashlib.sha256 if method == "5" else hashlib.sha512
    digest = _stretch(new, _mix(new, password, salt), password, salt, rounds)
    text = "".join(
        _base64((digest[a] << 16) | (digest[b] << 8) | digest[c], 4) for a, b, c in _ORDER[method]
    )
    octets, length = _TAIL[method]
    return text + _base64(int.from_bytes(bytes(digest[i] for i in octets), "big"), length)


def _mix(new: _Hash, password: bytes, salt: bytes) -> bytes:
    """Steps 1 to 12 of the description: the digest the rounds start from."""
    inner = new(password + salt + password).digest()
    outer = new(password + salt + _fill(inner, len(password)))
    length = len(password)
    while length:
        outer.update(inner if length & 1 else password)
        length >>= 1
    return bytes(outer.digest())


def _stretch(new: _Hash, digest: bytes, password: bytes, salt: bytes, rounds: int) -> bytes:
    """Steps 13 to 21."""
    p = _fill(new(password * len(password)).digest(), len(password))
    s = _fill(new(salt * (16 + digest[0])).digest(), len(salt))
    for number in range(rounds):
        odd = number & 1
        third = s if number % 3 else b""
        seventh = p if number % 7 else b""
        if odd:
            digest = new(p + third + seventh + digest).digest()
        else:
            digest = new(digest + third + seventh + p).digest()
    return digest


def _fill(digest: bytes, length: int) -> bytes:
    return (digest * (length // len(digest) + 1))[:length]


def _base64(number: int, length: int) -> str:
    """Encode 6 bits a character, the low ones first."""
    return "".join(_ALPHABET[number >> shift & 63] for shift in range(0, 6 * length, 6))
