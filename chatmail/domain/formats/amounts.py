"""Sizes, durations and switches as operators write them: one grammar for file, settings, commands.

Every reader returns the value or raises ValueError with a sentence for the operator.
Source:  spec admin 1.6.
"""

from __future__ import annotations

import json
import re
from typing import Final

_SIZE_TOKEN: Final = re.compile(r"(\d{1,15})([KMGB])\Z", re.IGNORECASE | re.ASCII)
_SIZE_UNITS: Final = {"B": 1, "K": 1024, "M": 1024**2, "G": 1024**3}
_DURATION_TOKEN: Final = re.compile(r"(\d{1,9})([smhdw])", re.ASCII)
_DURATION_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SHOWN_DURATIONS: Final = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
_TRUE: Final = frozenset({"1", "true", "yes", "y", "on", "enable", "enabled", "t"})
_FALSE: Final = frozenset({"0", "false", "no", "n", "off", "disable", "disabled", "f", ""})
_DIGITS: Final = re.compile(r"\d{1,15}\Z", re.ASCII)


def read_boolean(text: str) -> bool:
    """Read a switch: `true yes y on enable enabled t 1`, their opposites, and empty for false."""
    word = text.strip().lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ValueError("is not true or false")


def read_size(text: str, *, bare: bool = True) -> int:
    """Read octets: `30M`, `1G 512M` (tokens add up).

    Args:  bare: whether a number without a unit is taken as octets; 0 always is.
    """
    text = text.strip()
    if _DIGITS.match(text) and (bare or int(text) == 0):
        return int(text)
    if not text:
        raise ValueError("is empty (use e.g. 30M)")
    lone_unit = re.fullmatch(r"\d+(\s+[A-Za-z]+)", text)
    if lone_unit:
        raise ValueError(f"unknown unit {_quoted(lone_unit[1])} (use e.g. 30M)")
    return sum(map(_size_token, text.split()))


def _size_token(token: str) -> int:
    match = _SIZE_TOKEN.match(token)
    if match:
        return int(match[1]) * _SIZE_UNITS[match[2].upper()]
    unit = token.lstrip("0123456789")
    if unit == token or not unit:
        raise ValueError(f"{_quoted(token)} is not a size (use e.g. 30M)")
    raise ValueError(f"unknown unit {_quoted(unit)} (use e.g. 30M)")


def show_size(octets: int) -> str:
    """Return a size in the largest unit that divides it evenly: `100M`, `1536K`, `0`."""
    for unit in ("G", "M", "K"):
        if octets and octets % _SIZE_UNITS[unit] == 0:
            return f"{octets // _SIZE_UNITS[unit]}{unit}"
    return f"{octets}B" if octets else "0"


def read_duration(text: str) -> int:
    """Read seconds: `90d`, `1d12h`, or a bare number."""
    text = text.strip().replace(" ", "")
    if _DIGITS.match(text):
        return int(text)
    tokens = _DURATION_TOKEN.findall(text)
    if not tokens or "".join(count + unit for count, unit in tokens) != text:
        raise ValueError("is not a duration (use e.g. 20d or 1h30m)")
    return sum(int(count) * _DURATION_UNITS[unit] for count, unit in tokens)


def show_duration(seconds: float) -> str:
    """Return a duration that `read_duration` reads: `20d`, `1d12h`, `0s`; fractions are dropped."""
    left, shown = int(seconds), ""
    for unit, length in _SHOWN_DURATIONS:
        count, left = divmod(left, length)
        shown += f"{count}{unit}" if count else ""
    return shown or "0s"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
