"""How an IMAP connection waits: for its client, for news, for its turn.

Cancellation: one scope encloses the connection. Its deadline is moved at each wait for input and is
far away or lifted while a command runs, so neither a timeout nor a drain cuts a command in half.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import Final

import trio

from chatmail.adapters.imap.output import Output
from chatmail.adapters.imap.replies import BYE_INACTIVE, BYE_RESTARTING, BYE_SESSION_CLOSED
from chatmail.adapters.imap.selection import Notifier, Selection
from chatmail.adapters.imap.services import ByteStream, ImapServices
from chatmail.adapters.net.errors import PeerGone
from chatmail.domain.model.account import Account
from chatmail.domain.wire.imap.events import NEED_DATA, Event
from chatmail.domain.wire.imap.server import ServerMachine

FLUSH_OCTETS: Final = 64 * 1024
FIRST_COMMAND_S: Final = 60.0
LOGIN_S: Final = 180.0
INACTIVITY_S: Final = 1800.0
TRANSFER_S: Final = 120.0
"""Longest pause inside a message that is being appended."""
INACTIVITY_SLACK_S: Final = 30.0
"""How much later the end of a session without commands may come."""
COMMAND_S: Final = 600.0
"""A deadline further away than this is left standing while a command runs: moving it costs more
than all else in a wait."""
BURST_S: Final = 0.020
"""Pause behind news that nobody waited for a command to tell: what comes meanwhile is one line."""
EVENTS_PER_TURN: Final = 32
"""Pipelined commands executed before other connections get a turn."""
SLICE_S: Final = 0.0005
"""Work at a stretch before other connections get a turn."""


class Farewell(Exception):
    """The connection ends after `octets`. Raised by handlers, caught by the server loop."""

    def __init__(self, octets: bytes = b"") -> None:
        super().__init__("connection ends")
        self.octets = octets


class Waits(Output):
    """The connection's scope, its machine, and who may end a wait."""

    __slots__ = (
        "_events",
        "_farewell",
        "_idle_scope",
        "_received_s",
        "_teller",
        "account_or_none",
        "is_mute",
        "is_waiting",
        "is_woken",
        "machine",
        "notifier",
        "scope",
        "selection",
        "services",
        "started_s",
        "turn_until",
    )

    def __init__(self, stream: ByteStream, services: ImapServices, scope: trio.CancelScope) -> None:
        super().__init__(stream, trio.current_time())
        self.services = services
        self.scope = scope
        self.machine = ServerMachine(
            tls_active=stream.is_tls,
            max_append_bytes=services.settings().limits.max_message_bytes,
        )
        self.started_s = self.flushed_s
        self.account_or_none: Account | None = None
        self.selection: Selection | None = None
        self.notifier: Notifier | None = None
        self.is_woken = False  # for the notifier: something may have to be told
        self.is_mute = False  # nothing may be sent before the client does
        self.is_waiting = False
        self.turn_until = self.started_s + SLICE_S
        self._received_s = 0.0
        self._events = 0
        self._idle_scope: trio.CancelScope | None = None
        self._teller: Callable[[], bool] | None = None
        self._farewell: bytes | None = None

    # --- output ------------------------------------------------------------------------------

    async def flush_if_large(self) -> None:
        """Write and give way to others once 64 KiB are queued."""
        if self._out_octets >= FLUSH_OCTETS:
            # A slow reader may take longer than any patience; the stream watches its progress.
            self.scope.deadline = math.inf
            await self.flush()
            if trio.current_time() >= self.turn_until:
                await self.give_way()

    async def give_way(self) -> None:
        """Let others run, and wait until it is this session's turn among those that work long."""
        await self.services.turns.take(self._worker)
        self.turn_until = trio.current_time() + SLICE_S

    @property
    def _worker(self) -> Hashable:
        """Whose turns this session takes: its account's, however many sessions that has."""
        account = self.account_or_none
        return self if account is None else account.id

    # --- input -------------------------------------------------------------------------------

    async def next_event(self, patience_s: float | None = None) -> Event:
        """Return the next event of the client; writes what is queued before it waits.

        Args:  patience_s: the longest pause of the client; None: what the session state allows.
        Raises:  Farewell: a timeout, or the server is shutting down. PeerGone: end of input.
        """
        while True:
            event = self.machine.next_event()
            if event is not NEED_DATA:
                if self._farewell is not None:
                    raise Farewell(self._farewell)
                self._events += 1
                # Commands may be short and many: the slice is the session's, not the command's.
                now, self._received_s = self._received_s or trio.current_time(), 0.0
                if self._events % EVENTS_PER_TURN == 0 or now >= self.turn_until:
                    await self.flush_if_large()
                    await self.give_way()
                return event
            deadline = None if patience_s is None else trio.current_time() + patience_s
            if self.notifier is not None and patience_s is None:
                octets = await self._receive_notified(self.notifier, self._deadline())
            else:
                octets = await self.receive(deadline)
            # Live settings: what was waited for is judged by the limit of this moment.
            self.machine.max_append_bytes = self.services.settings().limits.max_message_bytes
            self.machine.receive_data(octets)

    def _deadline(self, now_s: float | None = None) -> float:
        if self.account_or_none is not None:
            return (trio.current_time() if now_s is None else now_s) + INACTIVITY_S
        if self._events == 0:
            return self.started_s + FIRST_COMMAND_S
        return self.started_s + LOGIN_S

    async def receive(self, deadline: float | None) -> bytes:
        """Flush, then wait for octets until `deadline` (Trio's clock); None: as state allows."""
        now = await self._flush_and_stand_back()
        if deadline is None:
            deadline = self._deadline(now)
        if self._farewell is not None:
            raise Farewell(self._farewell)
        slack = 0.0 if self.account_or_none is None else INACTIVITY_SLACK_S
        if not deadline <= self.scope.deadline <= deadline + slack:
            self.scope.deadline = deadline + slack
        self._begin_to_wait(now)
        octets = await self.stream.receive_some()
        return self._received(octets)

    async def _flush_and_stand_back(self) -> float:
        """Write what is queued; wait for a turn before more is read, if work never ends here.

        To read is work as well: to decipher, to inflate, to throw away what nobody asked for.

        Returns:  the present time.
        """
        has_output = self._out_octets > 0
        await self.flush()
        if self.services.turns.is_steady(self._worker):
            await self.give_way()
            return trio.current_time()
        return self.flushed_s if has_output else trio.current_time()

    def _begin_to_wait(self, now: float) -> None:
        self.is_waiting = True
        if now >= self.turn_until:
            self.services.turns.note(self._worker)

    async def _receive_notified(self, notifier: Notifier, deadline: float) -> bytes:
        """Do what `receive` does, and push events meanwhile (RFC 5465 §3.1)."""
        if self.is_mute or not self.machine.is_between_commands:
            return await self.receive(deadline)
        quiet_until = -math.inf
        while True:
            now = trio.current_time()
            if now >= deadline:
                raise Farewell(self.farewell())
            until = min(deadline, notifier.look_again_s())
            is_due = self.is_woken or now >= notifier.look_again_s()
            is_quiet = is_due and now < quiet_until
            if is_quiet:
                until = min(deadline, quiet_until)
            elif is_due:
                self.is_woken = False
                await notifier.push()
                quiet_until = now + BURST_S
                until = min(deadline, notifier.look_again_s())
            octets = await self.receive_or_wake(until, is_idle=False, is_deaf=is_quiet)
            if octets is not None:
                return octets

    def _received(self, octets: bytes) -> bytes:
        self.is_waiting = self.is_mute = False
        now = trio.current_time()
        self._received_s = now  # the first event needs no look at the clock of its own
        deadline = self.scope.deadline
        # Cancelled while the octets were on their way to this task?
        if self._farewell is not None or deadline <= now:
            raise Farewell(self.farewell())
        if deadline - now < COMMAND_S:
            self.scope.deadline = math.inf
        if not octets:
            raise PeerGone("end of input")
        return octets

    async def receive_or_wake(
        self,
        deadline: float,
        *,
        is_idle: bool = True,
        is_deaf: bool = False,
        teller: Callable[[], bool] | None = None,
    ) -> bytes | None:
        """Flush, then wait for octets, a hint or `deadline`; None for the latter two.

        Args:
            is_idle: news of the selected mailbox may always be told, so it ends the wait.
            is_deaf: no hint ends the wait, so that the client is heard between two bursts.
            teller: told of a change of the selected mailbox; True: so is the client, and the wait
                goes on.
        """
        now = await self._flush_and_stand_back()
        if self._farewell is not None:
            raise Farewell(self._farewell)
        selection = self.selection
        octets = None
        if self.scope.deadline <= deadline + COMMAND_S:
            self.scope.deadline = math.inf
        with trio.CancelScope(deadline=deadline) as idle_scope:
            self._idle_scope = None if is_deaf else idle_scope
            self._begin_to_wait(now)
            # Hints set the flag first and cancel then; one that came before counts as well.
            if selection is not None and selection.is_dirty and is_idle:
                idle_scope.cancel()
            if self.is_woken and self.notifier is not None and not is_deaf:
                idle_scope.cancel()
            self._teller = teller
            octets = await self.stream.receive_some()
        self._teller = self._idle_scope = None
        if octets is None:
            self.is_waiting = False
            return None
        return self._received(octets)

    def look_again_by(self, when_s: float) -> None:
        """Have the wait of `receive_or_wake` end by then at the latest."""
        if self._idle_scope is not None and when_s < self._idle_scope.deadline:
            self._idle_scope.deadline = when_s

    async def pause(self, seconds: float) -> None:
        """Sleep; a drain ends it."""
        await self.flush()
        self.is_waiting = True
        await trio.sleep(seconds)
        self.is_waiting = False

    # --- wake-ups, called from the event loop --------------------------------------------------

    def wake(self) -> None:
        """The selected mailbox has changed."""
        if self.selection is not None:
            self.selection.is_dirty = True
            if self._teller is None or not self._teller():
                self._teller = None
                self.wake_notifier()

    def wake_notifier(self) -> None:
        """Something has changed that this session may have asked to be told of."""
        self.is_woken = True
        if self._idle_scope is not None:
            self._idle_scope.cancel()

    def drain(self) -> None:
        """The server is shutting down: say so as soon as no command is running."""
        self._farewell = BYE_RESTARTING
        if self.is_waiting:
            self.scope.cancel()

    def evict(self) -> None:
        """The account was blocked or deleted: end now, even inside a command."""
        self._farewell = BYE_SESSION_CLOSED
        self.scope.cancel()

    def farewell(self) -> bytes:
        """Return what to say when a wait was cut short."""
        return BYE_INACTIVE if self._farewell is None else self._farewell
