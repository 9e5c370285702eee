"""What fits into a mailbox, and how far trimming goes."""

from __future__ import annotations

import attrs

from chatmail.domain.model.settings import QuotaSettings
from chatmail.domain.policy.quota import has_room, trim_target, wants_trim

SETTINGS = QuotaSettings()


def test_a_message_fits_up_to_the_last_octet() -> None:
    assert has_room(10, 90, 100)
    assert not has_room(11, 90, 100)


def test_trimming_starts_above_three_quarters() -> None:
    assert not wants_trim(75, 100, SETTINGS)
    assert wants_trim(76, 100, SETTINGS)
    assert not wants_trim(99, 100, attrs.evolve(SETTINGS, trim=False))


def test_trimming_goes_down_to_seventy_percent_or_further_for_a_large_message() -> None:
    assert trim_target(0, 100, SETTINGS) == 70
    assert trim_target(20, 100, SETTINGS) == 70
    assert trim_target(60, 100, SETTINGS) == 40
    assert trim_target(200, 100, SETTINGS) == 0
