"""What fits into a mailbox, and how far trimming goes."""

from __future__ import annotations

import attrs
import pytest

from chatmail.domain.model.outbound import Waiting
from chatmail.domain.model.settings import DAY_S, LimitSettings, QuotaSettings
from chatmail.domain.policy.quota import fits, may_wait, trim_goal, wants_trim

SETTINGS = QuotaSettings()
LIMITS = LimitSettings(max_mailbox_bytes=100, max_messages_per_account=1000)
NOW_S = 1_760_000_000.5


def test_a_message_fits_up_to_the_last_octet() -> None:
    assert fits(10, 90, 0, LIMITS)
    assert not fits(11, 90, 0, LIMITS)


def test_a_message_fits_up_to_the_last_place() -> None:
    assert fits(1, 0, 999, LIMITS)
    assert not fits(1, 0, 1000, LIMITS)


@pytest.mark.parametrize(
    ("waiting", "entries", "size", "may"),
    [
        (Waiting(0, 0), 1000, 100 << 20, True),
        (Waiting(1999, 0), 1, 1, True),
        (Waiting(1999, 0), 2, 1, False),
        (Waiting(5, (512 << 20) - 10), 1, 10, True),
        (Waiting(5, (512 << 20) - 10), 1, 11, False),
    ],
)
def test_what_waits_of_one_account_is_2000_recipients_and_512_mib(
    waiting: Waiting, entries: int, size: int, may: bool
) -> None:
    assert may_wait(waiting, entries, size) is may


@pytest.mark.parametrize(("octets", "messages"), [(75, 0), (0, 750)])
def test_up_to_three_quarters_nothing_is_trimmed(octets: int, messages: int) -> None:
    assert not wants_trim(octets, messages, LIMITS, SETTINGS)


@pytest.mark.parametrize(("octets", "messages"), [(76, 0), (0, 751)])
def test_trimming_starts_above_three_quarters(octets: int, messages: int) -> None:
    assert wants_trim(octets, messages, LIMITS, SETTINGS)
    assert not wants_trim(octets, messages, LIMITS, attrs.evolve(SETTINGS, trim=False))


@pytest.mark.parametrize(("size", "octets"), [(0, 70), (20, 70), (60, 40), (200, 0)])
def test_trimming_goes_to_seventy_percent_or_further_for_a_large_message(
    size: int, octets: int
) -> None:
    goal = trim_goal(LIMITS, SETTINGS, NOW_S, size_bytes=size)
    assert (goal.octets, goal.messages) == (octets, 700)


def test_trimming_spares_mail_of_the_last_day() -> None:
    assert trim_goal(LIMITS, SETTINGS, NOW_S).older_than_s == int(NOW_S) - DAY_S


def test_trimming_makes_a_place_whatever_the_percentage() -> None:
    low = attrs.evolve(SETTINGS, trim_low_percent=100)
    assert trim_goal(LIMITS, low, NOW_S).messages == 999
