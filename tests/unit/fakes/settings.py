"""Stored settings in a dictionary, and a configuration below them."""

from __future__ import annotations

from collections.abc import Mapping

from chatmail.domain.model.settings import SettingValue
from chatmail.domain.ports.settings import StoredSettings


class MemorySettingsStore:
    """`SettingsStore` in a dictionary. `rivals` are changes by others, made before ours."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self.values = dict(values or {})
        self.number = 0
        self.rivals: list[Mapping[str, str | None]] = []

    async def all(self) -> StoredSettings:
        return StoredSettings(self.number, dict(sorted(self.values.items())))

    async def generation(self) -> int:
        return self.number

    async def change(
        self, changes: Mapping[str, str | None], expected_generation: int | None = None
    ) -> StoredSettings | None:
        if self.rivals:
            self._apply(self.rivals.pop(0))
        if expected_generation is not None and expected_generation != self.number:
            return None
        self._apply(changes)
        return await self.all()

    def _apply(self, changes: Mapping[str, str | None]) -> None:
        self.number += 1
        for key, text in changes.items():
            self.values.pop(key, None)
            if text is not None:
                self.values[key] = text


class FixedConfiguration:
    """`SettingsInForce` over a table of values; remembers what it was told to follow."""

    def __init__(self, values: Mapping[str, SettingValue]) -> None:
        self.values = values
        self.followed: list[StoredSettings] = []
        self.misfits: dict[tuple[str, str], str] = {}
        self.prepared: list[dict[str, str | None]] = []
        self.obstacles: tuple[str, ...] = ()

    def configured(self, config_key: str) -> SettingValue:
        return self.values.get(config_key, 0)

    def origin(self, config_key: str) -> str:
        return "file" if config_key in self.values else "default"

    def problems(self, values: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(self.misfits[pair] for pair in values.items() if pair in self.misfits)

    async def prepare(self, changes: Mapping[str, str | None]) -> tuple[str, ...]:
        self.prepared.append(dict(changes))
        return self.obstacles

    def follow(self, stored: StoredSettings) -> None:
        self.followed.append(stored)

    def is_pending(self, key: str) -> bool:
        return False
