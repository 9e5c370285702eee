"""IDLE: the same task that serves the commands waits.

News of arrivals is written by whoever brings it, while that task waits on: to wake it, to let it
write and to make it wait again costs three times as much. Everything else, and what cannot be told
at once, cancels its wait (docs/adr/0012).

The `+` leaves first and alone: core puts what comes before it into a queue that it does not look
at for minutes (trap T7). New mail is one EXISTS per burst; flags alone are gathered for a second,
because each line but `* OK` wakes a phone (trap T9).

An EXISTS is told once more when the client has not looked at that mail after a quarter of a
minute: on a machine that was stopped now and then, a core was seen to idle on for minutes although
it had been told (one run of ten with two thousand messages).
Source:  RFC 2177; spec mail 4.4 (IDLE), 4.6.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Final

import trio

from chatmail.adapters.imap.session import Session
from chatmail.adapters.imap.waits import BURST_S, Farewell
from chatmail.domain.wire.imap.commands import Idle
from chatmail.domain.wire.imap.events import NEED_DATA, Event, IdleDone, Rejected
from chatmail.domain.wire.imap.responses import exists, ok, untagged_ok
from chatmail.domain.wire.imap.view import Permit

FLAGS_S: Final = 1.0
AGAIN_S: Final = 15.0
"""So long a client may take from an EXISTS to its DONE or FETCH before it is told again, once."""
_SPREAD: Final = 0.1
_IDLING: Final = b"+ idling\r\n"
_STILL_HERE: Final = untagged_ok("Still here")


class _Pace:
    """When the next line may or must be written. Times are Trio's clock."""

    __slots__ = ("again_due", "flags_due", "keepalive_due", "quiet_until", "silence_s")

    def __init__(self, keepalive_s: float, started_s: float) -> None:
        # Sessions that began together must not all be written to in one instant.
        self.silence_s = keepalive_s * (1 - _SPREAD * (started_s * 997.0 % 1.0))
        self.quiet_until = -math.inf
        self.flags_due = math.inf
        self.again_due = math.inf
        self.keepalive_due = trio.current_time() + self.silence_s

    def wrote(self, now_s: float) -> None:
        self.keepalive_due = now_s + self.silence_s
        self.flags_due = math.inf


async def idle(session: Session, tag: bytes, command: Idle) -> bytes:
    """IDLE until DONE, in a mailbox or without one (keepalives only)."""
    session.tree = None
    session.machine.begin_idle(tag)
    session.send(_IDLING)
    await session.flush()
    if session.selection is not None:
        session.selection.is_dirty = True  # trap T8: what came since SELECT is told now
    event = await _wait_for_done(session)
    if isinstance(event, Rejected):
        session.send(event.octets)
        if event.close:
            raise Farewell
        return b""
    if session.selection is not None:
        await session.tell_news(Permit.ALL, with_uid=True)
    return ok(tag, "Idle completed")


async def _wait_for_done(session: Session) -> IdleDone | Rejected:
    keepalive_s = session.services.settings().imap.idle_keepalive_s
    pace = _Pace(keepalive_s, session.started_s)
    teller = partial(_tell_at_once, session, pace) if session.notifier is None else None
    if session.selection is not None and session.selection.is_behind:
        pace.again_due = trio.current_time() + AGAIN_S
    while True:
        event: Event = session.machine.next_event()
        if isinstance(event, IdleDone | Rejected):
            return event
        assert event is NEED_DATA  # noqa: S101  an idle machine yields nothing else
        until = await _tell(session, pace)
        octets = await session.receive_or_wake(until, teller=teller)
        if octets is not None:
            session.machine.receive_data(octets)


def _tell_at_once(session: Session, pace: _Pace) -> bool:
    """Write what is due from whatever task; False: the session's own task has to do it."""
    now = trio.current_time()
    if now < pace.quiet_until or not session.services.spree.goes_on(now):
        return False
    try:
        is_told = session.push_arrivals()
    except Exception:  # noqa: BLE001  shows again in the session's own task, behind its guard
        return False
    if is_told:
        pace.wrote(now)
        pace.quiet_until = now + BURST_S
        pace.again_due = now + AGAIN_S
        session.look_again_by(pace.again_due)
    return is_told


async def _tell(session: Session, pace: _Pace) -> float:
    """Queue what is due now; return when to look again."""
    now = trio.current_time()
    notifier = session.notifier
    if notifier is not None and (session.is_woken or now >= notifier.look_again_s()):
        session.is_woken = False
        waiting = session.queued_octets
        await notifier.tell_watched()  # RFC 5465 §4
        if session.queued_octets > waiting:
            pace.wrote(now)
    selection = session.selection
    if notifier is not None and selection is not None and not notifier.tells_selected:
        selection.is_dirty = False
    if selection is not None and (selection.is_dirty or now >= pace.flags_due):
        if now < pace.quiet_until:
            # A second EXISTS right behind the first costs core one more fetch (spec mail 4.4).
            selection.is_dirty = False
            pace.flags_due = min(pace.flags_due, pace.quiet_until)
        else:
            await _tell_news(session, pace, now)
    if now >= pace.again_due:
        pace.again_due = math.inf
        if _remind(session):
            pace.wrote(now)
    if now >= pace.keepalive_due:
        await session.touch_daily()
        session.send(_STILL_HERE)
        pace.wrote(now)
    until = min(pace.keepalive_due, pace.flags_due, pace.again_due)
    return until if notifier is None else min(until, notifier.look_again_s())


def _remind(session: Session) -> bool:
    """Tell once more of mail that the client has not looked at; False: there is none."""
    selection = session.selection
    if selection is None or session.notifier is not None or not selection.is_behind:
        return False
    view = selection.view
    selection.known = view.uids[view.count - 1]
    session.send(exists(view.count))
    return True


async def _tell_news(session: Session, pace: _Pace, now: float) -> None:
    waiting = session.queued_octets
    is_held = await session.tell_news_unless_flags(
        Permit.ALL, with_uid=True, holds_flags=now < pace.flags_due
    )
    if is_held:
        pace.flags_due = min(pace.flags_due, now + FLAGS_S)
    else:
        pace.flags_due = math.inf
        if session.queued_octets > waiting:
            pace.wrote(now)
            pace.quiet_until = now + BURST_S
            pace.again_due = now + AGAIN_S
