"""One IMAP connection: who is logged in, what is selected, what it has to be told.

Memory: everything here is small and slotted, because most sessions only wait (spec mail 4.4 IDLE:
at most 20 KiB each). Nothing is queued for a session; what it has to be told is computed from the
store when it may be told (spec mail 1.7).
"""

from __future__ import annotations

import trio

from chatmail.adapters.imap.selection import Selection
from chatmail.adapters.imap.services import ByteStream, ImapServices
from chatmail.adapters.imap.waits import Farewell, Waits
from chatmail.domain.formats.mime_structure import Part
from chatmail.domain.model.account import Account
from chatmail.domain.model.mailbox import MailboxHint, Modseq
from chatmail.domain.wire.imap.responses import all_told
from chatmail.domain.wire.imap.view import Permit


class Session(Waits):
    """State and plumbing that the handlers share."""

    __slots__ = (
        "failures",
        "has_condstore",
        "has_qresync",
        "is_in_literal",
        "ticket",
        "token",
        "tree",
    )

    def __init__(self, stream: ByteStream, services: ImapServices, scope: trio.CancelScope) -> None:
        super().__init__(stream, services, scope)
        self.ticket: object = None
        self.failures = 0
        self.token: str | None = None
        self.has_condstore = False
        self.has_qresync = False
        self.tree: tuple[object, Part] | None = None
        self.is_in_literal = False

    @property
    def account(self) -> Account:
        """Who is logged in. The machine lets no command through that needs this before login."""
        assert self.account_or_none is not None  # noqa: S101  the machine's state guarantees it
        return self.account_or_none

    @property
    def selected(self) -> Selection:
        """The selected mailbox. The machine lets no command through that needs it otherwise."""
        assert self.selection is not None  # noqa: S101  the machine's state guarantees it
        return self.selection

    def count_bad(self) -> None:
        """Count a BAD that a handler said. Raises Farewell when there were too many."""
        last = self.machine.answered_bad()
        if last:
            raise Farewell(last)

    def announce(self, *names: str) -> None:
        """Wake the account's sessions: this one has changed mailbox names, or metadata.

        Hints of the store are about messages; those of INBOX stand for the rest (RFC 5465 §5.4).
        """
        if self.notifier is not None:
            self.notifier.own_change(*names)
        self.services.hints.publish(MailboxHint(self.account.inbox, Modseq(0)))

    # --- the selected mailbox ----------------------------------------------------------------

    def select(self, selection: Selection) -> None:
        """Enter a mailbox and listen to its changes."""
        self.selection = selection
        selection.listen(self.services.hints, self.wake)
        self.machine.selected()

    async def touch_daily(self) -> None:
        """Note that the account is in use today: sessions may last for weeks (spec mail 2.7)."""
        if self.account_or_none is not None:
            self.account_or_none = await self.services.authenticate.touch_daily(
                self.account_or_none
            )

    def deselect(self) -> None:
        """Leave the selected mailbox, if there is one."""
        if self.selection is not None:
            self.selection.close()
            self.selection = None
            self.tree = None
            self.machine.deselected()

    async def tell_news(
        self, permit: Permit, *, with_uid: bool = False, is_own: bool = False
    ) -> None:
        """Queue what has changed in the selected mailbox, as far as it may be told now.

        Args:  is_own: by this very command, so NOTIFY has no say in it.
        """
        notifier = self.notifier
        if notifier is not None and not notifier.tells_selected and not is_own:
            self.selected.is_dirty = False
            return
        await self.tell_news_unless_flags(
            permit, with_uid=with_uid, holds_flags=False, has_modseq=is_own
        )

    @property
    def is_pushed_to(self) -> bool:
        """Say whether news of the selected mailbox waits that NOTIFY tells between commands."""
        if self.notifier is None or not self.notifier.tells_selected:
            return False
        return self.selection is not None and self.selection.is_dirty

    def cover_held_news(self) -> None:
        """Queue up to where a QRESYNC client was told everything, if it was not told all."""
        if self.selection is not None:
            self.send(self.selection.held_news())

    async def tell_news_unless_flags(
        self, permit: Permit, *, with_uid: bool, holds_flags: bool, has_modseq: bool = False
    ) -> bool:
        """Do what `tell_news` does, but hold back news that is nothing but flags.

        Args:  has_modseq: a tagged reply follows that names the highest MODSEQ.
        Returns:  whether something was held back.
        """
        selection, notifier = self.selected, self.notifier
        if not selection.has_news():  # two looks of three
            return False
        news = await selection.take_news(
            permit,
            holds_flags=holds_flags,
            # RFC 9051 §7.5.2 as RFC 7162 §3.2.4: unsolicited FETCH names the UID.
            with_uid=with_uid or self.has_qresync or self.machine.is_rev2 or notifier is not None,
            with_modseq=self.has_condstore,
            by_vanished=self.has_qresync,
            with_flags=notifier is None or notifier.tells_flags,
        )
        if news is None:
            return True
        octets, changes = news
        self.send(octets)
        if selection.view.modseq < changes.highest_modseq:
            return False  # it may not be told now
        if notifier is not None and changes.arrived:
            own, selection.own = selection.own, ()
            await notifier.tell_arrivals([one.uid for one in changes.arrived if one.uid not in own])
        if self.has_qresync and not has_modseq and (changes.arrived or changes.expunged):
            self.send(all_told(changes.highest_modseq))
        return False

    def push_arrivals(self) -> bool:
        """Tell a client in IDLE of new messages while the session's own task waits.

        Returns:  False: that task has to look, and to flush.
        """
        selection = self.selected
        mailbox, view = selection.mailbox, selection.view
        changes = mailbox.changes_now(view.modseq, view.uid_next)
        if changes is None or not changes.arrived or self._farewell is not None:
            return False
        octets = view.update(
            changes,
            *mailbox.uids(),
            Permit.ALL,
            with_uid=True,
            with_modseq=self.has_condstore,
            by_vanished=self.has_qresync,
        )
        if octets is None:
            return False
        selection.is_dirty = False
        if self.stream.send_now(octets):
            return True
        self._out.append(b"")  # what is left leaves with the next flush
        return False

    def leave(self) -> None:
        """Give back everything that outlives the connection otherwise."""
        self.deselect()
        if self.notifier is not None:
            self.notifier.close()
        if self.ticket is not None:
            self.services.sessions.leave(self.ticket)
            self.ticket = None
