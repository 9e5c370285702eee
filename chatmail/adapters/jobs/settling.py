"""Ends entries that were delivered, many in one transaction.

Nobody waits for it: the lease keeps others away, and a crash in the meantime costs a second copy,
which the peer knows by its Message-ID (federation-web.md A3.4, B7.6). One transaction less per
message is a quarter of what handing it over costs.
"""

from __future__ import annotations

from typing import Final, NoReturn

import attrs
import trio

from chatmail.adapters.jobs.healing import Healing
from chatmail.domain.model.outbound import Settled, Settlement
from chatmail.domain.ports.outbound import OutboundQueue

PAUSE_S: Final = 0.1
"""The longest time a delivery is known here alone, as long as the store takes changes."""
MOST: Final = 500
"""Beyond so many entries nobody waits for more of them."""


@attrs.define(eq=False, kw_only=True)
class Settling:
    """Gathers settlements of deliveries. State lives in the event loop."""

    queue: OutboundQueue
    heal: Healing
    _waiting: list[Settlement] = attrs.field(init=False, factory=list)
    _is_called: trio.Event = attrs.field(init=False, factory=trio.Event)
    _is_full: trio.Event = attrs.field(init=False, factory=trio.Event)

    def later(self, settled: Settled) -> None:
        """Have this done soon. Sync."""
        self._waiting.extend(settled.entries)
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
        if self._waiting:
            taken = tuple(self._waiting)
            await self.queue.settle(Settled(entries=taken))
            del self._waiting[: len(taken)]
        return 0.0
