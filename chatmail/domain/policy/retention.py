"""What is over, and when: cut-offs as functions of settings and the present time.

A duration of 0 is "never". Source:  spec policy 2.7, 4; contract 3 (deleted addresses, "seen").
"""

from __future__ import annotations

import enum
from typing import Final

from chatmail.domain.model.account import day_of
from chatmail.domain.model.retention import MessageRule
from chatmail.domain.model.settings import DAY_S, RetentionSettings

MAX_DOWNTIME_S: Final = 7 * DAY_S
"""After a longer silence nobody had the chance to log in, or the clock is wrong."""

UNUSED_IMPORT_S: Final = 720 * 3600
"""Imported accounts that nobody has used here yet stay at least so long (spec policy 4)."""

TOKEN_LIFE_S: Final = 90 * DAY_S
"""Push tokens that no client refreshed for so long are dead (spec policy 5)."""


class DeletionReason(enum.Enum):
    """Why an account goes. What follows differs: who may have the address again."""

    UNUSED = "unused"
    INACTIVE = "inactive"
    OPERATOR = "operator"


def old_messages(
    settings: RetentionSettings, now_s: float, retention_s: float | None = None
) -> MessageRule | None:
    """Return the rule for mail that is too old; None: nothing is."""
    age_s = settings.messages_s if retention_s is None else retention_s
    return MessageRule(before_s=int(now_s - age_s)) if age_s > 0 else None


def large_messages(
    settings: RetentionSettings, now_s: float, retention_s: float | None = None
) -> MessageRule | None:
    """Return the rule for large mail: kept for devices that were all offline since it came."""
    age_s = settings.large_s if retention_s is None else retention_s
    if age_s <= 0:
        return None
    return MessageRule(
        before_s=int(now_s - age_s),
        larger_than_bytes=settings.large_threshold_bytes,
        was_shown=True,
    )


def seen_messages(
    settings: RetentionSettings, now_s: float, retention_s: float | None = None
) -> MessageRule | None:
    """Return the rule for seen mail: off unless switched on, or asked for with a duration.

    The grace is for a second device: what one has read, the other has yet to fetch.
    """
    if retention_s is None and not settings.seen:
        return None
    grace_s = settings.seen_grace_s if retention_s is None else retention_s
    return MessageRule(before_s=int(now_s - grace_s), is_seen=True)


def unread_messages(now_s: float, retention_s: float | None) -> MessageRule | None:
    """Return the rule for never-seen mail; only an operator gives the duration."""
    if retention_s is None or retention_s <= 0:
        return None
    return MessageRule(before_s=int(now_s - retention_s), is_seen=False)


def unused_before_s(
    settings: RetentionSettings, now_s: float, retention_s: float | None = None
) -> int | None:
    """Return the time before which an account without a login was created too long ago."""
    age_s = settings.unused_accounts_s if retention_s is None else retention_s
    return int(now_s - age_s) if age_s > 0 else None


def unused_import_before_s(
    settings: RetentionSettings, now_s: float, retention_s: float | None = None
) -> int | None:
    """Return the same for accounts that were imported: their owners have yet to notice."""
    age_s = settings.unused_accounts_s if retention_s is None else retention_s
    if age_s <= 0:
        return None
    return int(now_s - (max(age_s, UNUSED_IMPORT_S) if retention_s is None else age_s))


def inactive_before_s(
    settings: RetentionSettings, now_s: float, retention_s: float | None = None
) -> int | None:
    """Return the day before which a last login is too long ago.

    Logins are known by day; the day of the cut-off itself is still in time.
    """
    age_s = settings.inactive_accounts_s if retention_s is None else retention_s
    return day_of(now_s - age_s) if age_s > 0 else None


def tombstone_until_s(
    reason: DeletionReason, settings: RetentionSettings, now_s: float
) -> int | None:
    """Return until when the address waits for its old password; None: it waits for nothing.

    An account that was never used leaves nothing; an address the operator took away is barred
    instead, for its old owner too.
    """
    if reason is not DeletionReason.INACTIVE or settings.address_quarantine_s <= 0:
        return None
    return int(now_s + settings.address_quarantine_s)


def is_time_suspect(last_alive_s: int | None, now_s: float) -> bool:
    """Say whether more time has passed than this relay can have been there for.

    `last_alive_s`: when it last wrote down the time; None: never. True after a long downtime, a
    put back copy, or a clock that jumped ahead.
    """
    return last_alive_s is None or now_s - last_alive_s > MAX_DOWNTIME_S
