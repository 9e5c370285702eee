"""One bounded table for every rate and penalty, in memory only.

A bucket is one number. Keys are kept as keyed hashes with a key of this process, so nothing
here tells who came from where; a bucket that is full again is forgotten.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

from chatmail.domain.policy import throttle
from chatmail.domain.ports.system import Clock, Entropy

MAX_PER_KIND: Final = 65536
"""16 MB of buckets at the most for one kind; more sources at once than a relay has users."""
SWEEP_EVERY_S: Final = 60.0


class BucketTable:
    """Keyed token buckets: least recently used ones go first when a kind is full."""

    def __init__(self, clock: Clock, entropy: Entropy, max_per_kind: int = MAX_PER_KIND) -> None:
        self._clock = clock
        self._key = entropy.octets(32)
        self._max_per_kind = max_per_kind
        self._kinds: dict[str, OrderedDict[bytes, float]] = {}
        self._next_sweep_s = clock.monotonic_s() + SWEEP_EVERY_S

    def __len__(self) -> int:
        return sum(map(len, self._kinds.values()))

    def take(self, kind: str, key: str, *, per_s: float, burst: float, cost: float = 1.0) -> bool:
        """Take `cost` tokens of a bucket refilled at `per_s` up to `burst`; False: too few."""
        now_s = self._clock.monotonic_s()
        if now_s >= self._next_sweep_s:
            self.sweep()
        table = self._kinds.get(kind)
        if table is None:
            table = self._kinds[kind] = OrderedDict()
        digest = self._digest(key)
        after = throttle.take(table.get(digest, now_s), now_s, per_s=per_s, burst=burst, cost=cost)
        if after is None:
            return False
        table[digest] = after
        table.move_to_end(digest)
        if len(table) > self._max_per_kind:
            table.popitem(last=False)
        return True

    def peek(self, kind: str, key: str, *, per_s: float, burst: float, cost: float = 1.0) -> bool:
        """Say whether `take` would succeed, without taking."""
        now_s = self._clock.monotonic_s()
        arrival_s = self._arrival_s(kind, key, now_s)
        return throttle.take(arrival_s, now_s, per_s=per_s, burst=burst, cost=cost) is not None

    def used(self, kind: str, key: str, *, per_s: float, burst: float) -> float:
        """Return how many tokens are missing now, 0.0 for a full bucket."""
        now_s = self._clock.monotonic_s()
        return min(burst, throttle.drained(self._arrival_s(kind, key, now_s), now_s, per_s))

    def reset(self, kind: str, key: str) -> None:
        """Fill the bucket."""
        table = self._kinds.get(kind)
        if table is not None:
            table.pop(self._digest(key), None)

    def sweep(self) -> None:
        """Forget every bucket that is full again. Runs by itself about once a minute of use."""
        now_s = self._clock.monotonic_s()
        self._next_sweep_s = now_s + SWEEP_EVERY_S
        for kind, table in list(self._kinds.items()):
            for digest in [digest for digest, arrival_s in table.items() if arrival_s <= now_s]:
                del table[digest]
            if not table:
                del self._kinds[kind]

    def _arrival_s(self, kind: str, key: str, now_s: float) -> float:
        table = self._kinds.get(kind)
        return now_s if table is None else table.get(self._digest(key), now_s)

    def _digest(self, key: str) -> bytes:
        return hashlib.blake2b(
            key.encode("utf-8", "surrogateescape"), key=self._key, digest_size=16
        ).digest()
