"""Sprees: short, and over after a pause."""

from __future__ import annotations

import itertools

import pytest

from chatmail.adapters.imap.spree import GAP_S, SPREE_S, Spree


def test_a_spree_ends_and_the_next_begins_after_a_pause() -> None:
    spree = Spree()
    times = [step * GAP_S / 4 for step in range(100)]
    told = list(itertools.takewhile(spree.goes_on, times))
    assert len(told) == pytest.approx(4 * SPREE_S / GAP_S, abs=1)
    assert not spree.goes_on(times[len(told) + 1])  # the pause counts from the last question
    assert spree.goes_on(times[len(told) + 1] + GAP_S * 1.01)


def test_the_first_question_begins_a_spree() -> None:
    assert Spree().goes_on(0.0)
