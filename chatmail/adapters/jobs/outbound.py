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
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, NoReturn, Protocol

import attrs
import trio

from chatmail.adapters.jobs.lanes import IDLE_S, Lane, LaneTable, LetterInHand, Waiter
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.outbound import (
    OutboundEntry,
    OutboundMessageId,
    Settled,
    Settlement,
    SettlementKind,
)
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.policy.retry import FLUSH_INTERVAL_S, after_contact
from chatmail.domain.ports.federation import PeerLedger, PeerMemory
from chatmail.domain.ports.outbound import OutboundQueue
from chatmail.domain.ports.remote import QueuedLetter
from chatmail.domain.ports.system import Clock, Entropy
from chatmail.domain.usecases.attempt_remote import Attempted, AttemptRemote

LEASE_S: Final = 1800.0
"""Longer than any attempt, so that no message is attempted twice at once."""
ATTEMPT_S: Final = 1500.0
"""An attempt is cut off here; what it was doing may have been done (A3.4)."""
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
EXPIRY_S: Final = 60.0
EXPIRY_BATCH: Final = 1000
"""As many as a message has recipients, so that one that expires is one report."""
SAVE_S: Final = 30.0
GRACE_S: Final = 3.0
"""At the end, attempts under way may still finish: one that is cut off may be delivered twice."""
RELEASE_S: Final = 5.0
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0
SETTLE_TRIES: Final = 3
"""So often a header block that cannot be read is asked for again before a report goes without."""
MAX_CONTACTS: Final = 1000

assert IDLE_S >= FLUSH_INTERVAL_S  # noqa: S101 - a lane that is forgotten forgets its wake-up


class Log(Protocol):
    """Events for the operator. Never a domain, an address or a peer's words."""

    def warning(self, event: str, **fields: object) -> None: ...


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
    _lanes: LaneTable = attrs.field(init=False, factory=LaneTable)
    _is_running: bool = attrs.field(init=False, default=False)
    _wake: trio.Event = attrs.field(init=False, factory=trio.Event)
    _is_called: trio.Event = attrs.field(init=False, factory=trio.Event)
    _called: list[Lane] = attrs.field(init=False, factory=list)
    _is_stale: bool = attrs.field(init=False, default=True)
    _looked_at: float = attrs.field(init=False, default=-math.inf)
    _look_pause_s: float = attrs.field(init=False, default=LOOK_S)
    _paused_at: float = attrs.field(init=False, default=-math.inf)
    _contacts: set[str] = attrs.field(init=False, factory=set)
    _is_leaving: bool = attrs.field(init=False, default=False)
    _attempts: set[trio.CancelScope] = attrs.field(init=False, factory=set)
    _returns: list[LetterInHand] = attrs.field(init=False, factory=list)

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
            self._returns.append(mine)
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
        self._is_stale, self._looked_at, self._lanes = True, -math.inf, LaneTable()
        self._is_leaving = False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_for_the_end)
                nursery.start_soon(self._listen)
                nursery.start_soon(self._expire)
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
            await self._hand_back()
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
            self._is_leaving = True
            for scope in self._attempts:
                scope.deadline = trio.current_time() + GRACE_S

    async def _heal(self, step: Callable[[], Awaitable[float]]) -> float:
        """Do a step on the store; a full disk or a lost database pauses it, and heals."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return await step()
            except TransientFailure:
                if trio.current_time() >= self._paused_at + REST_S:
                    self._paused_at = trio.current_time()
                    self.log.warning("outbound_paused")
                await trio.sleep(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

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
                self._dispatch(lane, handler_nursery)

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
        self._look_pause_s = max(LOOK_S, LOOK_SHARE * (self._looked_at - now))
        for lane in self._lanes.in_turn():
            lane.next_due_s, lane.has_backlog = math.inf, False
        for backlog in backlogs:
            if backlog.next_due_s is not None:
                lane = self._lanes.lane(backlog.domain)
                lane.next_due_s, lane.has_backlog = backlog.next_due_s, True
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
            if not lane.letters and self._ready_in(lane) <= 0 and self._has_slot(lane):
                await self._claim(lane)
            has_moved |= self._dispatch(lane, handler_nursery)
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

    def _has_slot(self, lane: Lane) -> bool:
        limits = self.settings().queue
        per_lane = limits.per_destination
        # A few slow peers must not take all slots, so the second half is one for each; and of a
        # peer that did not answer, one probe says enough.
        is_scarce = self._lanes.under_way >= limits.parallelism // 2
        if is_scarce or self.memory.health(lane.domain).connect_fail_streak:
            per_lane = 1
        return lane.under_way < per_lane and self._lanes.under_way < limits.parallelism

    async def _claim(self, lane: Lane) -> None:
        is_probe = self.memory.health(lane.domain).connect_fail_streak > 0
        may_wait = self._lanes.waiting < self._most_waiting()
        limit = CLAIM if may_wait and not is_probe else 1
        now_s = self.clock.now_s()
        entries = await self.queue.claim(lane.domain, now_s, LEASE_S, limit)
        self._lanes.add(lane, self._letters(entries, now_s + LEASE_S))
        if len(entries) < limit:
            lane.next_due_s = math.inf
            self._is_stale = True  # what is due later shows at the next look

    def _letters(self, entries: Sequence[OutboundEntry], until_s: float) -> list[LetterInHand]:
        by_message: dict[OutboundMessageId, list[OutboundEntry]] = {}
        for entry in entries:
            by_message.setdefault(entry.message.id, []).append(entry)
        return [
            LetterInHand(entries=tuple(group), read=self._reader(message), leased_until_s=until_s)
            for message, group in by_message.items()
        ]

    def _reader(self, message: OutboundMessageId) -> Callable[[int, int], Awaitable[bytes]]:
        async def read(offset: int, length: int) -> bytes:
            return await self.queue.read(message, offset, length)

        return read

    # --- couriers ---------------------------------------------------------------------------------

    def _dispatch(self, lane: Lane, handler_nursery: trio.Nursery) -> bool:
        """Send one courier of this lane on its way, if it may go."""
        if not lane.letters or not self._has_slot(lane):
            return False
        letter = self._lanes.take(lane)
        if letter is None:
            return False
        if letter.leased_until_s - self.clock.now_s() < ATTEMPT_S + RELEASE_S:
            self._returns.append(letter)  # it waited too long for its turn
            self._wake.set()
            return True
        self._lanes.begin(lane, letter)
        handler_nursery.start_soon(self._deliver, lane, letter)
        return True

    async def _deliver(self, lane: Lane, letter: LetterInHand) -> None:
        """Attempt and settle a letter. A stop gives it a little time; see `run`."""
        is_settled = False
        try:
            with trio.CancelScope(shield=not self._is_leaving) as scope:
                self._attempts.add(scope)
                try:
                    attempted = await self._attempt(letter)
                    if attempted.is_down:
                        self._returns.extend(self._lanes.take_all(lane))
                    await self._settle(letter, attempted)
                    is_settled = True
                finally:
                    self._attempts.discard(scope)
            if is_settled:
                self._note_dues(lane, attempted)
                if attempted.delivered:
                    with suppress(TransientFailure):  # the schedule stands
                        await self._flush(lane)
        finally:
            self._lanes.end(lane, letter)
            if not is_settled:
                self._returns.append(letter)
            if letter.waiter is not None:
                letter.waiter.refusal = letter.waiter.refusal if is_settled else None
                letter.waiter.done.set()
            self._wake.set()

    async def _attempt(self, letter: LetterInHand) -> Attempted:
        with trio.move_on_after(ATTEMPT_S):
            return await self.attempt(letter.entries, letter.read)
        return self.attempt.cut_off(letter.entries)

    async def _settle(self, letter: LetterInHand, attempted: Attempted) -> None:
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

        await self._heal(settle)

    def _note_dues(self, lane: Lane, attempted: Attempted) -> None:
        retries = [one.due_s for one in attempted.verdicts if one.kind is SettlementKind.RETRY]
        if retries:
            lane.next_due_s, lane.has_backlog = min(lane.next_due_s, *retries), True

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

    async def _hand_back(self) -> None:
        """Return what was not attempted, as it was."""
        if not self._returns:
            return
        letters, self._returns = self._returns, []
        entries = [entry for letter in letters for entry in letter.entries]
        try:
            await self.queue.settle(Settled(entries=tuple(map(_untouched, entries))))
        except BaseException:
            self._returns += letters
            raise
        self._is_stale = True

    async def _release(self) -> None:
        """Hand back whatever is in hand: another process, or the next start, goes on with it."""
        for lane in self._lanes.in_turn():
            self._returns += self._lanes.take_all(lane)
        with suppress(TransientFailure):  # the leases run out by themselves
            await self._hand_back()
        self._returns.clear()
        with suppress(TransientFailure):
            await self._save_once()

    async def _expire(self) -> NoReturn:
        while True:
            await self._heal(self._expire_some)
            limits = self.settings().queue
            shortest_s = min(limits.max_age_s, limits.dsn_max_age_s) / 10
            await trio.sleep(min(EXPIRY_S, max(1.0, shortest_s)))

    async def _expire_some(self) -> float:
        """Give up what is too old, due or not; one report per message (A7.1)."""
        while True:
            limits, now_s = self.settings().queue, self.clock.now_s()
            entries = await self.queue.claim_expired(
                now_s,
                now_s - limits.max_age_s,
                now_s - limits.dsn_max_age_s,
                LEASE_S,
                EXPIRY_BATCH,
            )
            for letter in self._letters(entries, now_s + LEASE_S):
                given_up = self.attempt.give_up(letter.entries)
                settled = await self.attempt.settlement(given_up, letter.read, is_told=False)
                await self.queue.settle(settled)
            if len(entries) < EXPIRY_BATCH:
                return 0.0

    async def _save(self) -> NoReturn:
        while True:
            await trio.sleep(SAVE_S)
            await self._heal(self._save_once)

    async def _save_once(self) -> float:
        await self.memory.save(self.clock.now_s())
        await self.ledger.save()
        return 0.0


def _untouched(entry: OutboundEntry) -> Settlement:
    return Settlement(
        message=entry.message.id,
        recipient=entry.recipient,
        kind=SettlementKind.RETRY,
        due_s=entry.due_s,
    )
