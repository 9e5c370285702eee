"""How fast this machine is, for limits that name processor time."""

from __future__ import annotations

import functools
import hashlib
import time

REFERENCE_S = 0.0022
"""What `_work` takes on the machine whose figures the tests name: 2.3 GHz, CPython 3.11."""
ROUNDS = 20


@functools.cache
def slowdown() -> float:
    """Return how many times slower this machine is than that one: 1 if it is faster.

    It is the best of several rounds, so what else runs at the moment counts little.
    """
    return max(1.0, min(_timed() for _ in range(ROUNDS)) / REFERENCE_S)


def _timed() -> float:
    began = time.perf_counter()
    _work()
    return time.perf_counter() - began


def _work() -> None:
    """Do a little of what the program does: build, look up, cut, digest."""
    table: dict[str, bytes] = {}
    for number in range(4000):
        name = f"name {number % 500}"
        table[name] = table.get(name, b"")[-40:] + b"%d " % number
    hashlib.sha256(b"".join(table.values()) * 20).digest()
