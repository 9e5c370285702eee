"""One session's handle of a mailbox that all its sessions share in memory.

What is read from the database for it is as of some commit, and is put in place only when that
commit is published: nobody sees half of one, or a flag before its modseq is announced.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import attrs

from chatmail.adapters.storage.head import MailboxHead
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.loaded import LoadedMailbox
from chatmail.adapters.storage.reader import Reader
from chatmail.domain.model.account import AccountId
from chatmail.domain.model.errors import MailboxGone, TransientFailure
from chatmail.domain.model.mailbox import (
    MailboxChanges,
    MailboxEntry,
    MailboxId,
    MailboxInfo,
    Modseq,
    Uid,
    UidValidity,
)

PAGES_PER_READ: Final = 4
"""One read of a thousand rows takes 6 ms, in which nobody else's is done."""
LOOKS_FOR_UNSEEN: Final = 3


@attrs.frozen
class Source:
    """Where mailboxes come from: one for all of them.

    `settle` waits until all that was committed before is published.
    """

    index: StoreIndex
    reader: Reader
    settle: Callable[[AccountId], Awaitable[None]]


class SharedMailbox:
    """`OpenMailbox` over a mailbox in memory. Every idle session holds one."""

    __slots__ = ("_is_closed", "_loaded", "_source")

    def __init__(self, loaded: LoadedMailbox, source: Source) -> None:
        self._loaded = loaded
        self._source = source
        self._is_closed = False
        source.index.pin(loaded)

    @property
    def id(self) -> MailboxId:
        """Return the mailbox's id."""
        return self._head().id

    @property
    def name(self) -> str:
        """Return its present name."""
        return self._head().name

    @property
    def uid_validity(self) -> UidValidity:
        """Return its UIDVALIDITY."""
        return UidValidity(self._head().uid_validity)

    def info(self) -> MailboxInfo:
        """Return the counters as of the last commit."""
        return self._head().info()

    def uids(self) -> tuple[Sequence[Uid], int]:
        """Return a shared ascending sequence of UIDs and how many of its items are valid."""
        head = self._head()
        self._source.index.shown.note(head.id, head.uid_next)
        uids: Sequence[Uid] = self._loaded.uids  # type: ignore[assignment]
        return uids, len(uids)

    async def load(self, uids: Iterable[Uid]) -> None:
        """Bring messages into memory, so that `entry` has them; other UIDs are no mistake.

        No checkpoint, no thread, when they are there already.
        Raises:  TransientFailure: they could not be read. MailboxGone.
        """
        self._head()
        await self._load(uids)

    def entry(self, uid: Uid) -> MailboxEntry | None:
        """Return one message, None when there is none with this UID.

        Raises:  LookupError: it was not loaded.
        """
        self._head()
        loaded = self._loaded
        entry = loaded.entries.get(uid)
        if entry is None and loaded.cold_pages((uid,)) and loaded.holds(uid):
            raise LookupError("the message was not loaded")
        return entry

    def first_unseen(self) -> Uid | None:
        """Return the lowest UID without \\Seen, None too when that would have to be looked up."""
        self._head()
        return self._loaded.first_unseen()[0]

    async def find_unseen(self) -> None:
        """Look up what `first_unseen` returns, if that is necessary."""
        loaded = self._loaded
        for _ in range(LOOKS_FOR_UNSEEN):
            if loaded.is_gone or loaded.first_unseen()[1]:
                return
            head, lowest = await self._source.reader.lowest_unseen(loaded.head.id)
            loaded.settle_unseen(await self._published(head), lowest)

    def keywords(self) -> Sequence[str]:
        """Return the keywords in use, in order of first use."""
        return self._head().keywords

    def has_news(self, modseq: Modseq, uid_next: Uid) -> bool:
        """Say whether anything was committed after `modseq`. Raises:  MailboxGone."""
        head = self._head()
        return modseq < head.highest_modseq or uid_next < head.uid_next

    async def changes_since(self, modseq: Modseq, uid_next: Uid) -> MailboxChanges:
        """Return what was committed after `modseq`.

        No checkpoint, no thread, while the journal in memory goes back that far.
        Raises:  TransientFailure: old changes could not be read. MailboxGone.
        """
        changes = self.changes_now(modseq, uid_next)
        if changes is not None:
            return changes
        loaded = self._loaded
        if loaded.cold:
            await self._load(await self._source.reader.changed_since(loaded.head.id, modseq))
        while True:
            seen = loaded.head.highest_modseq
            floor, gone = await self._source.reader.expunged_since(loaded.head.id, modseq)
            self._head()
            # What was expunged during the read is in the journal, unless that moved on too.
            if loaded.journal_floor <= seen:
                break
        if modseq < floor:
            # Older than what is remembered: every gap may be news (RFC 7162 §3.2.5.1).
            gone = list(range(1, loaded.head.uid_next))
        # The read may have seen a commit that is not published yet: what is shown is not gone.
        there = set(loaded.uids)
        gone = [uid for uid in gone if uid not in there]
        return loaded.changes(modseq, uid_next, gone)

    def changes_now(self, modseq: Modseq, uid_next: Uid) -> MailboxChanges | None:
        """Return what was committed after `modseq`; None: the journal does not go back that far."""
        head = self._head()
        self._source.index.shown.note(head.id, head.uid_next)
        loaded = self._loaded
        return loaded.changes(modseq, uid_next) if modseq >= loaded.journal_floor else None

    def close(self) -> None:
        """Let the store forget the mailbox when memory is wanted."""
        if not self._is_closed:
            self._is_closed = True
            self._source.index.unpin(self._loaded)

    async def _load(self, uids: Iterable[int]) -> None:
        loaded = self._loaded
        cold = loaded.cold_pages(uids)
        for start in range(0, len(cold), PAGES_PER_READ):
            pages = loaded.cold.intersection(cold[start : start + PAGES_PER_READ])
            if not pages:  # somebody else was faster
                continue
            spans = [loaded.span(page) for page in sorted(pages)]
            head, entries = await self._source.reader.pages(loaded.head.id, spans)
            await self._published(head)
            self._source.index.take_in(loaded, entries, pages)

    async def _published(self, read: MailboxHead | None) -> int:
        """Wait until the commit that was read is published; returns its modseq.

        Raises:  MailboxGone. TransientFailure: it is not published for now.
        """
        head = self._head()
        if read is None or read.highest_modseq > head.highest_modseq:
            await self._source.settle(head.account)
            head = self._head()
        if read is None or read.highest_modseq > head.highest_modseq:
            raise TransientFailure("the mailbox is behind the database")
        return read.highest_modseq

    def _head(self) -> MailboxHead:
        if self._loaded.is_gone:
            raise MailboxGone("mailbox was deleted")
        return self._loaded.head
