"""Contract of the settings store."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatmail.domain.ports.settings import SettingsStore, StoredSettings
from tests.unit.fakes.settings import MemorySettingsStore
from tests.unit.ports.world import IMPLEMENTATIONS, Stores


@pytest.fixture
def settings(stores: Stores) -> SettingsStore:
    if stores.store is None:
        return MemorySettingsStore()
    store: SettingsStore = stores.store.settings
    return store


async def test_nothing_is_stored_at_first(settings: SettingsStore) -> None:
    assert await settings.all() == StoredSettings(0, {})
    assert await settings.generation() == 0


async def test_each_change_raises_the_generation_by_one(settings: SettingsStore) -> None:
    first = await settings.change({"__B__": "2", "__A__": "1"})
    assert first == StoredSettings(1, {"__A__": "1", "__B__": "2"})
    assert await settings.change({"__A__": "3"}) == StoredSettings(2, {"__A__": "3", "__B__": "2"})
    assert await settings.change({"__A__": None, "__NEVER__": None}) == StoredSettings(
        3, {"__B__": "2"}
    )
    assert await settings.generation() == 3
    assert await settings.all() == StoredSettings(3, {"__B__": "2"})


async def test_a_change_on_an_old_generation_changes_nothing(settings: SettingsStore) -> None:
    await settings.change({"__A__": "1"}, 0)
    assert await settings.change({"__A__": "2", "__B__": "2"}, 0) is None
    assert await settings.all() == StoredSettings(1, {"__A__": "1"})
    assert await settings.change({"__A__": "2"}, 1) == StoredSettings(2, {"__A__": "2"})


async def test_texts_come_back_as_they_were(settings: SettingsStore) -> None:
    texts = {"__EMPTY__": "", "__LINES__": "a\nb", "__WORDS__": "ünï ' \" \\ %s {x}"}
    await settings.change(texts)
    assert (await settings.all()).values == texts


@pytest.mark.parametrize("kind", [name for name in IMPLEMENTATIONS if name != "memory"])
async def test_settings_outlive_the_process(kind: str, tmp_path: Path) -> None:
    async with IMPLEMENTATIONS[kind](tmp_path) as stores:
        await stores.store.settings.change({"__A__": "1"})
    if kind == "sqlite":
        async with IMPLEMENTATIONS[kind](tmp_path) as stores:
            assert await stores.store.settings.all() == StoredSettings(1, {"__A__": "1"})
