"""Texts of settings: read from the store, accepted from an operator, shown.

Every reader raises ValueError with a sentence for the operator. Source:  spec admin 1.6, 1.7.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from chatmail.domain.formats.amounts import (
    read_boolean,
    read_duration,
    read_size,
    show_duration,
    show_size,
)
from chatmail.domain.model.settings import SettingValue
from chatmail.domain.policy.settings_table import Kind, SettingRule

MAX_TEXT_CHARACTERS: Final = 253
MAX_LIST_CHARACTERS: Final = 4096
LONGEST_S: Final = 100 * 366 * 86400

_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f]")
_TEXT: Final = re.compile(r"[A-Za-z0-9.:/@_\[\]-]{1,253}\Z")
_SECRET: Final = re.compile(r"""[!#-&(-_a-~]{1,253}\Z""")
_ORIGIN: Final = re.compile(r"https?://[^/\s?#@,]+\Z")


def read_stored(rule: SettingRule, text: str) -> SettingValue | None:
    """Return the value of a stored text; None: it counts as unset.

    More is forgiven than at writing: older programs wrote here too.
    Raises:  ValueError: it means nothing; the text says why.
    """
    if rule.kind is Kind.PORT and text.strip() in ("", "0"):
        return None
    return _read(rule, text, is_bare_ok=True)


def accept(rule: SettingRule, text: str) -> str:
    """Return the text to be stored for what an operator wrote.

    Raises:  ValueError: with a sentence for the operator.
    """
    limit = MAX_LIST_CHARACTERS if rule.kind is Kind.ORIGINS else MAX_TEXT_CHARACTERS
    if len(text) > limit:
        raise ValueError(f"is longer than {limit} characters")
    if rule.kind is not Kind.ORIGINS and _FORBIDDEN.search(text):
        raise ValueError("value contains invalid characters")
    if not text.strip():
        raise ValueError("is empty (reset it to go back to the file's value)")
    return show(rule, _read(rule, text, is_bare_ok=rule.kind is not Kind.SIZE))


def show(rule: SettingRule, value: SettingValue) -> str:
    """Return the text of a value, as it is stored and shown."""
    match rule.kind:
        case Kind.BOOLEAN:
            return "true" if value else "false"
        case Kind.SIZE if isinstance(value, int):
            return show_size(value)
        case Kind.DURATION if isinstance(value, int | float):
            return show_duration(value)
        case Kind.NUMBER if isinstance(value, int | float):
            return f"{value:.6f}".rstrip("0").rstrip(".")
    return "\n".join(value) if isinstance(value, tuple) else str(value)


def _read(rule: SettingRule, text: str, *, is_bare_ok: bool) -> SettingValue:
    match rule.kind:
        case Kind.BOOLEAN:
            return read_boolean(text)
        case Kind.SIZE | Kind.OCTETS:
            return int(_ranged(rule, read_size(text, bare=is_bare_ok)))
        case Kind.DURATION:
            is_off = text.strip().lower() in ("off", "-")
            seconds = float(_ranged(rule, 0 if is_off else read_duration(text)))
            if seconds > LONGEST_S:
                raise ValueError("is more than a hundred years")
            return seconds
        case Kind.NUMBER:
            return _ranged(rule, _number(text))
        case Kind.INTEGER | Kind.PERCENT | Kind.PORT:
            return int(_ranged(rule, _integer(rule.kind, text)))
        case Kind.CHOICE:
            return _choice(rule, text)
    return _text(rule.kind, text)


def _ranged(rule: SettingRule, value: float) -> float:
    if value < rule.minimum:
        raise ValueError(f"is below {rule.minimum:g}")
    if value > rule.maximum:
        raise ValueError("is too large")
    return value


def _integer(kind: Kind, text: str) -> int:
    digits = text.strip().removesuffix("%") if kind is Kind.PERCENT else text.strip()
    if not re.fullmatch(r"[0-9]{1,15}", digits):
        if kind is Kind.PORT:
            raise ValueError("invalid port number: must be 1-65535")
        raise ValueError("is not a whole number, 0 or more")
    value = int(digits)
    if kind is Kind.PERCENT and value > 100:
        raise ValueError("is above 100 percent")
    if kind is Kind.PORT and not 1 <= value <= 65535:
        raise ValueError("invalid port number: must be 1-65535")
    return value


def _number(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,6})?", text.strip()):
        raise ValueError("is not a number, 0 or more")
    return float(text)


def _choice(rule: SettingRule, text: str) -> str:
    word = text.strip().lower()
    if word not in rule.choices:
        raise ValueError(f"is none of {', '.join(rule.choices)}")
    return word


def _text(kind: Kind, text: str) -> SettingValue:
    text = text.strip()
    if kind is Kind.ORIGINS:
        origins = tuple(part.strip() for part in re.split(r"[\n,]", text) if part.strip())
        for origin in origins:
            if origin != "*" and not _ORIGIN.match(origin):
                raise ValueError("holds something that is not an origin (scheme://host, no path)")
        return origins
    if kind is Kind.IP:
        try:
            return str(ipaddress.ip_address(text.strip("[]")))
        except ValueError:
            raise ValueError("is not an IP address") from None
    if not (_SECRET if kind is Kind.SECRET else _TEXT).match(text):
        raise ValueError("value contains invalid characters")
    return text
