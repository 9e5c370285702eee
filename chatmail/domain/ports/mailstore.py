"""Mailboxes and their messages."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from typing import Protocol

import attrs

from chatmail.domain.model.account import AccountId
from chatmail.domain.model.mailbox import (
    CopyReceipt,
    Flags,
    MailboxChanges,
    MailboxEntry,
    MailboxId,
    MailboxInfo,
    Modseq,
    Uid,
    UidValidity,
)


class FlagOperation(enum.Enum):
    """How STORE combines flags."""

    REPLACE = "replace"
    ADD = "add"
    REMOVE = "remove"


@attrs.frozen
class FlagOutcome:
    """What a STORE did.

    `entries`: every message asked for that exists and was not refused, after the change,
    ascending UID (unchanged ones keep their modseq). `modified`: UIDs refused by UNCHANGEDSINCE.
    """

    entries: Sequence[MailboxEntry]
    modified: Sequence[Uid]


class MailboxProblem(enum.Enum):
    """Why a change of mailbox names or a copy was refused."""

    NONEXISTENT = "nonexistent"
    ALREADY_EXISTS = "already_exists"
    CANNOT = "cannot"
    LIMIT = "limit"
    OVER_QUOTA = "over_quota"
    TRY_CREATE = "try_create"


class OpenMailbox(Protocol):
    """A mailbox held in memory for one session. All but `load` and `changes_since` is sync.

    Reads never see half a commit. Any method raises MailboxGone once the mailbox was deleted.
    """

    @property
    def id(self) -> MailboxId: ...

    @property
    def name(self) -> str: ...

    @property
    def uid_validity(self) -> UidValidity: ...

    def info(self) -> MailboxInfo:
        """Return the counters as of the last commit. O(1)."""

    def uids(self) -> tuple[Sequence[Uid], int]:
        """Return a shared ascending sequence of UIDs and how many of its items are valid. O(1).

        The caller never changes it; the store only ever appends behind the given count (an
        expunge makes it start a new sequence), so the first `count` items stay as they are.
        """

    async def load(self, uids: Iterable[Uid]) -> None:
        """Bring messages into memory; they stay there while the mailbox is open.

        Raises:  TransientFailure: they could not be read.
        Cost:  no checkpoint, no thread, when they are there; else some reads, each of a thousand
            messages at most, of those around the ones named too.
        """

    def entry(self, uid: Uid) -> MailboxEntry | None:
        """Return one message, None when there is none with this UID. O(1).

        Entries that `load` has brought, that were told of by `changes_since`, or that any call has
        returned before, are in memory.
        Raises:  LookupError: it was not loaded.
        """

    def first_unseen(self) -> Uid | None:
        """Return the lowest UID without \\Seen; amortised O(1).

        None: there is none; or flags have changed since the mailbox was opened, and the next one
        would have to be looked up.
        """

    def keywords(self) -> Sequence[str]:
        """Return the keywords in use, in order of first use."""

    def has_news(self, modseq: Modseq, uid_next: Uid) -> bool:
        """Say whether anything was committed after `modseq`, or arrived from `uid_next`. O(1)."""

    async def changes_since(self, modseq: Modseq, uid_next: Uid) -> MailboxChanges:
        """Return what was committed after `modseq`; arrivals are UIDs >= `uid_next`.

        Cost:  proportional to the changes for a recent `modseq`; no thread.
        """

    def changes_now(self, modseq: Modseq, uid_next: Uid) -> MailboxChanges | None:
        """Return what `changes_since` returns, None if that would have to wait."""

    def close(self) -> None:
        """Let the store forget the mailbox when memory is wanted. Idempotent."""


class MailStore(Protocol):
    """All mailboxes. Writes go through the same single writer as `Intake`, in one order."""

    async def open(self, account: AccountId, name: str) -> OpenMailbox | None:
        """Open a mailbox by its exact name (`INBOX` in capitals); None: there is none.

        Raises:  TransientFailure: it could not be read.
        """

    async def read(self, entry: MailboxEntry, offset: int, length: int) -> bytes:
        """Return `length` octets of a message from `offset` (fewer at its end).

        Raises:  TransientFailure: the octets could not be read or are damaged.
        Cost:  no thread while the page is in memory.
        """

    async def read_many(self, wanted: Sequence[tuple[MailboxEntry, int, int]]) -> list[bytes]:
        """`read` for several (entry, offset, length), at most one thread hop together."""

    async def set_flags(
        self,
        mailbox: MailboxId,
        uids: Sequence[Uid],
        operation: FlagOperation,
        flags: Flags,
        unchanged_since: Modseq | None = None,
    ) -> FlagOutcome:
        """Change flags in one transaction; a change set takes one new modseq."""

    async def expunge(self, mailbox: MailboxId, uids: Sequence[Uid] | None) -> MailboxChanges:
        """Remove the messages marked \\Deleted, all or only those among `uids`.

        Returns:  `expunged` names what this call removed, ascending.
        """

    async def copy(
        self,
        source: MailboxId,
        uids: Sequence[Uid],
        account: AccountId,
        target: str,
        *,
        limit_bytes: int | None,
        limit_messages: int | None = None,
    ) -> CopyReceipt | MailboxProblem:
        """Copy messages into the account's mailbox `target`, all or none; octets are shared.

        `limit_bytes`, `limit_messages`: refuse when the account would hold more (None: no check).
        """

    async def move(
        self, source: MailboxId, uids: Sequence[Uid], account: AccountId, target: str
    ) -> CopyReceipt | MailboxProblem:
        """Copy and expunge in one transaction."""

    async def list(self, account: AccountId) -> list[MailboxInfo]:
        """Return all mailboxes of an account, by name."""

    async def info(self, account: AccountId, name: str) -> MailboxInfo | None:
        """Return one mailbox's counters. O(1)."""

    async def create(
        self, account: AccountId, name: str, special_use: str | None, now_s: int
    ) -> MailboxInfo | MailboxProblem:
        """Create a mailbox; its UIDVALIDITY exceeds every earlier one of this account."""

    async def delete(self, account: AccountId, name: str) -> MailboxProblem | None:
        """Delete a mailbox with its messages. Children stay (spec mail 4.4)."""

    async def rename(
        self, account: AccountId, old: str, new: str, now_s: int
    ) -> MailboxProblem | None:
        """Rename a mailbox and its children; INBOX instead moves its messages into `new`."""

    async def subscribe(self, account: AccountId, name: str, subscribed: bool) -> bool:
        """Set the subscription mark; False: no such mailbox."""

    async def usage(self, account: AccountId) -> int:
        """Return the sum of message sizes over all mailboxes, as of the last commit."""

    async def trim(
        self,
        account: AccountId,
        target_bytes: int,
        older_than_s: int,
        *,
        target_messages: int | None = None,
    ) -> int:
        """Expunge oldest messages (by internal date) until at most `target_bytes` are used.

        Messages with an internal date at or after `older_than_s` stay. `target_messages`: and
        until the account holds at most so many.
        Returns:  octets in use afterwards.
        Cost:  one read of the account's messages outside the writer; at most 500 deletions in one
            transaction.
        """


class ObjectIds(Protocol):
    """Names that clients may keep for good (RFC 8474): letters, digits, `_`, `-`. Sync.

    No id is ever given to anything else, and none tells of other accounts.
    """

    def mailbox(self, info: MailboxInfo) -> str:
        """Return the MAILBOXID of a mailbox: it stays when the name changes."""

    def email(self, account: AccountId, entry: MailboxEntry) -> str:
        """Return the EMAILID of a message: the same for all its copies within the account."""


class DeviceTokens(Protocol):
    """Push tokens of an account (spec policy 5: an append-only set, refreshed)."""

    async def add(self, account: AccountId, token: str, now_s: int) -> None:
        """Add or refresh a token; at most 30 stay, the oldest goes."""

    async def remove(self, account: AccountId, token: str) -> None:
        """Remove a token."""

    async def of(self, account: AccountId, now_s: int) -> list[str]:
        """Return the live tokens in order of first registration."""
