"""Port numbers for servers of tests, a share of its own for each process that runs tests.

A relay that was killed has to come back on its ports. What port 0 gives lies in the range that
outgoing connections take theirs from, so that one of those may sit on it meanwhile.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

# Demo relays of tests have ports below these.
FIRST = 11_000
LAST = 32_000
SHARES = 16
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def share(number: int) -> range:
    """Return the ports of a share: below what outgoing connections take, where that can be."""
    last = LAST
    with contextlib.suppress(OSError, ValueError):
        lowest = int(_EPHEMERAL.read_text().split()[0])
        last = min(last, lowest) if lowest > FIRST + 100 * SHARES else last
    size = (last - FIRST) // SHARES
    start = FIRST + number % SHARES * size
    return range(start, start + size)


def take_share() -> tuple[range, socket.socket | None]:
    """Return the ports of the first share that nobody has, and what holds it.

    A name in the abstract namespace lives as long as its socket, in the network namespace that
    the ports belong to: whoever else runs tests beside us, from whatever folder, gets another one.
    With more processes than shares some have the same: what they draw is only likely to differ.
    """
    for number in range(SHARES):
        holder = socket.socket(socket.AF_UNIX)
        try:
            holder.bind(f"\0chatmail-tests-ports-{number}")
        except OSError:
            holder.close()
        else:
            return share(number), holder
    return share(random.SystemRandom().randrange(SHARES)), None


def _shuffled() -> Iterator[int]:
    taken, holder = take_share()
    ports = list(taken)
    # Not by the generator that tests seed: runs after one another would choose the same.
    random.SystemRandom().shuffle(ports)
    try:
        yield from itertools.cycle(ports)
    finally:
        if holder is not None:
            holder.close()


_ports = _shuffled()
_drawing = threading.Lock()


def draw_port() -> int:
    """Return a number to try, between 11000 and 32000.

    None comes twice before all came once: what draws at the same time, and binds only seconds
    later, draws different ones.
    """
    with _drawing:
        return next(_ports)
