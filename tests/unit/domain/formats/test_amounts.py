"""Sizes, durations, switches: one grammar."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.formats.amounts import (
    read_boolean,
    read_duration,
    read_size,
    show_duration,
    show_size,
)


@pytest.mark.parametrize("word", ["1", "true", "YES", "y", "on", "enable", "Enabled", " t "])
def test_words_for_true(word: str) -> None:
    assert read_boolean(word) is True


@pytest.mark.parametrize("word", ["0", "false", "No", "n", "off", "disable", "disabled", "f", ""])
def test_words_for_false(word: str) -> None:
    assert read_boolean(word) is False


@pytest.mark.parametrize("word", ["perhaps", "2", "tru", "yes no"])
def test_other_words_are_no_switch(word: str) -> None:
    with pytest.raises(ValueError, match="true or false"):
        read_boolean(word)


@pytest.mark.parametrize(
    ("text", "octets"),
    [("30M", 30 << 20), ("1G 512M", 1536 << 20), ("5k", 5120), ("7B", 7), ("0", 0), ("9", 9)],
)
def test_sizes_add_up(text: str, octets: int) -> None:
    assert read_size(text) == octets


@pytest.mark.parametrize("text", ["", "30 M", "M", "30X", "-1M", "1.5G", "30M,", "1e3", "٣M"])
def test_texts_that_are_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=r"use e\.g\. 30M"):
        read_size(text)


def test_a_bare_number_can_be_refused_but_never_zero() -> None:
    """Spec admin 1.6."""
    assert read_size("0", bare=False) == 0
    with pytest.raises(ValueError, match="not a size"):
        read_size("300", bare=False)


@pytest.mark.parametrize(
    ("octets", "text"), [(0, "0"), (100 << 20, "100M"), (1 << 30, "1G"), (1536 << 10, "1536K")]
)
def test_the_largest_unit_that_divides_evenly_is_shown(octets: int, text: str) -> None:
    assert show_size(octets) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90d", 7776000), ("1d12h", 129600), ("1h30m", 5400), ("45", 45), ("2w", 1209600), ("1m", 60)],
)
def test_durations_may_be_compound(text: str, seconds: int) -> None:
    assert read_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "1y", "1d 2x", "-5", "1.5h", "9999999999d"])
def test_texts_that_are_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        read_duration(text)


@given(st.integers(0, 10**12))
def test_what_is_shown_is_read_back(number: int) -> None:
    assert read_size(show_size(number), bare=False) == number
    assert read_duration(show_duration(number)) == number
