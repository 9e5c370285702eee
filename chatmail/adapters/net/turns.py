"""Whoever works for long takes turns, one slice between two looks at everybody else.

Trio runs whoever is ready in one batch, so thirty busy sessions with slices of half a millisecond
would let a NOOP of somebody else wait for 15 ms. Here one of them passes at a time, and only after
a look at the others that found them idle: a message of somebody else takes a dozen steps one after
the other, and a slice between each two of them would make it four times as slow. Who is short of
work never comes here. No time is lost: there is one processor for all of them.

Those who have not worked for long of late go first, then workers in rotation, however many tasks
each has.

Invariant: while anybody waits, exactly one task was let through and looks at the others or has not
run yet; it lets the next one through before it does anything else. So nobody holds a turn while it
waits for a disk or a peer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

import trio

BUSY_S: Final = 0.1
"""So long after its last turn a worker counts as one that works all the time."""
LOOK_S: Final = 0.0001
"""A look at others takes 25 to 50 µs when they have nothing to do."""
QUIET_LOOKS: Final = 2
"""Trio shuffles each batch, so somebody who runs in every one may not run between two of ours."""
THREAD_S: Final = 0.001
"""What the event loop sleeps for a thread: the kernel's interface knows no shorter time."""
PATIENCE_S: Final = 0.003
"""Others may be busy for ever: a seventh of the processor is left for those who work long."""


class Turns:
    """The turns of one process. Workers are named by a key: all with one key share their turns."""

    __slots__ = ("_fresh", "_is_free", "_is_storing", "_last_turns", "_steady")

    def __init__(self, is_storing: Callable[[], bool] = lambda: False) -> None:
        """Args:  is_storing: whether a thread of the store is at work now."""
        self._is_free = True
        self._is_storing = is_storing
        self._fresh: OrderedDict[Hashable, trio.lowlevel.ParkingLot] = OrderedDict()
        self._steady: OrderedDict[Hashable, trio.lowlevel.ParkingLot] = OrderedDict()
        self._last_turns: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        """How many workers are remembered."""
        return len(self._last_turns)

    @property
    def is_free(self) -> bool:
        """Say whether nobody waits for a turn."""
        return self._is_free

    def is_steady(self, key: Hashable) -> bool:
        """Say whether a worker has worked for long a moment ago."""
        last_turn = self._last_turns.get(key)
        return last_turn is not None and trio.current_time() < last_turn + BUSY_S

    def note(self, key: Hashable) -> None:
        """Take note that a worker has worked for long."""
        now = trio.current_time()
        turns = self._last_turns
        turns[key] = now
        turns.move_to_end(key)
        while now >= next(iter(turns.values())) + BUSY_S:
            turns.popitem(last=False)

    async def take(self, key: Hashable, *, goes_first: bool = False) -> None:
        """Wait for a turn; at least others run once.

        Args:  goes_first: before all others, unless it worked for long a moment ago.
        Cancellation:  loses no turn.
        """
        is_steady = self.is_steady(key)
        self.note(key)
        if not self._is_free:
            waiting = self._steady if is_steady else self._fresh
            lot = waiting.get(key)
            if lot is None:
                lot = waiting[key] = trio.lowlevel.ParkingLot()
                if goes_first and not is_steady:
                    waiting.move_to_end(key, last=False)
            await lot.park()  # cancelled before it is let through, or not at all
        self._is_free = False
        try:
            await self._others_to_rest()
        finally:
            self._pass_on()

    async def _others_to_rest(self) -> None:
        """Look at the others until they have nothing to do, but not for ever.

        The store's threads are others, too: the writer asks for the interpreter some ten times per
        commit, and from a loop that lets it go and takes it back at once it gets it only by chance.
        """
        now = trio.current_time()
        until = now + PATIENCE_S
        quiet = 0
        while quiet < QUIET_LOOKS and now < until:
            before = now
            if self._is_storing():
                await trio.sleep(THREAD_S)
            else:
                await trio.lowlevel.checkpoint()
            now = trio.current_time()
            quiet = quiet + 1 if now - before < LOOK_S else 0

    def _pass_on(self) -> None:
        for waiting in (self._fresh, self._steady):
            while waiting:
                key, lot = waiting.popitem(last=False)
                has_passed = bool(lot.unpark())
                if lot:
                    waiting[key] = lot
                if has_passed:
                    return
        self._is_free = True
