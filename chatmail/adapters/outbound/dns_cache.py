"""What DNS said, for as long as it may be believed; bounded in entries and octets."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, TypeVar

import attrs

from chatmail.domain.ports.system import Clock

MAX_ENTRIES: Final = 20_000
MAX_OCTETS: Final = 16 * 1024 * 1024

Value = TypeVar("Value")


@attrs.frozen
class _Entry(Generic[Value]):
    value: Value
    until_s: float
    octets: int


class DnsCache(Generic[Value]):
    """Values by name and type; the least recently used go first."""

    def __init__(
        self, clock: Clock, *, max_entries: int = MAX_ENTRIES, max_octets: int = MAX_OCTETS
    ) -> None:
        self._clock = clock
        self._max_entries = max_entries
        self._max_octets = max_octets
        self._entries: OrderedDict[tuple[str, str], _Entry[Value]] = OrderedDict()
        self._octets = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, name: str, kind: str) -> Value | None:
        """Return what is known and still holds."""
        entry = self._entries.get((name, kind))
        if entry is None:
            return None
        if entry.until_s <= self._clock.monotonic_s():
            self._drop((name, kind))
            return None
        self._entries.move_to_end((name, kind))
        return entry.value

    def put(self, name: str, kind: str, value: Value, *, ttl_s: float, octets: int) -> None:
        """Keep a value of about so many octets."""
        self._drop((name, kind))
        self._entries[name, kind] = _Entry(value, self._clock.monotonic_s() + ttl_s, octets)
        self._octets += octets
        while len(self._entries) > self._max_entries or self._octets > self._max_octets:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: tuple[str, str]) -> None:
        if (entry := self._entries.pop(key, None)) is not None:
            self._octets -= entry.octets
