"""Couriers: one task per attempt, from a letter in a lane to the change in the queue.

A courier attempts a letter, settles it and ends. What it could not attempt lies in `returns` until
it is handed back as it was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import attrs
import trio

from chatmail.adapters.jobs.healing import Healing
from chatmail.adapters.jobs.lanes import Lane, LaneTable, LetterInHand
from chatmail.adapters.jobs.settling import Settling
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.outbound import OutboundEntry, Settled, Settlement, SettlementKind
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.ports.federation import PeerMemory
from chatmail.domain.ports.outbound import OutboundQueue
from chatmail.domain.ports.system import Clock
from chatmail.domain.usecases.attempt_remote import Attempted, AttemptRemote

ATTEMPT_S: Final = 1500.0
"""An attempt is cut off here; what it was doing may have been done (A3.4)."""
RELEASE_S: Final = 5.0
GRACE_S: Final = 3.0
"""At the end, attempts under way may still finish: one that is cut off may be delivered twice."""
SETTLE_TRIES: Final = 3
"""So often a header block that cannot be read is asked for again before a report goes without."""


@attrs.define(eq=False, kw_only=True)
class Couriers:
    """Sends couriers on their way. State lives in the event loop.

    `wake`: something may go on now. `after_delivery`: gets the lane of a peer that took mail.
    """

    attempt: AttemptRemote
    queue: OutboundQueue
    memory: PeerMemory
    clock: Clock
    settings: Callable[[], SettingsSnapshot]
    heal: Healing
    settling: Settling
    wake: Callable[[], None]
    after_delivery: Callable[[Lane], Awaitable[None]]
    lanes: LaneTable = attrs.field(factory=LaneTable)
    returns: list[LetterInHand] = attrs.field(factory=list)
    _is_leaving: bool = attrs.field(init=False, default=False)
    _attempts: set[trio.CancelScope] = attrs.field(init=False, factory=set)
    _sending: set[trio.CancelScope] = attrs.field(init=False, factory=set)

    def leave(self) -> None:
        """The relay stops: attempts under way have a little time, later ones none. Sync."""
        self._is_leaving = True
        for scope in self._attempts:
            scope.deadline = trio.current_time() + GRACE_S

    def lapse(self) -> None:
        """Another process may have what is in hand: attempt it no further. Sync."""
        for lane in self.lanes.in_turn():
            self.returns += self.lanes.take_all(lane)
        for scope in self._sending:
            scope.cancel()
        self.wake()

    def has_slot(self, lane: Lane) -> bool:
        """Say whether one more courier of this lane may be under way."""
        limits = self.settings().queue
        per_lane = limits.per_destination
        # A few slow peers must not take all slots, so the second half is one for each; and of a
        # peer that did not answer, one probe says enough.
        is_scarce = self.lanes.under_way >= limits.parallelism // 2
        if is_scarce or self.memory.health(lane.domain).connect_fail_streak:
            per_lane = 1
        return (
            lane.under_way < per_lane
            and self.lanes.under_way < limits.parallelism
            and self.lanes.visits[lane.host] < limits.per_destination
        )

    def dispatch(self, lane: Lane, handler_nursery: trio.Nursery) -> bool:
        """Send one courier of this lane on its way, if it may go."""
        if not lane.letters or not self.has_slot(lane):
            return False
        letter = self.lanes.take(lane)
        if letter is None:
            return False
        if letter.leased_until_s - self.clock.now_s() < ATTEMPT_S + RELEASE_S:
            self.returns.append(letter)  # it waited too long for its turn
            self.wake()
            return True
        self.lanes.begin(lane, letter)
        handler_nursery.start_soon(self._deliver, lane, letter)
        return True

    async def _deliver(self, lane: Lane, letter: LetterInHand) -> None:
        """Attempt and settle a letter. A stop gives it a little time; see `run`."""
        is_settled = False
        try:
            with trio.CancelScope(shield=not self._is_leaving) as scope:
                self._attempts.add(scope)
                try:
                    attempted = await self._attempt(lane, letter)
                    if attempted.crowded_host:
                        is_settled = True
                        self.lanes.put_back(lane, letter)
                        return
                    if attempted.is_down:
                        self.returns.extend(self.lanes.take_all(lane))
                    await self._settle(letter, attempted)
                    is_settled = True
                finally:
                    self._attempts.discard(scope)
            if is_settled:
                self._note_dues(lane, attempted)
                if attempted.delivered:
                    with suppress(TransientFailure):  # the schedule stands
                        await self.after_delivery(lane)
        finally:
            self.lanes.end(lane, letter)
            if not is_settled:
                self.returns.append(letter)
            if letter.waiter is not None:
                letter.waiter.refusal = letter.waiter.refusal if is_settled else None
                letter.waiter.done.set()
            self.wake()

    async def _attempt(self, lane: Lane, letter: LetterInHand) -> Attempted:
        visited = ""

        def may_visit(host: str) -> bool:
            nonlocal visited
            lane.host = host
            if self.lanes.visits[host] >= self.settings().queue.per_destination:
                return False
            visited = host
            self.lanes.visit(host)
            return True

        try:
            with trio.move_on_after(ATTEMPT_S) as scope:
                self._sending.add(scope)
                return await self.attempt(letter.entries, letter.read, may_visit)
            return self.attempt.cut_off(letter.entries)
        finally:
            self._sending.discard(scope)
            if visited:
                self.lanes.leave(visited)

    async def _settle(self, letter: LetterInHand, attempted: Attempted) -> None:
        if attempted.is_complete:
            settled = await self.attempt.settlement(attempted, letter.read, is_told=False)
            await self.settling.later(settled)
            return
        is_told = False
        if letter.waiter is not None and letter.waiter.is_waiting:
            # The one point where reply or report is decided: from here on the client waits for us.
            letter.waiter.refusal = attempted.refusal
            is_told = attempted.refusal is not None

        tries = 0

        async def settle() -> float:
            nonlocal tries
            tries += 1
            settled = await self.attempt.settlement(
                attempted, letter.read, is_told=is_told, is_last_try=tries > SETTLE_TRIES
            )
            await self.queue.settle(settled)
            return 0.0

        await self.heal(settle)

    def _note_dues(self, lane: Lane, attempted: Attempted) -> None:
        retries = [one.due_s for one in attempted.verdicts if one.kind is SettlementKind.RETRY]
        if retries:
            lane.next_due_s, lane.has_backlog = min(lane.next_due_s, *retries), True
            lane.noted_at = trio.current_time()

    async def hand_back(self) -> bool:
        """Return what was not attempted, as it was; False: there was nothing."""
        if not self.returns:
            return False
        letters, self.returns = self.returns, []
        entries = [entry for letter in letters for entry in letter.entries]
        try:
            await self.queue.settle(Settled(entries=tuple(map(_untouched, entries))))
        except BaseException:
            self.returns += letters
            raise
        return True


def _untouched(entry: OutboundEntry) -> Settlement:
    return Settlement(
        message=entry.message.id,
        recipient=entry.recipient,
        kind=SettlementKind.RETRY,
        due_s=entry.due_s,
    )
