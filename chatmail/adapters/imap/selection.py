"""The selected mailbox of a session, and who is asked what may be told of it and of others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import trio

from chatmail.domain.model.mailbox import MailboxChanges, Modseq, Uid
from chatmail.domain.ports.hints import MailboxHints
from chatmail.domain.ports.mailstore import OpenMailbox
from chatmail.domain.wire.imap.responses import held_back
from chatmail.domain.wire.imap.sequence import SequenceSet, exceeds, resolve
from chatmail.domain.wire.imap.view import Permit, SelectedView


class Selection:
    """The selected mailbox of a session."""

    __slots__ = (
        "_subscription",
        "is_dirty",
        "is_read_only",
        "known",
        "mailbox",
        "own",
        "saved",
        "view",
    )

    def __init__(
        self,
        mailbox: OpenMailbox,
        view: SelectedView,
        *,
        is_read_only: bool,
    ) -> None:
        self.mailbox = mailbox
        self.view = view
        self.is_read_only = is_read_only
        self.is_dirty = False
        # Up to this UID the client has looked, or was reminded of it.
        self.known = view.uid_next - 1
        # What `$` stands for: UIDs, which expunges and arrivals leave true (RFC 5182 §2.1).
        self.saved: Sequence[int] = ()
        # Messages the session has put here itself; only kept for NOTIFY.
        self.own: tuple[Uid, ...] = ()
        self._subscription: AbstractContextManager[None] | None = None

    def listen(self, hints: MailboxHints, wake: Callable[[], None]) -> None:
        """Have `wake` called at each change until `close`."""
        self._subscription = hints.subscribe(self.mailbox.id, wake)
        self._subscription.__enter__()

    def close(self) -> None:
        """Stop listening and let the store forget the mailbox."""
        if self._subscription is not None:
            self._subscription.__exit__(None, None, None)
        self.mailbox.close()

    def resolve(self, messages: SequenceSet, by_uid: bool) -> list[Uid] | None:
        """Return the UIDs a set names in the view; None: a message number is too high."""
        view = self.view
        # `1:*` in an empty mailbox is no mistake worth a BAD.
        if not by_uid and exceeds(messages, max(view.count, 1)):
            return None
        return resolve(messages, view.uids, view.count, by_uid=by_uid, saved=self.saved)

    @property
    def is_behind(self) -> bool:
        """Say whether the client was told of messages that it has not looked at."""
        view = self.view
        return view.count > 0 and view.uids[view.count - 1] > self.known

    def has_news(self) -> bool:
        """Say whether anything was committed that the client was not told of."""
        if self.mailbox.has_news(self.view.modseq, self.view.uid_next):
            return True
        self.is_dirty = False
        return False

    async def take_news(
        self,
        permit: Permit,
        *,
        holds_flags: bool,
        with_uid: bool,
        with_modseq: bool,
        by_vanished: bool,
        with_flags: bool,
    ) -> tuple[bytes, MailboxChanges] | None:
        """Take over what has changed, as far as it may be told now (see `SelectedView.update`).

        Args:  holds_flags: news that is nothing but flags is held back.
        Returns:  lines for the client and what they tell of; None: something was held back.
        """
        mailbox, view = self.mailbox, self.view
        while True:
            self.is_dirty = False
            changes = await mailbox.changes_since(view.modseq, view.uid_next)
            if holds_flags and view.is_only_flags(changes):
                return None
            octets = view.update(
                changes,
                *mailbox.uids(),
                permit,
                with_uid=with_uid,
                with_modseq=with_modseq,
                by_vanished=by_vanished,
                with_flags=with_flags,
            )
            if octets is not None:
                break
            await trio.lowlevel.checkpoint()  # the mailbox has moved on: look again
        if view.modseq < changes.highest_modseq:
            self.is_dirty = True
        return octets, changes

    def held_news(self) -> bytes:
        """Return up to where the client was told everything, b"" when it was told all."""
        told = self.view.modseq
        return held_back(told) if told < self.mailbox.info().highest_modseq else b""


class Notifier(Protocol):
    """What NOTIFY made of a session (`adapters.imap.notify`)."""

    @property
    def tells_selected(self) -> bool: ...

    @property
    def tells_flags(self) -> bool: ...

    async def push(self) -> None:
        """Queue what may be told while no command is in progress."""

    async def tell_watched(self) -> None:
        """Queue news of mailboxes that are not selected."""

    async def tell_arrivals(self, uids: list[Uid]) -> None:
        """Queue what was asked for of new messages."""

    def look_again_s(self) -> float:
        """Return until when a wait may last without a wake-up."""

    def own_change(self, *names: str) -> None:
        """Note mailbox names this session has changed itself."""

    async def own_arrivals(self, mailbox: str, uids: Sequence[Uid], steps: int) -> None:
        """Note messages this session has added itself, by so many steps of the MODSEQ."""

    def leave_selected(self, told: Modseq) -> None:
        """Note that the mailbox is left whose changes up to `told` were told or were its own."""

    async def own_metadata(self) -> None:
        """Note that this session has changed metadata itself."""

    def close(self) -> None:
        """Listen to nothing any more."""
