"""Mailbox names on the wire, and LIST patterns.

Inside, a name is text with `/` between its levels and `INBOX` in capitals. One name has exactly
one wire form, so two spellings never mean one mailbox: modified UTF-7 until the client enables
UTF-8, UTF-8 from there on.
Source:  RFC 3501 §5.1, §5.1.3, §6.3.8; RFC 6855 §3; spec mail 4.4 (CREATE, LIST).
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from chatmail.domain.model.mailbox import DELIMITER, INBOX

_SHIFTED: Final = re.compile(r"&([A-Za-z0-9+,]*)-")
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def decode_name(raw: bytes) -> str | None:
    """Return the text of a name in modified UTF-7, INBOX in capitals.

    Returns:  None unless `raw` is exactly what `encode_name` makes of the text: no 8-bit octets,
        no superfluous shifts, no broken base64.
    """
    if b"&" not in raw and raw.isascii():
        text = raw.decode("ascii")
        return canonical_name(text) if _UNPRINTABLE.search(text) is None else None
    try:
        text = _SHIFTED.sub(_decode_shift, raw.decode("ascii"))
        return text if encode_name(text) == raw else None
    except ValueError:  # binascii.Error and UnicodeError are ValueErrors
        return None


def decode_utf8_name(raw: bytes) -> str | None:
    """Return the text of a name in UTF-8, INBOX in capitals; None: it is not UTF-8.

    Source:  RFC 6855 §3, RFC 9051 §5.1: `&` is nothing special there.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if _CONTROL.search(text) else canonical_name(text)


def _decode_shift(shift: re.Match[str]) -> str:
    encoded = shift[1].replace(",", "/")
    if not encoded:
        return "&"
    padded = encoded + "=" * (-len(encoded) % 4)
    return base64.b64decode(padded, validate=True).decode("utf-16-be")


def encode_name(name: str) -> bytes:
    """Return a name in modified UTF-7.

    Raises:  UnicodeEncodeError: `name` holds a lone surrogate, which no decoded name does.
    """
    escaped = name.replace("&", "&-")
    return _UNPRINTABLE.sub(_encode_shift, escaped).encode("ascii")


def _encode_shift(run: re.Match[str]) -> str:
    encoded = binascii.b2a_base64(run[0].encode("utf-16-be"), newline=False)
    return "&" + encoded.rstrip(b"=").decode("ascii").replace("/", ",") + "-"


def canonical_name(name: str) -> str:
    """Return `INBOX` for any spelling of it, other names as they are (RFC 3501 §5.1)."""
    return INBOX if name.upper() == INBOX else name


def matches(pattern: str, name: str) -> bool:
    """Say whether a LIST pattern matches a name: `*` anything, `%` anything but the delimiter.

    The pattern steps through a bit set of the positions reached in the name, so no pattern can
    make it backtrack (`*a*a*a…`).

    Args:  pattern: reference and mailbox argument joined. Case is ignored for INBOX alone.
    Cost:  O(pattern) integer operations of len(name) bits.
    """
    if name == INBOX:
        pattern = pattern.upper()
    pattern = _collapsed(pattern)
    if len(pattern) - pattern.count("*") - pattern.count("%") > len(name):
        return False
    everywhere = (1 << (len(name) + 1)) - 1
    reached = 1
    for char in pattern:
        if char == "*":
            reached = everywhere & -(reached & -reached)
        elif char == "%":
            reached = _spread(reached, name)
        else:
            reached = (reached & _positions(char, name)) << 1
        if not reached:
            return False
    return bool(reached >> len(name))


def _collapsed(pattern: str) -> str:
    """Drop wildcards that add nothing; what is left has at most one between two characters."""
    return re.sub(r"[*%]{2,}", lambda run: "*" if "*" in run[0] else "%", pattern)


def _positions(char: str, name: str) -> int:
    found = 0
    at = name.find(char)
    while at >= 0:
        found |= 1 << at
        at = name.find(char, at + 1)
    return found


def _spread(reached: int, name: str) -> int:
    """Add every position that lies before the next delimiter after a reached one."""
    passable = ((1 << len(name)) - 1) ^ _positions(DELIMITER, name)
    # The sum carries each reached bit up to the end of its run of passable positions.
    inside = reached & passable
    return reached | ((passable + inside) ^ passable)
