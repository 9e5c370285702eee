"""Keeps the C allocator from hoarding what password hashing used."""

from __future__ import annotations

import contextlib
import ctypes
from typing import Final

# <malloc.h>; mallopt(3).
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8

_SETTINGS: Final = (
    # glibc raises this mark after the first freed 19 MiB block of argon2, and from then on keeps
    # such blocks in the heap of every thread that hashed: 37 MB for nothing, and the heaps of idle
    # sessions full of holes (111 kB each instead of 16). A fixed mark gives blocks back at once.
    (_M_MMAP_THRESHOLD, 256 * 1024),
    (_M_TRIM_THRESHOLD, 128 * 1024),
    # Python's lock lets one thread allocate at a time; more arenas are only more memory.
    (_M_ARENA_MAX, 1),
)


def tune_allocator() -> None:
    """Set glibc's allocator; does nothing where there is another one. Call before any thread."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in _SETTINGS:
            mallopt(parameter, value)
