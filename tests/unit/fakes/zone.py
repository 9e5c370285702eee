"""DNS and the look from outside, as told."""

from __future__ import annotations

from chatmail.domain.formats.zone import RecordType, ZoneFacts, ZoneRecord
from chatmail.domain.ports.remote import DnsFault
from chatmail.domain.ports.zone import ProbeResult

Found = tuple[str, ...] | DnsFault


class MemoryZone:
    """`ZoneReader` over a dictionary; counts what was asked."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, RecordType], Found] = {}
        self.asked: list[tuple[str, RecordType]] = []

    def publish(self, records: tuple[ZoneRecord, ...]) -> None:
        for record in records:
            key = (record.name, record.type)
            known = self.found.get(key, ())
            assert not isinstance(known, DnsFault)
            self.found[key] = (*known, record.data)

    async def read(self, name: str, type: RecordType) -> Found:
        self.asked.append((name, type))
        return self.found.get((name, type), ())


class StillProbes:
    """`LiveProbes` with a fixed outcome."""

    def __init__(self) -> None:
        self.results: tuple[ProbeResult, ...] = (ProbeResult(name="https", is_ok=True),)
        self.outbound: list[str] = []

    async def look(self, facts: ZoneFacts, outbound_host: str = "") -> tuple[ProbeResult, ...]:
        self.outbound.append(outbound_host)
        return self.results


class MemoryNotebook:
    """`Notebook` in a dictionary."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    async def recall(self, name: str) -> int | None:
        return self.numbers.get(name)

    async def remember(self, name: str, value: int) -> None:
        self.numbers[name] = value
