"""Languages of the public page: catalogues, choice of one, numbers in it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs

DEFAULT_LANGUAGE: Final = "en"
LANGUAGES: Final = ("en", "fa", "ru", "es")

_FOLDER: Final = Path(__file__).parent / "translations"
_MAX_PREFERENCES: Final = 20
_MIB: Final = 1024 * 1024
_GIB: Final = 1024 * _MIB


@attrs.frozen
class Catalogue:
    """One language: texts by key, English behind them."""

    language: str
    texts: Mapping[str, str]
    fallback: Mapping[str, str]

    @property
    def direction(self) -> str:
        """Return `rtl` or `ltr`."""
        return self("direction")

    @property
    def name(self) -> str:
        """Return the language's name for itself."""
        return self("language")

    def __call__(self, key: str, **values: object) -> str:
        """Return a text with its values; a key missing here is taken from English."""
        text = self.texts.get(key) or self.fallback[key]
        shown = {name: self.number(value) for name, value in values.items()}
        return text.format_map(shown) if shown else text

    def number(self, value: object) -> str:
        """Write integers in the language's digits; other values as they are."""
        text = str(value)
        digits = self("digits")
        if not isinstance(value, int) or len(digits) != 10:
            return text
        return text.translate(str.maketrans("0123456789", digits))

    def size(self, octets: int) -> str:
        """Write a size in whole megabytes or gigabytes of 1024² and 1024³ octets."""
        if octets >= _GIB and octets % _GIB == 0:
            return self("gigabytes", n=octets // _GIB)
        return self("megabytes", n=max(1, octets // _MIB))


def load_catalogues() -> dict[str, Catalogue]:
    """Read every bundled catalogue."""
    texts = {
        language: tomllib.loads((_FOLDER / f"{language}.toml").read_text(encoding="utf-8"))
        for language in LANGUAGES
    }
    return {
        language: Catalogue(language, own, texts[DEFAULT_LANGUAGE])
        for language, own in texts.items()
    }


def choose_language(setting: str, asked: str | None, accept_language: str | None) -> str:
    """Choose the page's language.

    Args:  setting: a language, or `auto`. asked: what the visitor picked on the page.
        accept_language: the request's field, used with `auto` only.
    """
    if asked in LANGUAGES:
        return asked
    if setting in LANGUAGES:
        return setting
    return _best(accept_language or "")


def _best(accept_language: str) -> str:
    choices = []
    for place, item in enumerate(accept_language.split(",", _MAX_PREFERENCES)[:_MAX_PREFERENCES]):
        tag, _, parameters = item.partition(";")
        primary = tag.strip().lower().partition("-")[0]
        quality = _quality(parameters)
        if primary in LANGUAGES and quality > 0:
            choices.append((-quality, place, primary))
    return min(choices)[2] if choices else DEFAULT_LANGUAGE


def _quality(parameters: str) -> float:
    # RFC 9110 §12.4.2: `q=` between 0 and 1 with at most three digits; nothing means 1.
    name, _, value = parameters.strip().partition("=")
    if name.strip().lower() != "q":
        return 1.0
    digits = value.strip()
    return float(digits) if digits.replace(".", "", 1).isdecimal() and digits.isascii() else 0.0
