"""Says that this process lives, and takes over from those that do not.

Where several processes share a database, what a dead one had in hand is freed by the others as
soon as it has been silent for `SILENT_S` (`OutboundQueue.keep_alive`). So a process that could not
say so for nearly as long has to take its hands off: another may be sending the same messages.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn

import attrs
import trio

from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.ports.outbound import OutboundQueue

BEAT_S: Final = 10.0
HOLD_S: Final = 35.0
"""Less than what others wait (`SILENT_S` of the store), with time to stop what is under way."""
RETRY_S: Final = 1.0


@attrs.define(eq=False, kw_only=True)
class Pulse:
    """Beats. `lapse`: others may take over what this process has in hand. Sync."""

    queue: OutboundQueue
    lapse: Callable[[], None]

    async def run(self) -> NoReturn:
        """Beat for ever. Cancellation:  safe anywhere."""
        holds_until = trio.current_time() + HOLD_S
        has_lapsed = False
        while True:
            began = trio.current_time()
            is_told = False
            with trio.move_on_at(max(holds_until, began + RETRY_S)), suppress(TransientFailure):
                await self.queue.keep_alive()
                is_told = True
            # A process that was stopped and goes on comes by here, too.
            if trio.current_time() >= holds_until and not has_lapsed:
                self.lapse()
                has_lapsed = True  # what is leased from here on is ours: the store said so
            if is_told:
                holds_until, has_lapsed = began + HOLD_S, False
            await trio.sleep(BEAT_S if is_told else RETRY_S)
