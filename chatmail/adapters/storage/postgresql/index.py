"""The index of one process among several: a cache that may be behind, and catches up.

A head never goes back, and a loaded mailbox never has a gap: what was committed by others is
applied before what comes after it. A mailbox of which later commits are known than its entries
show is `behind`; until it has caught up, it is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterable

from chatmail.adapters.storage.head import MailboxHead
from chatmail.adapters.storage.index import AccountRecord, StoreIndex
from chatmail.adapters.storage.postgresql.catch_up import Missed
from chatmail.domain.model.account import AccountId
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.mailbox import MailboxEntry, MailboxId


class SharedIndex(StoreIndex):
    """`StoreIndex` over a database that other processes write too."""

    def __init__(
        self,
        max_accounts: int | None = None,
        max_mailboxes: int | None = None,
        max_entries: int | None = None,
    ) -> None:
        given = {
            "max_accounts": max_accounts,
            "max_mailboxes": max_mailboxes,
            "max_entries": max_entries,
        }
        super().__init__(**{name: value for name, value in given.items() if value is not None})
        self.behind: set[MailboxId] = set()
        self.lost: list[MailboxId] = []  # gone ones that somebody may have open, to be told

    # Own commits

    def note_barred(self, address: EmailAddress, is_barred: bool) -> None:
        """Keep nothing in memory: other processes bar addresses too, and tell nobody."""

    def arrive(self, mailbox: MailboxId, entry: MailboxEntry) -> None:
        """Publish a new message."""
        if mailbox not in self.behind:
            super().arrive(mailbox, entry)

    def replace(self, mailbox: MailboxId, entries: Iterable[MailboxEntry]) -> None:
        """Publish changed flags."""
        if mailbox not in self.behind:
            super().replace(mailbox, entries)

    def remove(self, mailbox: MailboxId, uids: Iterable[int], modseq: int) -> None:
        """Publish an expunge."""
        if mailbox not in self.behind:
            super().remove(mailbox, uids, modseq)

    def publish_head(self, head: MailboxHead) -> None:
        """Put a head in place, unless a later one is known."""
        known = self.heads.get(head.id)
        record = self._by_id.get(head.account)
        if record is not None and (known is None or known.highest_modseq <= head.highest_modseq):
            record.put(head, known)
            if head.is_gone:
                self.heads.pop(head.id, None)
            else:
                self.heads[head.id] = head
        ticket = self.loading.get(head.id)
        if ticket is not None and (
            ticket.head is None or ticket.head.highest_modseq <= head.highest_modseq
        ):
            ticket.head = head
        loaded = self.loaded.get(head.id)
        if loaded is None or loaded.head.highest_modseq > head.highest_modseq:
            return
        if head.is_gone:
            self._unload(head.id)
        elif head.id not in self.behind:
            loaded.head = head

    # Commits of others

    def see(self, head: MailboxHead) -> None:
        """Take in a head as read from the database."""
        loaded = self.loaded.get(head.id)
        if loaded is not None and loaded.head.highest_modseq < head.highest_modseq:
            self.behind.add(head.id)
        self.publish_head(head)

    def put_record(self, record: AccountRecord) -> None:
        """Cache an account as read from the database, and compare its mailboxes with memory."""
        former = self._by_address.get(record.stored.address)
        if former is not None and former.stored.id != record.stored.id:
            # Removed and made anew by others, before the news of the removal came.
            self.lose_account(former.stored.id)
        old = self._by_id.get(record.stored.id)
        there = {head.id for head in record.heads.values()}
        for id in [] if old is None else [head.id for head in old.heads.values()]:
            if id not in there:
                self.lose(id)
        super().put_record(record)
        for head in list(record.heads.values()):
            loaded = self.loaded.get(head.id)
            if loaded is not None and loaded.head.highest_modseq > head.highest_modseq:
                self.publish_head(loaded.head)  # it was read later than the record
            else:
                self.see(head)

    def lose_account(self, account: AccountId) -> None:
        """Take note that an account is gone."""
        record = self._by_id.get(account)
        for head in [] if record is None else list(record.heads.values()):
            self.lose(head.id)
        self.drop_record(account)

    def lose(self, mailbox: MailboxId) -> None:
        """Take note that a mailbox is gone."""
        head = self.heads.pop(mailbox, None)
        record = None if head is None else self._by_id.get(head.account)
        if record is not None and head is not None and record.heads.get(head.name) is head:
            del record.heads[head.name]
        ticket = self.loading.get(mailbox)
        if ticket is not None:
            ticket.head = _gone(mailbox)
        self.behind.discard(mailbox)
        if mailbox in self.loaded:
            self._unload(mailbox)
            self.lost.append(mailbox)

    def forget_records(self) -> None:
        """Drop all accounts: they may have changed unseen."""
        for account in list(self._by_id):
            self.drop_record(account)

    def is_known(self, mailbox: MailboxId) -> bool:
        """Say whether anything here depends on this mailbox."""
        return mailbox in self.loaded or mailbox in self.heads or mailbox in self.loading

    def mailboxes_of(self, accounts: set[int]) -> set[MailboxId]:
        """Return the mailboxes of these accounts that are in memory."""
        if not accounts:
            return set()
        found = {id for id, loaded in self.loaded.items() if loaded.head.account in accounts}
        # Of a mailbox that is being loaded nobody knows the account yet.
        return found | set(self.loading)

    # Catching up

    def find_behind(self, drafts: Iterable[MailboxHead]) -> dict[MailboxId, int]:
        """Return which mailboxes have to catch up before the drafts may be published, from where.

        A draft was copied from the row; entries that are older than that copy miss something.
        """
        for draft in drafts:
            loaded = self.loaded.get(draft.id)
            if loaded is not None and loaded.head.highest_modseq < draft.base_modseq:
                self.behind.add(draft.id)
        self.behind = {id for id in self.behind if id in self.loaded}
        return {id: self.loaded[id].head.highest_modseq for id in self.behind}

    def catch_up(self, missed: Missed) -> bool:
        """Apply what others have changed; True: there was something."""
        self.behind.discard(missed.mailbox)
        if missed.head is None:
            self.lose(missed.mailbox)
            return False
        loaded = self.loaded.get(missed.mailbox)
        has_news = loaded is not None and loaded.head.highest_modseq < missed.head.highest_modseq
        if loaded is not None and has_news:
            self._entries -= loaded.weight
            loaded.catch_up(missed.head, missed.entries, missed.expunged, missed.present)
            self._entries += loaded.weight
        self.publish_head(missed.head)
        return has_news


def _gone(mailbox: MailboxId) -> MailboxHead:
    head = MailboxHead.of_new(mailbox, AccountId(0), "", 0)
    head.is_gone = True
    return head
