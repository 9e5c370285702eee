"""Mailboxes (IMAP folders): numbers, entries, changes, receipts, hints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NewType

import attrs

MailboxId = NewType("MailboxId", int)
Uid = NewType("Uid", int)
UidValidity = NewType("UidValidity", int)
Modseq = NewType("Modseq", int)

INBOX: Final = "INBOX"
DELIMITER: Final = "/"
"""Between the levels of a mailbox name."""

Flags = frozenset[str]
"""System flags with their backslash, in RFC spelling (`\\Seen`), and keywords as first spelt."""

NO_FLAGS: Final[Flags] = frozenset()
SEEN: Final = "\\Seen"
DELETED: Final = "\\Deleted"
SYSTEM_FLAGS: Final = ("\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft")


@attrs.frozen
class MailboxEntry:
    """One message in one mailbox. Replaced, never changed.

    `blob` is an opaque handle that only the store that gave it can read.
    `internal_date_s` is unix time, UTC. `size` is RFC822.SIZE, `header_size` its header block
    with the ending empty line.
    """

    uid: Uid
    modseq: Modseq
    flags: Flags
    size: int
    header_size: int
    internal_date_s: int
    blob: Any


@attrs.frozen(kw_only=True)
class MailboxInfo:
    """A mailbox as LIST and STATUS see it; all counters are O(1)."""

    id: MailboxId
    name: str
    uid_validity: UidValidity
    uid_next: Uid
    highest_modseq: Modseq
    messages: int
    unseen: int
    deleted: int
    octets: int
    special_use: str | None
    is_subscribed: bool


@attrs.frozen(kw_only=True)
class MailboxChanges:
    """What happened in a mailbox after some modseq, up to `highest_modseq`.

    `arrived`: entries with a UID at or above the asked `uid_next`, ascending, still present.
    `changed`: older entries whose flags changed, ascending UID.
    `expunged`: UIDs that are gone, ascending; may name UIDs the asker never saw.
    """

    highest_modseq: Modseq
    uid_next: Uid
    arrived: Sequence[MailboxEntry]
    changed: Sequence[MailboxEntry]
    expunged: Sequence[Uid]


@attrs.frozen
class CopyReceipt:
    """UIDs of a COPY or MOVE, pairwise (RFC 4315 COPYUID)."""

    uid_validity: UidValidity
    source: tuple[Uid, ...]
    destination: tuple[Uid, ...]


@attrs.frozen
class AppendReceipt:
    """Where one message landed (RFC 4315 APPENDUID)."""

    mailbox: MailboxId
    uid_validity: UidValidity
    uid: Uid


@attrs.frozen
class MailboxHint:
    """`mailbox` has reached `modseq`: a hint, never data."""

    mailbox: MailboxId
    modseq: Modseq
