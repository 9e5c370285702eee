"""Flags as rows hold them: a bit set of system flags and the keywords as text."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from chatmail.domain.model.mailbox import DELETED, SEEN, SYSTEM_FLAGS, Flags

SEEN_BIT: Final = 1 << SYSTEM_FLAGS.index(SEEN)
DELETED_BIT: Final = 1 << SYSTEM_FLAGS.index(DELETED)

_BITS: Final = {flag: 1 << place for place, flag in enumerate(SYSTEM_FLAGS)}


@lru_cache(maxsize=4096)
def encode_flags(flags: Flags) -> tuple[int, str]:
    """Return (bits, keywords joined by one space)."""
    bits = sum(_BITS.get(flag, 0) for flag in flags)
    return bits, " ".join(sorted(flag for flag in flags if flag not in _BITS))


@lru_cache(maxsize=4096)
def decode_flags(bits: int, keywords: str) -> Flags:
    """Return the flags; equal sets are one object, so a million entries share a few."""
    system = [flag for flag, bit in _BITS.items() if bits & bit]
    return frozenset(system + keywords.split())


def spell(flags: Flags, known: tuple[str, ...], *, learn: bool) -> tuple[Flags, tuple[str, ...]]:
    """Give keywords the spelling first used in the mailbox.

    Returns:  the flags and the keywords known afterwards (new ones only when `learn`).
    Source:  RFC 9051 §2.3.2: flag names ignore case.
    """
    if all(flag in _BITS for flag in flags):
        return flags, known
    spellings = {keyword.lower(): keyword for keyword in known}
    spelt = set()
    for flag in sorted(flags):
        if flag not in _BITS:
            flag = spellings.setdefault(flag.lower(), flag)
        spelt.add(flag)
    return frozenset(spelt), tuple(spellings.values()) if learn else known
