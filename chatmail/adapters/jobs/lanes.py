"""What the outbound runner has in hand: letters by destination, and whose turn it is.

Plain bookkeeping in the event loop; nothing here waits. Counters are kept so that a decision costs
the same whatever the number of lanes.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Final

import attrs
import trio

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.outbound import OutboundEntry, OutboundMessageId
from chatmail.domain.ports.outbound import OutboundQueue

SMALL_BYTES: Final = 64 * 1024
"""Up to here a message is chat; a larger one is a file, which other messages may overtake."""
IDLE_S: Final = 30.0
"""An empty lane is kept so long: it remembers when its destination was woken last."""


@attrs.define(eq=False, kw_only=True)
class Waiter:
    """A client that waits for the refusal of a first attempt."""

    is_waiting: bool = True
    refusal: str | None = None
    done: trio.Event = attrs.field(factory=trio.Event)


@attrs.define(eq=False, kw_only=True)
class LetterInHand:
    """Leased entries of one message for one destination. `read` gives the stored octets."""

    entries: tuple[OutboundEntry, ...]
    read: Callable[[int, int], Awaitable[bytes]]
    leased_until_s: float
    waiter: Waiter | None = None

    @property
    def domain(self) -> str:
        """The destination."""
        return self.entries[0].domain

    @property
    def turn(self) -> EmailAddress | None:
        """Whose messages go one after another, so that a chat keeps its order; None: no one's."""
        message = self.entries[0].message
        return message.reverse_path if message.size < SMALL_BYTES else None


@attrs.define(eq=False, kw_only=True)
class Lane:
    """A destination.

    Attributes:
        letters: those in hand that nobody attempts yet. under_way: couriers. busy: whose chat
            messages are under way.
        next_due_s: when the queue has something for it, unix time; inf: nothing is known.
        has_backlog: something waits in the queue for a later time.
        host: where its last courier went; other destinations may be there, too (A7.4).
        starts_at: nothing is claimed before (loop time). flushed_at: the last wake-up of all.
        noted_at: when a courier last put something off (loop time).
    """

    domain: str
    letters: deque[LetterInHand] = attrs.field(factory=deque)
    under_way: int = 0
    busy: set[EmailAddress] = attrs.field(factory=set)
    next_due_s: float = math.inf
    has_backlog: bool = False
    host: str = ""
    starts_at: float = -math.inf
    flushed_at: float = -math.inf
    noted_at: float = -math.inf


@attrs.define(eq=False)
class LaneTable:
    """All lanes, the one served longest ago first."""

    under_way: int = 0
    waiting: int = 0
    visits: Counter[str] = attrs.field(factory=Counter)
    _lanes: OrderedDict[str, Lane] = attrs.field(factory=OrderedDict)

    def lane(self, domain: str) -> Lane:
        """Return the lane of a destination; a new one has its turn next."""
        lane = self._lanes.get(domain)
        if lane is None:
            lane = self._lanes[domain] = Lane(domain=domain)
            self._lanes.move_to_end(domain, last=False)
        return lane

    def known(self, domain: str) -> Lane | None:
        """Return the lane of a destination if there is one."""
        return self._lanes.get(domain)

    @property
    def is_anything_due(self) -> bool:
        """Say whether the queue is known to have something, now or later."""
        return any(lane.next_due_s != math.inf for lane in self._lanes.values())

    def in_turn(self) -> list[Lane]:
        """Return all lanes, the one served longest ago first."""
        return list(self._lanes.values())

    def add(self, lane: Lane, letters: Iterable[LetterInHand]) -> None:
        """Put letters at the end of a lane."""
        before = len(lane.letters)
        lane.letters.extend(letters)
        self.waiting += len(lane.letters) - before

    def take(self, lane: Lane) -> LetterInHand | None:
        """Take the next letter whose turn it is, None: there is none; the lane had its turn."""
        for place, letter in enumerate(lane.letters):
            if letter.turn not in lane.busy:
                del lane.letters[place]
                self.waiting -= 1
                self._lanes.move_to_end(lane.domain)
                return letter
        return None

    def put_back(self, lane: Lane, letter: LetterInHand) -> None:
        """Put a letter that was taken in front of the others again."""
        lane.letters.appendleft(letter)
        self.waiting += 1

    def take_all(self, lane: Lane) -> list[LetterInHand]:
        """Take all letters of a lane that wait."""
        letters = list(lane.letters)
        lane.letters.clear()
        self.waiting -= len(letters)
        return letters

    def begin(self, lane: Lane, letter: LetterInHand) -> None:
        """A courier sets out."""
        lane.under_way += 1
        self.under_way += 1
        if letter.turn is not None:
            lane.busy.add(letter.turn)

    def end(self, lane: Lane, letter: LetterInHand) -> None:
        """A courier is back."""
        lane.under_way -= 1
        self.under_way -= 1
        if letter.turn is not None:
            lane.busy.discard(letter.turn)

    def visit(self, host: str) -> None:
        """A courier is at a host from now on."""
        self.visits[host] += 1

    def leave(self, host: str) -> None:
        """A courier has left a host."""
        self.visits[host] -= 1
        if not self.visits[host]:
            del self.visits[host]

    def forget_empty(self, now: float) -> None:
        """Drop lanes that nothing is known of."""
        for lane in self.in_turn():
            is_busy = lane.letters or lane.under_way or lane.next_due_s != math.inf
            if not is_busy and lane.flushed_at + IDLE_S <= now:
                del self._lanes[lane.domain]


def letters_of(
    queue: OutboundQueue, entries: Sequence[OutboundEntry], until_s: float
) -> list[LetterInHand]:
    """Make letters of claimed entries, one per message; their content is read when it is sent."""
    by_message: dict[OutboundMessageId, list[OutboundEntry]] = {}
    for entry in entries:
        by_message.setdefault(entry.message.id, []).append(entry)
    return [
        LetterInHand(
            entries=tuple(group), read=partial(queue.read, message), leased_until_s=until_s
        )
        for message, group in by_message.items()
    ]
