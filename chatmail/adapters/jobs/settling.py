"""Ends entries that were delivered, several in one transaction.

Nobody waits for it, neither the client nor the sender's next message: the lease keeps others away,
and a crash in the meantime costs a second copy, which the peer knows by its Message-ID
(federation-web.md A3.4, B7.6). So that a crash costs few of them, no more than `MOST` letters
are delivered and not settled; with the next one everybody waits for the store.
"""

from __future__ import annotations

from typing import Final, NoReturn

import attrs
import trio

from chatmail.adapters.jobs.healing import Healing
from chatmail.domain.model.outbound import Settled
from chatmail.domain.ports.outbound import OutboundQueue

PAUSE_S: Final = 0.01
"""So long a delivery waits for others."""
MOST: Final = 4


@attrs.define(eq=False, kw_only=True)
class Settling:
    """Gathers settlements of deliveries. State lives in the event loop."""

    queue: OutboundQueue
    heal: Healing
    _waiting: list[Settled] = attrs.field(init=False, factory=list)
    _is_called: trio.Event = attrs.field(init=False, factory=trio.Event)
    _is_full: trio.Event = attrs.field(init=False, factory=trio.Event)
    _has_room: trio.Event = attrs.field(init=False, factory=trio.Event)

    async def later(self, settled: Settled) -> None:
        """Have this done soon.

        Cancellation:  while there is no room: it is not done then.
        """
        while len(self._waiting) >= MOST:
            await self._has_room.wait()
        self._waiting.append(settled)
        self._is_called.set()
        if len(self._waiting) >= MOST:
            self._is_full.set()

    async def run(self) -> NoReturn:
        """Settle what comes, for ever.

        Cancellation:  safe anywhere; what is left `finish` may do.
        """
        while True:
            await self._is_called.wait()
            with trio.move_on_after(PAUSE_S):
                await self._is_full.wait()
            self._is_called, self._is_full = trio.Event(), trio.Event()
            await self.heal(self._settle)

    async def finish(self) -> None:
        """Settle all that waits, now. Raises:  TransientFailure: its leases run out."""
        await self._settle()

    async def _settle(self) -> float:
        taken = tuple(self._waiting)
        if taken:
            entries = [entry for settled in taken for entry in settled.entries]
            await self.queue.settle(Settled(entries=tuple(entries)))
            del self._waiting[: len(taken)]
            self._has_room.set()
            self._has_room = trio.Event()
        return 0.0
