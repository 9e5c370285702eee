"""NOTIFY: events pushed between commands, by the task that waits for the next one.

A session that asked for nothing pays nothing. One that did listens to the hints of its account's
mailboxes; a hint only marks it as woken, and what it is told is computed from the store when it
may speak. The mailbox names, subscriptions and push tokens of an account have no hint of their own:
who changes them wakes the listeners of INBOX.
Source:  RFC 5465.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Final

import attrs
import trio

from chatmail.adapters.imap.fetch import fetch_entries
from chatmail.adapters.imap.replies import BYE_MAILBOX_DELETED, BYE_UNAVAILABLE
from chatmail.adapters.imap.session import Session
from chatmail.adapters.imap.waits import Farewell
from chatmail.adapters.system.redaction import Public
from chatmail.domain.model.errors import MailboxGone, TransientFailure
from chatmail.domain.model.mailbox import INBOX, MailboxId, Modseq, Uid
from chatmail.domain.usecases.service_metadata import DEVICE_TOKEN, SERVER
from chatmail.domain.wire.imap.commands import Fetch, Notify, NotifyGroup
from chatmail.domain.wire.imap.fetch import FetchPlan, plan_fetch
from chatmail.domain.wire.imap.notify import MailboxWatch
from chatmail.domain.wire.imap.responses import metadata_changed, ok
from chatmail.domain.wire.imap.sequence import SequenceSet
from chatmail.domain.wire.imap.view import Permit

LOOK_S: Final = 60.0
"""How often the server's own entries are compared: a reload of the settings wakes nobody."""
_OF_SELECTED: Final = ("SELECTED", "SELECTED-DELAYED")
# The TURN credential is made anew for who asks: that is no change.
_SERVER_ENTRIES: Final = (
    "/shared/comment",
    "/shared/admin",
    "/shared/vendor/deltachat/irohrelay",
    "/shared/vendor/deltachat/maxsmtprecipients",
    "/shared/vendor/deltachat/appversions",
)
Entries = dict[str, bytes | None]


async def notify(session: Session, tag: bytes, command: Notify) -> bytes:
    """NOTIFY SET, NOTIFY NONE; the server loop tells what the selected mailbox has gathered."""
    notifier = Notifier(session, command.groups)
    await notifier.begin(has_status=command.has_status)
    if session.notifier is not None:
        session.notifier.close()
    session.notifier = notifier
    if session.selection is not None:
        session.selection.is_dirty = True  # RFC 5465 §3.1: an implicit NOOP
    return ok(tag, "Notify completed")


class Notifier:
    """What one session is told of, and what it was told last."""

    __slots__ = (
        "_entries",
        "_groups",
        "_listening",
        "_next_look_s",
        "_plan",
        "_session",
        "_tokens",
        "_watch",
        "is_delayed",
        "tells_flags",
        "tells_selected",
    )

    def __init__(self, session: Session, groups: tuple[NotifyGroup, ...]) -> None:
        selected = next((one for one in groups if one.mailboxes in _OF_SELECTED), None)
        self._session = session
        self._groups = tuple(one for one in groups if one is not selected and one.events)
        self.tells_selected = selected is not None and bool(selected.events)
        self.tells_flags = selected is not None and "FLAGCHANGE" in selected.events
        self.is_delayed = selected is not None and selected.mailboxes == "SELECTED-DELAYED"
        self._plan = None if selected is None else _plan_of(session, selected)
        self._watch: MailboxWatch | None = None
        self._listening: dict[MailboxId, AbstractContextManager[None]] = {}
        self._tokens: Entries | None = None
        self._entries: Entries | None = None
        self._next_look_s = math.inf

    async def begin(self, *, has_status: bool) -> None:
        """Take stock, and listen from there on. Raises TransientFailure: nothing is listened to."""
        if not self._groups:
            return
        session = self._session
        # The account's own metadata first: nothing awaits between the list and the listening.
        if "MAILBOXMETADATACHANGE" in self._events_of(INBOX):
            self._tokens = await self._token_entries()
        if any("SERVERMETADATACHANGE" in group.events for group in self._groups):
            self._entries = await self._server_entries()
        self._watch = MailboxWatch(
            self._groups, await session.services.store.list(session.account.id)
        )
        self._listen()
        if has_status:
            session.send(
                self._watch.statuses(
                    self._selected(),
                    with_modseq=session.has_condstore,
                    is_utf8=session.machine.is_utf8,
                )
            )

    def close(self) -> None:
        """Listen to nothing any more."""
        for hints in self._listening.values():
            hints.__exit__(None, None, None)
        self._listening.clear()

    def own_change(self, *names: str) -> None:
        """Note mailbox names that this session has just changed itself."""
        if self._watch is not None:
            self._watch.own_change(*names)

    async def own_arrivals(self, mailbox: str, uids: Sequence[Uid], steps: int) -> None:
        """Note messages that this session has just added to a mailbox (RFC 5465 §5)."""
        session = self._session
        selection = session.selection
        if selection is not None and selection.mailbox.name == mailbox:
            selection.own = tuple(uids)
        elif self._watch is not None:
            info = await session.services.store.info(session.account.id, mailbox)
            if info is not None:
                self._watch.own_arrivals(info, len(uids), steps)

    def leave_selected(self, told: Modseq) -> None:
        """Note that a mailbox is left: what it was told there, or did there, is no news later."""
        selection = self._session.selection
        if self._watch is None or selection is None:
            return
        with contextlib.suppress(MailboxGone):
            self._watch.left(selection.mailbox.info(), told)

    async def own_metadata(self) -> None:
        """Note that this session has just changed the account's metadata itself."""
        if self._tokens is not None:
            self._tokens = await self._token_entries()

    def look_again_s(self) -> float:
        """Return until when (Trio's clock) a wait may last without a wake-up."""
        return self._next_look_s

    # --- what is told ------------------------------------------------------------------------

    async def push(self) -> None:
        """Queue all that may be told while no command is in progress.

        Raises:  Farewell: the selected mailbox is gone, or the store is in trouble.
        """
        session = self._session
        selection = session.selection
        try:
            if selection is not None and selection.is_dirty and self.tells_selected:
                # RFC 5465 §6.1.2: numbers stay as they are until a command lets them change.
                permit = Permit.FLAGS if self.is_delayed else Permit.ALL
                await session.tell_news_unless_flags(permit, with_uid=True, holds_flags=False)
            await self.tell_watched()
        except MailboxGone:
            raise Farewell(BYE_MAILBOX_DELETED) from None
        except TransientFailure:
            session.services.log.warning("imap_command_failed", command=Public(Notify.__name__))
            raise Farewell(BYE_UNAVAILABLE) from None

    async def tell_watched(self) -> None:
        """Queue what has changed in mailboxes other than the selected one."""
        session = self._session
        if self._watch is None:
            return
        infos = await session.services.store.list(session.account.id)
        session.send(
            self._watch.update(
                infos,
                self._selected(),
                with_modseq=session.has_condstore,
                is_utf8=session.machine.is_utf8,
            )
        )
        self._listen()
        if self._tokens is not None:
            before, self._tokens = self._tokens, await self._token_entries()
            self._tell_entries(INBOX, before, self._tokens)
        if self._entries is not None:
            before, self._entries = self._entries, await self._server_entries()
            self._tell_entries(SERVER, before, self._entries)

    async def tell_arrivals(self, uids: list[Uid]) -> None:
        """Queue what was asked for of new messages in the selected mailbox."""
        if self._plan is not None:
            await fetch_entries(self._session, self._plan, uids)

    # --- inside ------------------------------------------------------------------------------

    def _events_of(self, name: str) -> frozenset[str]:
        return MailboxWatch(self._groups, ()).events(name, is_subscribed=True)

    def _selected(self) -> MailboxId | None:
        selection = self._session.selection
        return None if selection is None else selection.mailbox.id

    def _listen(self) -> None:
        """Listen to every mailbox of the account; INBOX stands for its names as well."""
        session = self._session
        wanted = {session.account.inbox}
        if self._watch is not None:
            wanted.update(self._watch.mailboxes())
        for mailbox in self._listening.keys() - wanted:
            self._listening.pop(mailbox).__exit__(None, None, None)
        for mailbox in wanted - self._listening.keys():
            hints = session.services.hints.subscribe(mailbox, session.wake_notifier)
            hints.__enter__()
            self._listening[mailbox] = hints

    async def _token_entries(self) -> Entries:
        session = self._session
        answer = await session.services.metadata.get(session.account.id, INBOX, (DEVICE_TOKEN,))
        return dict(answer.entries)

    async def _server_entries(self) -> Entries:
        self._next_look_s = trio.current_time() + LOOK_S
        session = self._session
        answer = await session.services.metadata.get(session.account.id, SERVER, _SERVER_ENTRIES)
        return dict(answer.entries)

    def _tell_entries(self, mailbox: str, before: Entries, after: Entries) -> None:
        names = [name for name in after if before.get(name) != after[name]]
        self._session.send(metadata_changed(mailbox, names))


def _plan_of(session: Session, group: NotifyGroup) -> FetchPlan | None:
    """Make ready what is fetched of new messages; None: nothing is."""
    if not group.attributes and not group.sections:
        return None
    attributes = group.attributes
    if (session.has_qresync or session.machine.is_rev2) and "UID" not in attributes:
        attributes = ("UID", *attributes)  # RFC 9051 §7.5.2: what nobody asked for names the UID
    # Being told of a message is not reading it.
    sections = tuple(attrs.evolve(section, peek=True) for section in group.sections)
    asked = Fetch(SequenceSet(()), False, attributes, sections)
    return plan_fetch(asked, with_modseq=session.has_condstore)
