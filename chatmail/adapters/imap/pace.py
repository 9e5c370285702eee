"""A long command gives others their turn and is never silent for long.

Core gives a session up after 60 s without an octet, and a person much earlier: what is ready leaves
within half a second, and where nothing is, a line says so every ten.
Source:  spec mail 3.4 and 4.4 (FETCH: first octet in less than 1 s, no gap above 20 s).
"""

from __future__ import annotations

import math
from typing import Final

import trio

from chatmail.adapters.imap.session import Session
from chatmail.domain.wire.imap.responses import untagged_ok

READY_S: Final = 0.5
SILENT_S: Final = 10.0
LOOK_S: Final = 0.05
"""Between two looks at what there is to write."""
TICKS_PER_TURN: Final = 500
_STILL_WORKING: Final = untagged_ok("Still working")


class Pace:
    """The pace of one command. `tick` stands between whole response lines only."""

    __slots__ = ("_began_s", "_look_s", "_session", "_ticks")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._ticks = 0
        self._began_s = trio.current_time()
        self._look_s = self._began_s + LOOK_S

    async def tick(self) -> None:
        """Give way if this turn was long; write if there is or should be something to read."""
        self._ticks += 1
        now = trio.current_time()
        if now >= self._look_s:  # to wait for a disk is no work, and yet time
            self._look_s = now + LOOK_S
            await self._write(now - max(self._began_s, self._session.flushed_s))
        if now >= self._session.turn_until or self._ticks >= TICKS_PER_TURN:
            self._ticks = 0
            await self._session.give_way()

    async def _write(self, silent_s: float) -> None:
        session = self._session
        if session.queued_octets == 0 and silent_s >= SILENT_S:
            session.send(_STILL_WORKING)
        if session.queued_octets and silent_s >= READY_S:
            session.scope.deadline = math.inf  # the stream watches the progress of a slow reader
            await session.flush()
