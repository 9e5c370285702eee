"""Port numbers for servers of tests, a share of its own for each test run beside others.

A relay that was killed has to come back on its ports. What port 0 gives lies in the range that
outgoing connections take theirs from, so that one of those may sit on it meanwhile.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

# Demo relays of tests have ports below these.
FIRST = 11_000
LAST = 32_000
SHARES = 4
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def share(worker: int) -> range:
    """Return the ports of a worker: below what outgoing connections take, where that can be."""
    last = LAST
    with contextlib.suppress(OSError, ValueError):
        lowest = int(_EPHEMERAL.read_text().split()[0])
        last = min(last, lowest) if lowest > FIRST + 100 * SHARES else last
    size = (last - FIRST) // SHARES
    start = FIRST + worker % SHARES * size
    return range(start, start + size)


def _shuffled() -> Iterator[int]:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    ports = list(share(int(worker) if worker.isdecimal() else 0))
    # Not by the generator that tests seed: runs after one another would choose the same.
    random.SystemRandom().shuffle(ports)
    return itertools.cycle(ports)


_ports = _shuffled()
_drawing = threading.Lock()


def draw_port() -> int:
    """Return a number to try, between 11000 and 32000.

    None comes twice before all came once: what draws at the same time, and binds only seconds
    later, draws different ones.
    """
    with _drawing:
        return next(_ports)
