"""Modified UTF-7 against a decoder that works bit by bit; LIST patterns against `re`."""

from __future__ import annotations

import re

from chatmail.domain.wire.imap.mailbox_name import (
    canonical_name,
    decode_name,
    encode_name,
    matches,
)

WORDS = (b"&", b"-", b"&-", b"&ZeVnLIqe-", b"&2D3eAA-", b"&AOQ-", b"/", b"INBOX", b"*", b"%", b",")

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,"
_MAX_MATCHED = 12


def check(data: bytes) -> None:
    """A name has one wire form: what decodes encodes to the same octets, and back."""
    name = decode_name(data)
    assert name == _reference(data), data
    if name is not None:
        assert canonical_name(name) == name
        assert decode_name(encode_name(name)) == name
        if name != "INBOX":
            assert encode_name(name) == data
    _check_text(data)
    _check_pattern(data)


def _reference(raw: bytes) -> str | None:
    """Decode as RFC 3501 §5.1.3 reads, one character at a time."""
    text, at = "", 0
    previous_shifted = False
    while at < len(raw):
        char = chr(raw[at])
        if not " " <= char <= "~":
            return None
        if char != "&":
            text, at, previous_shifted = text + char, at + 1, False
            continue
        end = raw.find(b"-", at)
        if end < 0:
            return None
        digits = raw[at + 1 : end].decode("latin-1")
        if digits:
            run = _shifted(digits)
            # Two runs in a row are one run written in a superfluous way.
            if run is None or previous_shifted:
                return None
            text += run
        else:
            text += "&"
        previous_shifted = bool(digits)
        at = end + 1
    return "INBOX" if text.upper() == "INBOX" else text


def _shifted(digits: str) -> str | None:
    if any(digit not in _ALPHABET for digit in digits):
        return None
    bits = "".join(f"{_ALPHABET.index(digit):06b}" for digit in digits)
    whole = len(bits) // 16 * 16
    if len(bits) - whole >= 6 or "1" in bits[whole:]:
        return None
    units = bytes(int(bits[at : at + 8], 2) for at in range(0, whole, 8))
    try:
        text = units.decode("utf-16-be")
    except UnicodeDecodeError:
        return None
    return None if any(" " <= char <= "~" for char in text) else text


def _check_text(data: bytes) -> None:
    text = canonical_name(data.decode("utf-8", "replace"))
    raw = encode_name(text)
    assert raw.isascii()
    assert all(0x20 <= octet <= 0x7E for octet in raw)
    assert decode_name(raw) == text


def _check_pattern(data: bytes) -> None:
    pattern, _, name = data.decode("latin-1").partition("\n")
    pattern, name = pattern[:_MAX_MATCHED], name[:_MAX_MATCHED]
    if name == "INBOX":
        pattern = pattern.upper()
    wanted = "".join(
        {"*": "[\\s\\S]*", "%": "[^/]*"}.get(char, re.escape(char)) for char in pattern
    )
    assert matches(pattern, name) == (re.fullmatch(wanted, name) is not None)


VECTORS = (
    b"INBOX",
    b"inbox",
    b"Sent/2026",
    b"R&AOQ-ksm&APY-rg&AOU-s",
    b"&ZeVnLIqe-/&U,BTFw-",
    b"A&-B",
    b"&2D3eAA-",
    b"&2D0-",
    b"&Jjo!",
    b"&AGE-",
    b"&AOQ-&APY-",
    b"*\nINBOX",
    b"%/%\na/b",
    b"*a*a%\naaa/a",
)
