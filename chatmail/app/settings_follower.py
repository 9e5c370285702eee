"""Follows settings that another process has stored: one database may serve several."""

from __future__ import annotations

import math
from typing import Final, NoReturn

import trio

from chatmail.app.live_settings import LiveSettings
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.ports.settings import SettingsStore

POLL_S: Final = 30.0
"""Backstop: a hint of another process may be lost."""


class SettingsFollower:
    """Looks at the store's generation when poked, and now and then if others write there."""

    def __init__(self, store: SettingsStore, settings: LiveSettings, *, is_shared: bool) -> None:
        """Args:  is_shared: other processes may change settings."""
        self._store = store
        self._settings = settings
        self._pause_s = POLL_S if is_shared else math.inf
        self._poked = trio.Event()

    def poke(self) -> None:
        """Have the store looked at soon. Sync; called as often as one likes."""
        self._poked.set()

    async def run(self) -> NoReturn:
        """Follow until cancelled."""
        while True:
            with trio.move_on_after(self._pause_s):
                await self._poked.wait()
            self._poked = trio.Event()
            await self.refresh()

    async def refresh(self) -> None:
        """Take over what is stored if it has changed; a store in trouble is asked later."""
        try:
            if await self._store.generation() != self._settings.generation:
                self._settings.follow(await self._store.all())
        except TransientFailure:
            return
