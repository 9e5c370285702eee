"""Settings that another process has stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing

from chatmail.app.live_settings import LiveSettings
from chatmail.app.settings_follower import POLL_S, SettingsFollower
from chatmail.domain.model.errors import TransientFailure
from tests.unit.app.test_live_settings import FieldLog, loaded
from tests.unit.fakes.settings import MemorySettingsStore

LANGUAGE = {"__LANGUAGE__": "fa"}


class Counted(MemorySettingsStore):
    """Counts how often it is asked; may be in trouble."""

    asked = 0
    is_broken = False

    async def generation(self) -> int:
        self.asked += 1
        if self.is_broken:
            raise TransientFailure("down")
        return self.number


@asynccontextmanager
async def following(
    store: Counted, *, is_shared: bool
) -> AsyncIterator[tuple[LiveSettings, SettingsFollower]]:
    settings = LiveSettings(loaded(), FieldLog())
    settings.start_with(await store.all())
    follower = SettingsFollower(store, settings, is_shared=is_shared)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.run)
        await trio.testing.wait_all_tasks_blocked()
        yield settings, follower
        nursery.cancel_scope.cancel()


async def test_a_poke_takes_over_what_another_process_stored(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = Counted()
    async with following(store, is_shared=False) as (settings, follower):
        await store.change(LANGUAGE)
        await trio.sleep(10 * POLL_S)
        assert settings.boot.web.language == "en"
        follower.poke()
        follower.poke()
        await trio.testing.wait_all_tasks_blocked()
        assert settings.boot.web.language == "fa"
        assert store.asked == 1


async def test_a_lost_hint_is_made_up_for_where_others_write(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = Counted()
    async with following(store, is_shared=True) as (settings, _):
        await store.change(LANGUAGE)
        await trio.sleep(POLL_S + 1)
        assert settings.boot.web.language == "fa"


async def test_trouble_of_the_store_is_outlived(autojump_clock: trio.testing.MockClock) -> None:
    store = Counted()
    store.is_broken = True
    async with following(store, is_shared=True) as (settings, follower):
        await store.change(LANGUAGE)
        follower.poke()
        await trio.sleep(1)
        assert settings.boot.web.language == "en"
        store.is_broken = False
        await trio.sleep(POLL_S)
        assert settings.boot.web.language == "fa"
