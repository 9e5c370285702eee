"""Session key packets of OpenPGP messages: what their bodies must look like (O-10 to O-16)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

CIPHERS: Final = frozenset((1, 2, 3, 4, 7, 8, 9, 10, 11, 12, 13))
"""Symmetric algorithms (RFC 9580 §9.3)."""

_NOT_FOR_ENCRYPTION: Final = frozenset((0, 3, 17, 19, 22, 27, 28))
_S2K_OCTETS: Final[Mapping[int, int]] = {0: 2, 1: 10, 3: 11, 4: 20}
_AEAD_NONCE_OCTETS: Final[Mapping[int, int]] = {1: 16, 2: 15, 3: 12}
_AEAD_TAG_OCTETS: Final = 16
_MIN_RSA_BITS: Final = 512
_MIN_UNKNOWN_OCTETS: Final = 32


def judge_pkesk(body: bytes) -> tuple[str | None, bytes]:
    """Check a public key encrypted session key; return its algorithm data too.

    Source:  RFC 9580 §5.1.
    """
    if body[0] == 3:
        rule, start = "O-10", 9  # eight octets of key id, all zero for a hidden recipient
    elif body[0] == 6:
        rule, start = "O-11", _end_of_fingerprint(body)
    else:
        return "O-10", b""
    if not 0 < start < len(body):
        return rule, b""
    algorithm, data = body[start], body[start + 1 :]
    if algorithm in _NOT_FOR_ENCRYPTION:
        return "O-12", b""
    fits = _DATA_SHAPES.get(algorithm, _is_unknown)
    return (None if fits(data) else "O-13"), data


def _end_of_fingerprint(body: bytes) -> int:
    """Return the offset after version, key version and fingerprint of a v6 packet; 0 if bad."""
    if len(body) < 3:
        return 0
    length = body[1]
    if length == 0 or (length, body[2]) in ((21, 4), (33, 6), (33, 5)):
        return 2 + length
    return 0


def _after_mpi(data: bytes, at: int, min_bits: int = 1) -> int:
    """Return the offset after the multiprecision integer at `at`, 0 if it is none.

    Source:  RFC 9580 §3.2: the length counts from the highest bit that is set.
    """
    bits = int.from_bytes(data[at : at + 2], "big")
    after = at + 2 + (bits + 7) // 8
    if bits < min_bits or after > len(data):
        return 0
    is_exact = data[at + 2].bit_length() == (bits - 1) % 8 + 1
    return after if is_exact else 0


def _is_rsa(data: bytes) -> bool:
    return _after_mpi(data, 0, _MIN_RSA_BITS) == len(data) > 0


def _is_elgamal(data: bytes) -> bool:
    middle = _after_mpi(data, 0)
    return middle > 0 and _after_mpi(data, middle) == len(data)


def _is_ecdh(data: bytes) -> bool:
    at = _after_mpi(data, 0)
    return 0 < at < len(data) and at + 1 + data[at] == len(data)


def _is_x25519(data: bytes) -> bool:
    return len(data) > 32 and 33 + data[32] == len(data)


def _is_x448(data: bytes) -> bool:
    return len(data) > 56 and 57 + data[56] == len(data)


def _is_unknown(data: bytes) -> bool:
    return len(data) >= _MIN_UNKNOWN_OCTETS


_DATA_SHAPES: Final[Mapping[int, Callable[[bytes], bool]]] = {
    1: _is_rsa,
    2: _is_rsa,
    16: _is_elgamal,
    18: _is_ecdh,
    25: _is_x25519,
    26: _is_x448,
}


def judge_skesk(body: bytes) -> tuple[str | None, bytes]:
    """Check a symmetric key encrypted session key; return salt and encrypted octets too.

    Source:  RFC 9580 §5.3.
    """
    if body[0] == 4:
        return _judge_skesk4(body)
    return _judge_skesk6(body) if body[0] == 6 else ("O-15", b"")


def _judge_skesk4(body: bytes) -> tuple[str | None, bytes]:
    if len(body) < 3 or body[1] not in CIPHERS:
        return "O-14", b""
    s2k = _S2K_OCTETS.get(body[2])
    if s2k is None or len(body) < 2 + s2k:
        return "O-16", b""
    key = len(body) - 2 - s2k
    if key and not 17 <= key <= 33:
        return "O-14", b""
    return None, body[4:]


def _judge_skesk6(body: bytes) -> tuple[str | None, bytes]:
    if len(body) < 6 or body[2] not in CIPHERS or body[3] not in _AEAD_NONCE_OCTETS:
        return "O-15", b""
    s2k = body[4]
    if _S2K_OCTETS.get(body[5]) != s2k:
        return "O-16", b""
    before_key = 5 + s2k + _AEAD_NONCE_OCTETS[body[3]]
    if body[1] != before_key - 2:  # the count runs from the cipher to the nonce
        return "O-15", b""
    if len(body) - before_key - _AEAD_TAG_OCTETS not in (16, 24, 32):
        return "O-15", b""
    return None, body[7:]
