"""Changes of mailbox names: create, delete, rename, subscribe."""

from __future__ import annotations

from typing import Final

from chatmail.adapters.storage.changes import copy_messages
from chatmail.adapters.storage.head import MailboxHead
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.notices import names_changed
from chatmail.adapters.storage.transaction import Transaction
from chatmail.adapters.storage.writer import Job, Touches
from chatmail.domain.model.account import AccountId
from chatmail.domain.model.mailbox import DELIMITER, INBOX, MailboxId, MailboxInfo
from chatmail.domain.ports.mailstore import MailboxProblem

MAX_MAILBOXES: Final = 100


def next_uid_validity(tx: Transaction, account: AccountId, now_s: int) -> int:
    """Take the next UIDVALIDITY of an account: larger than every earlier one.

    Source:  spec mail 5.3; RFC 9051 §2.3.1.1.
    """
    row = tx.sql.account.one(account)
    last: int = 0 if row is None else row.last_uid_validity
    validity = max(now_s, last + 1)
    tx.sql.save_uid_validity.run(validity, account)
    return validity


def add_mailbox(
    tx: Transaction, account: AccountId, name: str, special_use: str | None, now_s: int
) -> MailboxHead:
    """Add an empty mailbox."""
    head = MailboxHead.of_new(
        MailboxId(tx.new_id()), account, name, next_uid_validity(tx, account, now_s), special_use
    )
    tx.sql.add_mailbox.run(*head.row())
    tx.drafts[head.id] = head
    return head


class CreateJob(Job):
    """CREATE."""

    __slots__ = ("_account", "_name", "_now_s", "_special_use", "outcome")

    outcome: MailboxInfo | MailboxProblem

    def __init__(self, account: AccountId, name: str, special_use: str | None, now_s: int) -> None:
        self._account = account
        self._name = name
        self._special_use = special_use
        self._now_s = now_s

    @property
    def touches(self) -> Touches:
        """Return what it changes."""
        return Touches(households=(self._account,))

    def plan(self, tx: Transaction) -> None:
        """Add the mailbox unless the name is taken or there are too many."""
        heads = tx.heads_of(self._account)
        if not heads:
            self.outcome = MailboxProblem.NONEXISTENT  # the account was deleted
        elif self._name in heads:
            self.outcome = MailboxProblem.ALREADY_EXISTS
        elif len(heads) >= MAX_MAILBOXES:
            self.outcome = MailboxProblem.LIMIT
        else:
            head = add_mailbox(tx, self._account, self._name, self._special_use, self._now_s)
            self.outcome = head.info()
            tx.tell(names_changed(self._account))


class DeleteJob(Job):
    """DELETE."""

    __slots__ = ("_account", "_name", "outcome")

    def __init__(self, account: AccountId, name: str) -> None:
        self._account = account
        self._name = name
        self.outcome: MailboxProblem | None = None

    @property
    def touches(self) -> Touches:
        """Return what it changes."""
        return Touches(households=(self._account,))

    def plan(self, tx: Transaction) -> None:
        """Remove the mailbox and its messages; children stay."""
        self.outcome = None
        if self._name == INBOX:
            self.outcome = MailboxProblem.CANNOT
            return
        head = tx.heads_of(self._account).get(self._name)
        if head is None:
            self.outcome = MailboxProblem.NONEXISTENT
        else:
            tx.drop_mailbox(head)
            tx.tell(names_changed(self._account))


class RenameJob(Job):
    """RENAME."""

    __slots__ = ("_account", "_gone", "_new", "_now_s", "_old", "outcome")

    def __init__(self, account: AccountId, old: str, new: str, now_s: int) -> None:
        self._account = account
        self._old = old
        self._new = new
        self._now_s = now_s
        self._gone: tuple[MailboxId, list[int], int] | None = None
        self.outcome: MailboxProblem | None = None

    @property
    def touches(self) -> Touches:
        """Return what it changes."""
        return Touches(households=(self._account,))

    def plan(self, tx: Transaction) -> None:
        """Rename with children; INBOX keeps its name and gives its messages away."""
        self._gone = None
        heads = tx.heads_of(self._account)
        head = heads.get(self._old)
        if head is None:
            self.outcome = MailboxProblem.NONEXISTENT
        elif self._new in heads:
            self.outcome = MailboxProblem.ALREADY_EXISTS
        elif self._old == INBOX:
            self.outcome = self._empty_inbox(tx, heads, head)
        else:
            self.outcome = self._rename(tx, heads)

    def _rename(self, tx: Transaction, heads: dict[str, MailboxHead]) -> MailboxProblem | None:
        below = self._old + DELIMITER
        renamed = {
            name: self._new + name[len(self._old) :]
            for name in heads
            if name == self._old or name.startswith(below)
        }
        if (heads.keys() - renamed.keys()) & set(renamed.values()):
            return MailboxProblem.ALREADY_EXISTS
        # Longest first: `a/b` has left its name before `a` takes it.
        for name in sorted(renamed, key=len, reverse=True):
            heads[name].name = renamed[name]
            tx.sql.rename_mailbox.run(renamed[name], heads[name].id)
        tx.tell(names_changed(self._account))
        return None

    def _empty_inbox(
        self, tx: Transaction, heads: dict[str, MailboxHead], inbox: MailboxHead
    ) -> MailboxProblem | None:
        if len(heads) >= MAX_MAILBOXES:
            return MailboxProblem.LIMIT
        target = add_mailbox(tx, self._account, self._new, None, self._now_s)
        tx.tell(names_changed(self._account))
        found = tx.messages(inbox.id)
        if found:
            copy_messages(tx, found, target)
            inbox.highest_modseq += 1
            tx.remove(inbox, found)
            self._gone = (inbox.id, [one.uid for one in found], inbox.highest_modseq)
        return None

    def publish(self, index: StoreIndex) -> None:
        """Take INBOX's messages away; names are published with the heads."""
        if self._gone is not None:
            index.remove(*self._gone)


class SubscribeJob(Job):
    """SUBSCRIBE and UNSUBSCRIBE."""

    __slots__ = ("_account", "_name", "_subscribed", "exists")

    def __init__(self, account: AccountId, name: str, subscribed: bool) -> None:
        self._account = account
        self._name = name
        self._subscribed = subscribed
        self.exists = False

    @property
    def touches(self) -> Touches:
        """Return what it changes."""
        return Touches(households=(self._account,))

    def plan(self, tx: Transaction) -> None:
        """Set the mark."""
        head = tx.heads_of(self._account).get(self._name)
        self.exists = head is not None
        if head is not None and head.is_subscribed != self._subscribed:
            head.is_subscribed = self._subscribed
            tx.sql.subscribe.run(int(self._subscribed), head.id)
            tx.tell(names_changed(self._account))
