"""Steps on a store that may be full or away for a while."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import attrs
import trio

from chatmail.domain.model.errors import TransientFailure

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0
TELL_EVERY_S: Final = 60.0


class Log(Protocol):
    """Events for the operator. Never a domain, an address or a peer's words."""

    def warning(self, event: str, **fields: object) -> None: ...


@attrs.define(eq=False)
class Healing:
    """Repeats what fails for now, with pauses that grow; the operator is told once a minute."""

    log: Log
    _told_at: float = attrs.field(init=False, default=-math.inf)

    async def __call__(self, step: Callable[[], Awaitable[float]]) -> float:
        """Do a step until it does not fail. Cancellation:  safe wherever the step is."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return await step()
            except TransientFailure:
                if trio.current_time() >= self._told_at + TELL_EVERY_S:
                    self._told_at = trio.current_time()
                    self.log.warning("outbound_paused")
                await trio.sleep(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
