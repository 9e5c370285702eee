"""Changes of messages that are in mailboxes: flags, expunge, copy, move."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chatmail.adapters.storage.flags import DELETED_BIT, SEEN_BIT, encode_flags, spell
from chatmail.adapters.storage.flags import decode_flags as decode
from chatmail.adapters.storage.head import MailboxHead
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.transaction import StoredMessage, Transaction
from chatmail.adapters.storage.writer import Job, Touches
from chatmail.domain.model.account import AccountId
from chatmail.domain.model.mailbox import (
    CopyReceipt,
    Flags,
    MailboxChanges,
    MailboxEntry,
    MailboxId,
    Modseq,
    Uid,
    UidValidity,
)
from chatmail.domain.ports.mailstore import FlagOperation, FlagOutcome, MailboxProblem


class FlagJob(Job):
    """STORE."""

    __slots__ = (
        "_changed",
        "_flags",
        "_mailbox",
        "_operation",
        "_uids",
        "_unchanged_since",
        "outcome",
    )

    outcome: FlagOutcome

    def __init__(
        self,
        mailbox: MailboxId,
        uids: Sequence[Uid],
        operation: FlagOperation,
        flags: Flags,
        unchanged_since: Modseq | None,
    ) -> None:
        self._mailbox = mailbox
        self._uids = uids
        self._operation = operation
        self._flags = flags
        self._unchanged_since = unchanged_since
        self._changed: list[MailboxEntry] = []

    @property
    def touches(self) -> Touches:
        """Return what it changes."""
        return Touches((self._mailbox,))

    def plan(self, tx: Transaction) -> None:
        """Change what differs under one new modseq."""
        head = tx.need(self._mailbox)
        found = tx.messages(head.id, self._uids)
        limit = self._unchanged_since
        refused = [] if limit is None else [one for one in found if one.modseq > limit]
        granted = found if limit is None else [one for one in found if one.modseq <= limit]
        learn = self._operation is not FlagOperation.REMOVE
        wanted, keywords = spell(self._flags, head.keywords, learn=learn)
        changed = [one for one in granted if self._apply(one, wanted, head)]
        if changed:
            head.highest_modseq += 1
            head.keywords = keywords
            for message in changed:
                message.modseq = head.highest_modseq
            tx.sql.save_flags.run_many(
                [
                    (head.highest_modseq, one.flags, one.keywords, head.id, one.uid)
                    for one in changed
                ]
            )
        entries = [one.entry(tx.index) for one in granted]
        touched = {one.uid for one in changed}
        self._changed = [entry for entry in entries if entry.uid in touched]
        self.outcome = FlagOutcome(entries, [Uid(one.uid) for one in refused])

    def _apply(self, message: StoredMessage, wanted: Flags, head: MailboxHead) -> bool:
        """Change one message and the counters; say whether anything differs."""
        old = decode(message.flags, message.keywords)
        new = _combined(self._operation, old, wanted)
        if new == old:
            return False
        bits, keywords = encode_flags(new)
        head.unseen += _lost(message.flags, bits, SEEN_BIT)
        head.deleted -= _lost(message.flags, bits, DELETED_BIT)
        message.flags, message.keywords = bits, keywords
        return True

    def publish(self, index: StoreIndex) -> None:
        """Show the new flags."""
        index.replace(self._mailbox, self._changed)


def _combined(operation: FlagOperation, old: Flags, flags: Flags) -> Flags:
    if operation is FlagOperation.REPLACE:
        return flags
    if operation is FlagOperation.ADD:
        return old | flags
    return old - flags


def _lost(old: int, new: int, bit: int) -> int:
    """Return 1 when the flag went, -1 when it came, else 0."""
    return bool(old & bit) - bool(new & bit)


class ExpungeJob(Job):
    """EXPUNGE, UID EXPUNGE, CLOSE."""

    __slots__ = ("_doomed", "_mailbox", "_modseq", "_uids", "changes")

    changes: MailboxChanges

    def __init__(self, mailbox: MailboxId, uids: Sequence[Uid] | None) -> None:
        self._mailbox = mailbox
        self._uids = uids
        self._doomed: list[Uid] = []
        self._modseq = 0

    @property
    def touches(self) -> Touches:
        """Return what it changes."""
        return Touches((self._mailbox,))

    def plan(self, tx: Transaction) -> None:
        """Remove what is marked \\Deleted."""
        head = tx.need(self._mailbox)
        self._doomed = []
        # CLOSE comes after every message received; most of them find nothing to remove.
        if head.deleted:
            found = tx.messages(head.id, self._uids)
            doomed = [one for one in found if one.flags & DELETED_BIT]
            if doomed:
                head.highest_modseq += 1
                tx.remove(head, doomed)
                self._doomed = [Uid(one.uid) for one in doomed]
        self._modseq = head.highest_modseq
        self.changes = MailboxChanges(
            highest_modseq=Modseq(head.highest_modseq),
            uid_next=Uid(head.uid_next),
            arrived=(),
            changed=(),
            expunged=self._doomed,
        )

    def publish(self, index: StoreIndex) -> None:
        """Take the messages away."""
        if self._doomed:
            index.remove(self._mailbox, self._doomed, self._modseq)


class CopyJob(Job):
    """COPY and MOVE."""

    __slots__ = (
        "_account",
        "_arrived",
        "_gone",
        "_gone_at",
        "_limit_bytes",
        "_limit_messages",
        "_moves",
        "_source",
        "_target",
        "_target_id",
        "_uids",
        "outcome",
    )

    outcome: CopyReceipt | MailboxProblem

    def __init__(
        self,
        source: MailboxId,
        uids: Sequence[Uid],
        account: AccountId,
        target: str,
        *,
        limit_bytes: int | None = None,
        limit_messages: int | None = None,
        moves: bool = False,
    ) -> None:
        self._source = source
        self._uids = uids
        self._account = account
        self._target = target
        self._limit_bytes = limit_bytes
        self._limit_messages = limit_messages
        self._moves = moves
        self._target_id = source
        self._arrived: list[MailboxEntry] = []
        self._gone: list[int] = []
        self._gone_at = 0

    @property
    def touches(self) -> Touches:
        """Return what it changes."""
        return Touches((self._source,), households=(self._account,))

    def plan(self, tx: Transaction) -> None:
        """Copy all or none; a move removes in the same transaction."""
        self._arrived, self._gone = [], []
        self.outcome = self._plan(tx)

    def _plan(self, tx: Transaction) -> CopyReceipt | MailboxProblem:
        source = tx.need(self._source)
        heads = tx.heads_of(self._account)
        target = heads.get(self._target)
        if target is None:
            return MailboxProblem.TRY_CREATE
        found = tx.messages(source.id, self._uids)
        if self._limit_bytes is not None:
            used = sum(head.octets for head in heads.values())
            if used + sum(one.size for one in found) > self._limit_bytes:
                return MailboxProblem.OVER_QUOTA
        if self._limit_messages is not None:
            held = sum(head.messages for head in heads.values())
            if held + len(found) > self._limit_messages:
                return MailboxProblem.OVER_QUOTA
        if found:
            self._target_id = target.id
            self._arrived = copy_messages(tx, found, target)
            if self._moves:
                self._remove(tx, source, target, found)
        return CopyReceipt(
            UidValidity(target.uid_validity),
            tuple(Uid(one.uid) for one in found),
            tuple(entry.uid for entry in self._arrived),
        )

    def _remove(
        self,
        tx: Transaction,
        source: MailboxHead,
        target: MailboxHead,
        found: Sequence[StoredMessage],
    ) -> None:
        if source is not target:
            source.highest_modseq += 1
        tx.remove(source, found)
        self._gone = [one.uid for one in found]
        self._gone_at = source.highest_modseq

    def publish(self, index: StoreIndex) -> None:
        """Show the copies, take the originals away."""
        for entry in self._arrived:
            index.arrive(self._target_id, entry)
        if self._gone:
            index.remove(self._source, self._gone, self._gone_at)


def copy_messages(
    tx: Transaction, found: Iterable[StoredMessage], target: MailboxHead
) -> list[MailboxEntry]:
    """Append copies to a mailbox under one new modseq; flags and internal date stay."""
    target.highest_modseq += 1
    arrived = []
    for message in found:
        flags, target.keywords = spell(
            decode(message.flags, message.keywords), target.keywords, learn=True
        )
        bits, keywords = encode_flags(flags)
        uid = tx.add_message(target, bits, keywords, message.blob, message.size)
        tx.refer(message, 1)
        original = message.entry(tx.index)
        arrived.append(
            MailboxEntry(
                Uid(uid),
                Modseq(target.highest_modseq),
                flags,
                message.size,
                message.header_size,
                message.internal_date_s,
                original.blob,
            )
        )
    return arrived
