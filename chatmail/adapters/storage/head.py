"""What is known of a mailbox without its messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chatmail.domain.model.account import AccountId
from chatmail.domain.model.mailbox import MailboxId, MailboxInfo, Modseq, Uid, UidValidity


class MailboxHead:
    """One row of `mailboxes`.

    A published head never changes: the writer changes a copy and publishing puts the copy in its
    place, so a rolled back batch leaves nothing behind.
    """

    __slots__ = (
        "account",
        "base_modseq",
        "deleted",
        "highest_modseq",
        "id",
        "is_gone",
        "is_subscribed",
        "keywords",
        "messages",
        "name",
        "octets",
        "special_use",
        "uid_next",
        "uid_validity",
        "unseen",
    )

    id: MailboxId
    account: AccountId
    name: str
    uid_validity: int
    uid_next: int
    highest_modseq: int
    messages: int
    unseen: int
    deleted: int
    octets: int
    special_use: str | None
    is_subscribed: bool
    keywords: tuple[str, ...]
    is_gone: bool
    base_modseq: int  # that of the head this draft was copied from

    @staticmethod
    def of_row(row: Sequence[Any]) -> MailboxHead:
        """Read a row in the order of the table's columns."""
        head = MailboxHead()
        (
            head.id,
            head.account,
            head.name,
            head.uid_validity,
            head.uid_next,
            head.highest_modseq,
            head.messages,
            head.unseen,
            head.deleted,
            head.octets,
            head.special_use,
            is_subscribed,
            keywords,
            _,
        ) = row
        head.is_subscribed = bool(is_subscribed)
        head.keywords = tuple(keywords.split())
        head.is_gone = False
        head.base_modseq = head.highest_modseq
        return head

    @staticmethod
    def of_new(
        id: MailboxId,
        account: AccountId,
        name: str,
        uid_validity: int,
        special_use: str | None = None,
        is_subscribed: bool = False,
    ) -> MailboxHead:
        """Return the head of an empty mailbox."""
        head = MailboxHead()
        head.id = id
        head.account = account
        head.name = name
        head.uid_validity = uid_validity
        head.uid_next = 1
        head.highest_modseq = 1
        head.messages = head.unseen = head.deleted = head.octets = 0
        head.special_use = special_use
        head.is_subscribed = is_subscribed
        head.keywords = ()
        head.is_gone = False
        head.base_modseq = 1
        return head

    def row(self) -> tuple[Any, ...]:
        """Return the whole row of a new mailbox."""
        return (
            self.id,
            self.account,
            self.name,
            self.uid_validity,
            self.uid_next,
            self.highest_modseq,
            self.messages,
            self.unseen,
            self.deleted,
            self.octets,
            self.special_use,
            int(self.is_subscribed),
            " ".join(self.keywords),
            0,
        )

    def copy(self) -> MailboxHead:
        """Return a draft for the next commit."""
        head = MailboxHead()
        head.id = self.id
        head.account = self.account
        head.name = self.name
        head.uid_validity = self.uid_validity
        head.uid_next = self.uid_next
        head.highest_modseq = self.highest_modseq
        head.messages = self.messages
        head.unseen = self.unseen
        head.deleted = self.deleted
        head.octets = self.octets
        head.special_use = self.special_use
        head.is_subscribed = self.is_subscribed
        head.keywords = self.keywords
        head.is_gone = self.is_gone
        head.base_modseq = self.highest_modseq
        return head

    @property
    def has_changed(self) -> bool:
        """Say whether this draft holds a change set."""
        return self.highest_modseq != self.base_modseq

    def info(self) -> MailboxInfo:
        """Return the counters as the domain sees them."""
        return MailboxInfo(
            id=self.id,
            name=self.name,
            uid_validity=UidValidity(self.uid_validity),
            uid_next=Uid(self.uid_next),
            highest_modseq=Modseq(self.highest_modseq),
            messages=self.messages,
            unseen=self.unseen,
            deleted=self.deleted,
            octets=self.octets,
            special_use=self.special_use,
            is_subscribed=self.is_subscribed,
        )
