"""Sessions that work for long take turns, one slice between two looks at everybody else.

Trio runs whoever is ready in one batch, so thirty busy sessions with slices of 2 ms would let a
NOOP of somebody else wait for 60 ms. Here one of them passes per batch, in the order they came;
who is short of work never comes here. No time is lost: there is one processor for all of them.

Invariant: while anybody waits, exactly one task was let through and has not run yet; that task lets
the next one through when it runs, before it does anything else. So nobody holds a turn while it
waits for a disk or a peer.
"""

from __future__ import annotations

import trio


class Turns:
    """The turns of one process."""

    __slots__ = ("_is_free", "_waiting")

    def __init__(self) -> None:
        self._is_free = True
        self._waiting = trio.lowlevel.ParkingLot()

    async def take(self) -> None:
        """Wait for a turn; at least others run once.

        Cancellation:  loses no turn.
        """
        if not self._is_free:
            await self._waiting.park()  # cancelled before it is let through, or not at all
            self._pass_on()
            return
        self._is_free = False
        try:
            await trio.lowlevel.checkpoint()
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        if not self._waiting.unpark():
            self._is_free = True
