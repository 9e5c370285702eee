"""Catalogues are whole, and the right one is chosen."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.adapters.http.texts import LANGUAGES, Catalogue, choose_language, load_catalogues

CATALOGUES = load_catalogues()


@pytest.mark.parametrize("language", LANGUAGES)
def test_catalogue_has_every_key_with_the_same_values(language: str) -> None:
    own, english = CATALOGUES[language].texts, CATALOGUES["en"].texts
    assert set(own) == set(english)
    for key, text in english.items():
        fields = {name for _, name, _, _ in string.Formatter().parse(text) if name}
        assert {name for _, name, _, _ in string.Formatter().parse(own[key]) if name} == fields


def test_missing_key_falls_back_to_english() -> None:
    english = {"hello": "Hello {n}", "digits": "0123456789"}
    assert Catalogue("xx", {}, english)("hello", n=3) == "Hello 3"


def test_persian_digits() -> None:
    persian = CATALOGUES["fa"]
    assert "۲۰" in persian("fact_retention_title", days=20)
    assert re.search("۳۰", persian.size(30 * 1024 * 1024))


@pytest.mark.parametrize(
    ("octets", "text"),
    [(31457280, "30 MB"), (524288000, "500 MB"), (1 << 30, "1 GB"), (1, "1 MB")],
)
def test_sizes(octets: int, text: str) -> None:
    assert CATALOGUES["en"].size(octets) == text


@pytest.mark.parametrize(
    ("setting", "asked", "accepted", "language"),
    [
        ("en", None, "fa", "en"),
        ("auto", None, "fa", "fa"),
        ("auto", None, "FA-IR", "fa"),
        ("auto", None, "de", "en"),
        ("auto", None, None, "en"),
        ("auto", None, "en;q=0.5, es;q=0.9", "es"),
        ("auto", None, "fa;q=0, ru", "ru"),
        ("auto", None, "fa;q=nan, ru;q=x", "en"),
        ("auto", None, "ru, fa", "ru"),
        ("en", "ru", None, "ru"),
        ("en", "xx", None, "en"),
        ("nonsense", None, None, "en"),
    ],
)
def test_choose_language(
    setting: str, asked: str | None, accepted: str | None, language: str
) -> None:
    assert choose_language(setting, asked, accepted) == language


@given(st.text(max_size=200))
def test_any_accept_language_is_survived(field: str) -> None:
    assert choose_language("auto", None, field) in LANGUAGES
