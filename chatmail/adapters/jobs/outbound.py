"""The runner: keeps mail for other relays moving, fairly, and never holds more than it can carry.

Theory of operation. The queue in the store is the truth; what is kept here can be lost at any time.
A *lane* is a destination. Letters (entries of one message for one destination, under a lease) wait
in their lane until a courier takes one: a task that attempts it, settles it and ends. Whenever a
courier ends or something becomes due, the lanes are gone through in turn, and each may start one
courier at a time: a destination with ten thousand messages gets the share of one with a single
message. Chat messages of one sender to one destination go one after another, so that they arrive
in their order; files may be overtaken (A7.6). A destination whose peer does not answer holds no
slot: its letters go back, and one probe is claimed when the peer's pause ends (federation-web.md
A7.4, A7.5).

Fresh letters come in by `start` and `try_now` without a look at the queue.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn

import attrs
import trio

from chatmail.adapters.jobs.couriers import RELEASE_S, Couriers
from chatmail.adapters.jobs.expiry import Expiry
from chatmail.adapters.jobs.healing import Healing, Log
from chatmail.adapters.jobs.lanes import IDLE_S, Lane, LaneTable, LetterInHand, Waiter, letters_of
from chatmail.adapters.jobs.pulse import Pulse
from chatmail.adapters.jobs.settling import Settling
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.policy.retry import FLUSH_INTERVAL_S, after_contact
from chatmail.domain.ports.federation import PeerLedger, PeerMemory
from chatmail.domain.ports.outbound import OutboundQueue
from chatmail.domain.ports.remote import QueuedLetter
from chatmail.domain.ports.system import Clock, Entropy
from chatmail.domain.usecases.attempt_remote import AttemptRemote

LEASE_S: Final = 1800.0
"""Longer than any attempt, so that no message is attempted twice at once."""
CLAIM: Final = 50
"""Entries claimed at once, as many as one `/mxdeliv` takes; they wait without their content."""
FRESH: Final = 16
"""Fresh letters that may wait in one lane: their content is in memory, 256 KiB each at most."""
WAITING_PER_SLOT: Final = 2
"""Beyond so many waiting letters for each attempt that may run, none is claimed ahead."""
LOOK_S: Final = 0.1
"""The shortest time between two looks at everything that waits."""
LOOK_SHARE: Final = 20.0
"""A look reads a row of every entry; it takes a twentieth of the time at most."""
REST_S: Final = 60.0
"""The longest time between two looks: what other processes left behind is found then."""
SAVE_S: Final = 30.0
MAX_CONTACTS: Final = 1000

assert IDLE_S >= FLUSH_INTERVAL_S  # noqa: S101 - a lane that is forgotten forgets its wake-up


@attrs.define(eq=False, kw_only=True)
class OutboundRunner:
    """Runs attempts, and is the `FirstAttempt` of submissions. State lives in the event loop."""

    attempt: AttemptRemote
    queue: OutboundQueue
    memory: PeerMemory
    ledger: PeerLedger
    clock: Clock
    entropy: Entropy
    settings: Callable[[], SettingsSnapshot]
    log: Log
    _heal: Healing = attrs.field(
        init=False,
        default=attrs.Factory(lambda self: Healing(self.log), takes_self=True),
    )
    _couriers: Couriers = attrs.field(
        init=False, default=attrs.Factory(lambda self: self._new_couriers(), takes_self=True)
    )
    _is_running: bool = attrs.field(init=False, default=False)
    _wake: trio.Event = attrs.field(init=False, factory=trio.Event)
    _is_called: trio.Event = attrs.field(init=False, factory=trio.Event)
    _called: list[Lane] = attrs.field(init=False, factory=list)
    _is_stale: bool = attrs.field(init=False, default=True)
    _looked_at: float = attrs.field(init=False, default=-math.inf)
    _look_pause_s: float = attrs.field(init=False, default=LOOK_S)
    _look_took_s: float = attrs.field(init=False, default=0.0)
    _contacts: set[str] = attrs.field(init=False, factory=set)

    def _new_couriers(self) -> Couriers:
        return Couriers(
            attempt=self.attempt,
            queue=self.queue,
            memory=self.memory,
            clock=self.clock,
            settings=self.settings,
            heal=self._heal,
            settling=Settling(queue=self.queue, heal=self._heal),
            wake=self._wake_up,
            after_delivery=self._flush,
        )

    def _wake_up(self) -> None:
        # Fresh letters set out by themselves: unless something else waits, a round finds nothing.
        lanes = self._lanes
        if self._is_stale or lanes.waiting or self._couriers.returns or lanes.is_anything_due:
            self._wake.set()

    @property
    def _lanes(self) -> LaneTable:
        return self._couriers.lanes

    # --- FirstAttempt -----------------------------------------------------------------------------

    def is_worthwhile(self, domain: str) -> bool:
        """Say whether a fresh message to this domain need not go through the queue first."""
        if not self._is_running or self._lanes.waiting >= self._most_waiting():
            return False
        health = self.memory.health(domain)
        if health.connect_fail_streak or health.not_before_s > self.clock.now_s():
            return False
        lane = self._lanes.known(domain)
        return lane is None or (
            len(lane.letters) < FRESH and lane.next_due_s == math.inf and not lane.has_backlog
        )

    async def try_now(self, letter: QueuedLetter, wait_s: float) -> str | None:
        """Attempt a leased letter at once and wait so long for a permanent refusal.

        Returns:  the refusal; its entry is settled then, without a report. None: everything else.
        Cancellation:  the attempt goes on.
        """
        waiter = Waiter()
        if not self._take_in(letter, waiter):
            return None
        try:
            with trio.move_on_after(wait_s):
                await waiter.done.wait()
            if waiter.refusal is not None:
                await waiter.done.wait()  # refused in time; the entry is being settled
        finally:
            waiter.is_waiting = False
        return waiter.refusal

    def start(self, letter: QueuedLetter) -> bool:
        """Attempt a leased letter soon; False: no room, it goes back to the queue."""
        return self._take_in(letter, None)

    def _take_in(self, letter: QueuedLetter, waiter: Waiter | None) -> bool:
        mine = LetterInHand(
            entries=letter.entries,
            read=letter.read,
            leased_until_s=self.clock.now_s() + LEASE_S,
            waiter=waiter,
        )
        if not self.is_worthwhile(mine.domain):
            self._couriers.returns.append(mine)
            self._wake.set()
            return False
        lane = self._lanes.lane(mine.domain)
        self._lanes.add(lane, (mine,))
        self._called.append(lane)
        self._is_called.set()
        return True

    def note_contact(self, domain: str) -> None:
        """A peer was heard of (mail from it, verified): what waits for it may go (A7.3). Sync."""
        lane = self._lanes.known(domain)
        if lane is not None and lane.has_backlog and len(self._contacts) < MAX_CONTACTS:
            self._contacts.add(domain)
            self._wake.set()

    # --- the job ----------------------------------------------------------------------------------

    async def run(self) -> NoReturn:
        """Deliver for ever.

        Cancellation:  safe anywhere. Attempts under way have 3 s to finish; then leases are handed
            back, within 5 s, else they run out.
        """
        self._is_stale, self._looked_at = True, -math.inf
        self._couriers = self._new_couriers()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_for_the_end)
                nursery.start_soon(self._listen)
                nursery.start_soon(self._couriers.settling.run)
                pulse = Pulse(queue=self.queue, lapse=self._couriers.lapse)
                nursery.start_soon(pulse.run)
                nursery.start_soon(self._expiry().run)
                nursery.start_soon(self._save)
                nursery.start_soon(self._answer_calls, nursery)
                self._is_running = True
                await self._go_round(nursery)
        finally:
            self._is_running = False
            with trio.move_on_after(RELEASE_S, shield=True):
                await self._release()

    async def _go_round(self, handler_nursery: trio.Nursery) -> NoReturn:
        async def step() -> float:
            self._is_stale |= await self._couriers.hand_back()
            await self._flush_contacts()
            wait_s = await self._look()
            if await self._serve_in_turn(handler_nursery):
                return 0.0
            return min(wait_s, self._next_due_in())

        while True:
            self._wake = trio.Event()
            wait_s = await self._heal(step)
            with trio.move_on_after(wait_s):
                await self._wake.wait()

    async def _watch_for_the_end(self) -> NoReturn:
        try:
            await trio.sleep_forever()
        finally:
            self._couriers.leave()

    async def _listen(self) -> NoReturn:
        while True:
            await self.queue.wait_for_more()
            self._is_stale = True
            self._wake.set()

    async def _answer_calls(self, handler_nursery: trio.Nursery) -> NoReturn:
        """Start couriers of fresh letters, whatever the round is waiting for."""
        while True:
            await self._is_called.wait()
            self._is_called = trio.Event()
            called, self._called = self._called, []
            for lane in called:
                self._couriers.dispatch(lane, handler_nursery)

    # --- what there is ----------------------------------------------------------------------------

    async def _look(self) -> float:
        """Read what waits, if something may have changed; returns until when that holds."""
        now = trio.current_time()
        due_at = self._looked_at + (self._look_pause_s if self._is_stale else REST_S)
        if now < due_at:
            return due_at - now
        self._is_stale = False
        try:
            backlogs = await self.queue.backlogs()
        except TransientFailure:
            self._is_stale = True
            raise
        is_first, self._looked_at = self._looked_at == -math.inf, trio.current_time()
        took_s, before_s = self._looked_at - now, self._look_took_s
        # The lesser of two: a process that was stopped in one of them was not busy with it.
        self._look_pause_s = max(LOOK_S, LOOK_SHARE * min(took_s, before_s))
        self._look_took_s = took_s
        for lane in self._lanes.in_turn():
            if lane.noted_at < now:
                lane.next_due_s, lane.has_backlog = math.inf, False
            else:  # put off while we were reading: what we read may be older
                self._is_stale = True
        for backlog in backlogs:
            if backlog.next_due_s is not None:
                lane = self._lanes.lane(backlog.domain)
                lane.next_due_s = min(lane.next_due_s, backlog.next_due_s)
                lane.has_backlog = True
                if is_first:
                    lane.starts_at = self._spread()
        self._lanes.forget_empty(self._looked_at)
        return self._look_pause_s if self._is_stale else REST_S

    def _spread(self) -> float:
        """Do not storm all peers at once after a start (A7.2)."""
        delay_s = self.settings().queue.start_delay_s
        chance = int.from_bytes(self.entropy.octets(2)) / 0xFFFF
        return trio.current_time() + delay_s * chance

    # --- turns ------------------------------------------------------------------------------------

    async def _serve_in_turn(self, handler_nursery: trio.Nursery) -> bool:
        """Give every lane one turn; says whether any of them moved."""
        has_moved = False
        for lane in self._lanes.in_turn():
            if self._lanes.under_way >= self.settings().queue.parallelism:
                return False
            if not lane.letters and self._ready_in(lane) <= 0 and self._couriers.has_slot(lane):
                await self._claim(lane)
            has_moved |= self._couriers.dispatch(lane, handler_nursery)
        return has_moved

    def _ready_in(self, lane: Lane) -> float:
        """Seconds until something of the lane may be claimed; inf: nothing is known."""
        now_s = self.clock.now_s()
        not_before_s = self.memory.health(lane.domain).not_before_s
        return max(
            lane.next_due_s - now_s, not_before_s - now_s, lane.starts_at - trio.current_time()
        )

    def _next_due_in(self) -> float:
        # What is ready but was not claimed waits for a slot: the courier that frees one wakes us.
        waits = [self._ready_in(lane) for lane in self._lanes.in_turn() if not lane.letters]
        return min((wait_s for wait_s in waits if wait_s > 0), default=REST_S)

    def _most_waiting(self) -> int:
        return WAITING_PER_SLOT * self.settings().queue.parallelism

    async def _claim(self, lane: Lane) -> None:
        is_probe = self.memory.health(lane.domain).connect_fail_streak > 0
        may_wait = self._lanes.waiting < self._most_waiting()
        limit = CLAIM if may_wait and not is_probe else 1
        now_s = self.clock.now_s()
        entries = await self.queue.claim(lane.domain, now_s, LEASE_S, limit)
        self._lanes.add(lane, letters_of(self.queue, entries, now_s + LEASE_S))
        if len(entries) < limit:
            lane.next_due_s = math.inf
            self._is_stale = True  # what is due later shows at the next look

    # --- wake-ups ---------------------------------------------------------------------------------

    async def _flush(self, lane: Lane) -> None:
        """The peer takes mail: let everything go that waits for a later time (A7.3)."""
        now = trio.current_time()
        if not lane.has_backlog or now < lane.flushed_at + FLUSH_INTERVAL_S:
            return
        lane.flushed_at = now
        await self.queue.wake(lane.domain, self.clock.now_s())
        self._is_stale = True

    async def _flush_contacts(self) -> None:
        while self._contacts:
            lane = self._lanes.known(self._contacts.pop())
            if lane is not None and trio.current_time() >= lane.flushed_at + FLUSH_INTERVAL_S:
                self.memory.remember(after_contact(self.memory.health(lane.domain)))
                await self._flush(lane)

    # --- the end of leases and of lives -----------------------------------------------------------

    async def _release(self) -> None:
        """Hand back whatever is in hand: another process, or the next start, goes on with it."""
        for lane in self._lanes.in_turn():
            self._couriers.returns += self._lanes.take_all(lane)
        with suppress(TransientFailure):  # the leases run out by themselves
            await self._couriers.settling.finish()
            await self._couriers.hand_back()
        self._couriers.returns.clear()
        with suppress(TransientFailure):
            await self._save_once()

    def _expiry(self) -> Expiry:
        return Expiry(
            attempt=self.attempt,
            queue=self.queue,
            clock=self.clock,
            settings=self.settings,
            heal=self._heal,
        )

    async def _save(self) -> NoReturn:
        while True:
            await trio.sleep(SAVE_S)
            await self._heal(self._save_once)

    async def _save_once(self) -> float:
        await self.memory.save(self.clock.now_s())
        await self.ledger.save()
        return 0.0
