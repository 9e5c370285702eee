"""Room in a mailbox: what fits, when to trim, how far.

Source:  spec policy 3, mail 5.9; contract 3 (quota).
"""

from __future__ import annotations

from chatmail.domain.model.settings import QuotaSettings


def has_room(size_bytes: int, used_bytes: int, limit_bytes: int) -> bool:
    """Say whether one more message of `size_bytes` fits."""
    return used_bytes + size_bytes <= limit_bytes


def wants_trim(used_bytes: int, limit_bytes: int, settings: QuotaSettings) -> bool:
    """Say whether what a delivery left is above the mark at which old mail goes."""
    return settings.trim and used_bytes * 100 > limit_bytes * settings.trim_high_percent


def trim_target(size_bytes: int, limit_bytes: int, settings: QuotaSettings) -> int:
    """Return the octets to trim down to before a message of `size_bytes` is stored.

    The low mark, or less when the message would not fit beside it.
    """
    low = limit_bytes * settings.trim_low_percent // 100
    return max(0, min(low, limit_bytes - size_bytes))
