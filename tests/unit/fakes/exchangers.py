"""Exchangers in dictionaries."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import trio

from chatmail.domain.model.exchanger import Exchanger


class MemoryExchangerStore:
    """`ExchangerStore` in dictionaries."""

    def __init__(self) -> None:
        self.exchangers: dict[str, Exchanger] = {}
        self.taken: dict[bytes, int] = {}
        self._changed = trio.Event()

    async def all(self) -> Sequence[Exchanger]:
        await trio.lowlevel.checkpoint()
        return [self.exchangers[name] for name in sorted(self.exchangers)]

    async def put(self, exchanger: Exchanger) -> None:
        await trio.lowlevel.checkpoint()
        known = self.exchangers.get(exchanger.name)
        last_poll_s = known.last_poll_s if known else 0
        self.exchangers[exchanger.name] = attrs.evolve(exchanger, last_poll_s=last_poll_s)
        self._changed.set()

    async def remove(self, name: str) -> bool:
        await trio.lowlevel.checkpoint()
        return self.exchangers.pop(name, None) is not None

    async def enable(self, name: str, is_enabled: bool) -> bool:
        await trio.lowlevel.checkpoint()
        known = self.exchangers.get(name)
        if known is not None:
            self.exchangers[name] = attrs.evolve(known, is_enabled=is_enabled)
            self._changed.set()
        return known is not None

    async def claim(self, name: str, now_s: int) -> bool:
        await trio.lowlevel.checkpoint()
        known = self.exchangers.get(name)
        if known is None or not known.is_enabled:
            return False
        # A clock that was set back does not stop it for long.
        if known.last_poll_s <= now_s < known.last_poll_s + known.interval_s:
            return False
        self.exchangers[name] = attrs.evolve(known, last_poll_s=now_s)
        return True

    async def is_taken(self, key: bytes, now_s: int) -> bool:
        await trio.lowlevel.checkpoint()
        return self.taken.get(key, 0) > now_s

    async def note_taken(self, key: bytes, until_s: int) -> None:
        await trio.lowlevel.checkpoint()
        self.taken[key] = until_s

    async def wait_for_more(self) -> None:
        await self._changed.wait()
        self._changed = trio.Event()
