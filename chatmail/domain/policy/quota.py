"""Room in a mailbox: what fits, when to trim, how far.

Source:  spec policy 3, mail 5.9; contract 3 (quota).
"""

from __future__ import annotations

from typing import Final

from chatmail.domain.model.outbound import Waiting
from chatmail.domain.model.retention import TrimGoal
from chatmail.domain.model.settings import LimitSettings, QuotaSettings

FRUITLESS_S: Final = 60.0
"""How long a trim that found nothing old enough is not tried again: it reads the whole account."""


MAX_WAITING_ENTRIES: Final = 2000
MAX_WAITING_OCTETS: Final = 512 << 20
"""What one account may have on its way to other relays (spec policy 3)."""


def may_wait(waiting: Waiting, entries: int, size_bytes: int) -> bool:
    """Say whether a message to so many recipients elsewhere may be queued beside what waits."""
    return (
        waiting.entries + entries <= MAX_WAITING_ENTRIES
        and waiting.octets + size_bytes <= MAX_WAITING_OCTETS
    )


def fits(size_bytes: int, octets: int, messages: int, limits: LimitSettings) -> bool:
    """Say whether one more message of `size_bytes` fits beside `octets` in `messages`."""
    return (
        octets + size_bytes <= limits.max_mailbox_bytes
        and messages < limits.max_messages_per_account
    )


def wants_trim(octets: int, messages: int, limits: LimitSettings, settings: QuotaSettings) -> bool:
    """Say whether an account is above the mark at which old mail goes."""
    high = settings.trim_high_percent
    return settings.trim and (
        octets * 100 > limits.max_mailbox_bytes * high
        or messages * 100 > limits.max_messages_per_account * high
    )


def trim_goal(
    limits: LimitSettings, settings: QuotaSettings, now_s: float, *, size_bytes: int = 0
) -> TrimGoal:
    """Return how far to trim, before a message of `size_bytes` when one is given.

    To the low mark, or further when the message would not fit beside it; mail of the last day is
    spared whatever the need.
    """
    low = settings.trim_low_percent
    octets = limits.max_mailbox_bytes * low // 100
    messages = limits.max_messages_per_account * low // 100
    return TrimGoal(
        octets=max(0, min(octets, limits.max_mailbox_bytes - size_bytes)),
        messages=max(0, min(messages, limits.max_messages_per_account - 1)),
        older_than_s=int(now_s) - settings.spare_younger_s,
    )
