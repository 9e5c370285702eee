"""Says that there is something to do."""

from __future__ import annotations

import trio


class Board:
    """A bell that rings until somebody has heard it."""

    def __init__(self) -> None:
        self._added = trio.Event()

    def ring(self) -> None:
        """Note an addition."""
        self._added.set()

    async def wait(self) -> None:
        """Return when there was an addition since the last return."""
        await self._added.wait()
        self._added = trio.Event()
