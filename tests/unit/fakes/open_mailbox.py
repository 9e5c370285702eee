"""An open mailbox over a `MemoryState`."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence

from chatmail.domain.model.errors import MailboxGone
from chatmail.domain.model.mailbox import (
    SEEN,
    MailboxChanges,
    MailboxEntry,
    MailboxId,
    MailboxInfo,
    Modseq,
    Uid,
    UidValidity,
)
from tests.unit.fakes.mailstate import MemoryMailbox, MemoryState


class MemoryOpenMailbox:
    """`OpenMailbox` over a `MemoryMailbox`."""

    def __init__(self, mailbox: MemoryMailbox, state: MemoryState) -> None:
        self._mailbox = mailbox
        self._state = state
        self._cold = set(mailbox.uids) if state.are_large else set()
        self.is_closed = False

    @property
    def id(self) -> MailboxId:
        return self._live().id

    @property
    def name(self) -> str:
        return self._live().name

    @property
    def uid_validity(self) -> UidValidity:
        return self._live().uid_validity

    def info(self) -> MailboxInfo:
        return self._live().info()

    def uids(self) -> tuple[Sequence[Uid], int]:
        uids = self._live().uids
        self._state.shown[self._mailbox.id] = self._mailbox.uid_next
        return uids, len(uids)

    async def load(self, uids: Iterable[Uid]) -> None:
        self._live()
        self._cold.difference_update(uids)

    def entry(self, uid: Uid) -> MailboxEntry | None:
        entry = self._live().entries.get(uid)
        if entry is not None and uid in self._cold:
            raise LookupError("the message was not loaded")
        return entry

    def first_unseen(self) -> Uid | None:
        mailbox = self._live()
        return next((uid for uid in mailbox.uids if SEEN not in mailbox.entries[uid].flags), None)

    def keywords(self) -> Sequence[str]:
        return list(self._live().keywords)

    def has_news(self, modseq: Modseq, uid_next: Uid) -> bool:
        mailbox = self._live()
        return modseq < mailbox.modseq or uid_next < mailbox.uid_next

    async def changes_since(self, modseq: Modseq, uid_next: Uid) -> MailboxChanges:
        return self.changes_now(modseq, uid_next)

    def changes_now(self, modseq: Modseq, uid_next: Uid) -> MailboxChanges:
        mailbox = self._live()
        self._state.shown[mailbox.id] = mailbox.uid_next
        start = bisect.bisect_left(mailbox.uids, uid_next)
        return MailboxChanges(
            highest_modseq=Modseq(mailbox.modseq),
            uid_next=Uid(mailbox.uid_next),
            arrived=[mailbox.entries[uid] for uid in mailbox.uids[start:]],
            changed=[
                mailbox.entries[uid]
                for uid in mailbox.uids[:start]
                if mailbox.entries[uid].modseq > modseq
            ],
            expunged=sorted(uid for changed, uid in mailbox.journal if changed > modseq),
        )

    def close(self) -> None:
        self.is_closed = True

    def _live(self) -> MemoryMailbox:
        if self._mailbox.is_gone:
            raise MailboxGone("mailbox was deleted")
        return self._mailbox
