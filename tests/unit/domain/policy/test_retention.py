"""Cut-offs: what is over at an instant, and what is never over."""

from __future__ import annotations

import attrs
import pytest

from chatmail.domain.model.retention import MessageRule
from chatmail.domain.model.settings import DAY_S, RetentionSettings
from chatmail.domain.policy import retention
from chatmail.domain.policy.retention import DeletionReason

SETTINGS = RetentionSettings()
NOW_S = 1_760_000_000.5
NOW = int(NOW_S)


def test_the_defaults_are_those_of_the_reference_relay() -> None:
    assert (
        RetentionSettings(
            messages_s=20 * DAY_S,
            large_s=7 * DAY_S,
            large_threshold_bytes=200_000,
            inactive_accounts_s=90 * DAY_S,
            unused_accounts_s=DAY_S,
            address_quarantine_s=90 * DAY_S,
            seen=False,
            seen_grace_s=3600,
        )
        == SETTINGS
    )


def test_old_mail_is_older_than_its_time() -> None:
    assert retention.old_messages(SETTINGS, NOW_S) == MessageRule(before_s=NOW - 20 * DAY_S)
    assert retention.old_messages(SETTINGS, NOW_S, 60) == MessageRule(before_s=NOW - 60)


def test_large_mail_goes_earlier_once_it_was_shown() -> None:
    assert retention.large_messages(SETTINGS, NOW_S) == MessageRule(
        before_s=NOW - 7 * DAY_S, larger_than_bytes=200_000, was_shown=True
    )


def test_seen_mail_goes_only_when_asked_for() -> None:
    assert retention.seen_messages(SETTINGS, NOW_S) is None
    rule = MessageRule(before_s=NOW - 3600, is_seen=True)
    assert retention.seen_messages(attrs.evolve(SETTINGS, seen=True), NOW_S) == rule
    by_hand = retention.seen_messages(SETTINGS, NOW_S, 60)
    assert by_hand == MessageRule(before_s=NOW - 60, is_seen=True)


def test_unread_mail_goes_only_by_a_duration() -> None:
    assert retention.unread_messages(NOW_S, None) is None
    assert retention.unread_messages(NOW_S, 0) is None
    assert retention.unread_messages(NOW_S, 60) == MessageRule(before_s=NOW - 60, is_seen=False)


def test_zero_is_never() -> None:
    off = RetentionSettings(
        messages_s=0, large_s=0, inactive_accounts_s=0, unused_accounts_s=0, address_quarantine_s=0
    )
    assert retention.old_messages(off, NOW_S) is None
    assert retention.old_messages(SETTINGS, NOW_S, 0) is None
    assert retention.large_messages(off, NOW_S) is None
    assert retention.unused_before_s(off, NOW_S) is None
    assert retention.unused_import_before_s(off, NOW_S) is None
    assert retention.inactive_before_s(off, NOW_S) is None
    assert retention.tombstone_until_s(DeletionReason.INACTIVE, off, NOW_S) is None


def test_accounts_expire_by_creation_and_by_day_of_login() -> None:
    assert retention.unused_before_s(SETTINGS, NOW_S) == NOW - DAY_S
    assert retention.unused_import_before_s(SETTINGS, NOW_S) == NOW - 30 * DAY_S
    longer = attrs.evolve(SETTINGS, unused_accounts_s=40 * DAY_S)
    assert retention.unused_import_before_s(longer, NOW_S) == NOW - 40 * DAY_S
    assert retention.unused_import_before_s(SETTINGS, NOW_S, 60) == NOW - 60
    before_s = retention.inactive_before_s(SETTINGS, NOW_S)
    assert before_s is not None
    assert before_s % DAY_S == 0
    assert NOW - 91 * DAY_S < before_s <= NOW - 90 * DAY_S
    assert retention.inactive_before_s(SETTINGS, NOW_S, DAY_S) == before_s + 89 * DAY_S


def test_only_an_inactive_account_waits_for_its_owner() -> None:
    until = {
        reason: retention.tombstone_until_s(reason, SETTINGS, NOW_S) for reason in DeletionReason
    }
    assert until == {
        DeletionReason.INACTIVE: NOW + 90 * DAY_S,
        DeletionReason.UNUSED: None,
        DeletionReason.OPERATOR: None,
    }


@pytest.mark.parametrize(
    ("silence_s", "is_suspect"),
    [(0, False), (7 * DAY_S, False), (7 * DAY_S + 1, True), (365 * DAY_S, True), (-DAY_S, False)],
)
def test_a_week_of_silence_makes_time_suspect(silence_s: int, is_suspect: bool) -> None:
    assert retention.is_time_suspect(NOW, NOW + silence_s) is is_suspect


def test_time_is_suspect_when_none_was_ever_written_down() -> None:
    assert retention.is_time_suspect(None, NOW)
