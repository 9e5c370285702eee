"""Port numbers for servers of tests, a share of its own for each test run beside others.

A relay that was killed has to come back on its ports. What port 0 gives lies in the range that
outgoing connections take theirs from, so that one of those may sit on it meanwhile.
"""

from __future__ import annotations

import os
import random

# Demo relays of tests have ports below these.
FIRST = 11_000
SHARE = 5_250
SHARES = 4

# Not from the generator that tests seed: runs side by side would choose the same.
_CHANCE = random.SystemRandom()


def draw_port() -> int:
    """Return a number to try, between 11000 and 32000: below what outgoing connections take."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    share = int(worker) % SHARES if worker.isdecimal() else 0
    return FIRST + share * SHARE + _CHANCE.randrange(SHARE)
