"""One batch's view of the store while it is planned, in the writer's thread.

Heads are drafts, copied on first touch. New messages are gathered and inserted with three
`executemany` at the end (or before a job that reads rows), the rest is written as it is planned.
Nothing in memory changes before the commit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from chatmail.adapters.storage.federation.queue_rows import message_row, recipient_rows
from chatmail.adapters.storage.flags import DELETED_BIT, SEEN_BIT, decode_flags
from chatmail.adapters.storage.head import MailboxHead
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.segments import Place
from chatmail.adapters.storage.statements import Statements
from chatmail.domain.model.account import AccountId
from chatmail.domain.model.errors import MailboxGone
from chatmail.domain.model.mailbox import MailboxEntry, MailboxId, Modseq, Uid
from chatmail.domain.model.outbound import NewOutbound

SPAN_FACTOR: Final = 4
SPAN_SLACK: Final = 64
DROP_AT_ONCE: Final = 500


class StoredMessage:
    """One row of `messages` with its blob."""

    __slots__ = (
        "blob",
        "flags",
        "header_size",
        "internal_date_s",
        "keywords",
        "modseq",
        "offset",
        "refs",
        "segment",
        "size",
        "uid",
    )

    def __init__(self, row: Sequence[Any]) -> None:
        (
            self.uid,
            self.modseq,
            self.flags,
            self.keywords,
            self.blob,
            self.segment,
            self.offset,
            self.size,
            self.header_size,
            self.internal_date_s,
            self.refs,
        ) = row

    def entry(self, index: StoreIndex) -> MailboxEntry:
        """Return the message as sessions hold it."""
        return MailboxEntry(
            Uid(self.uid),
            Modseq(self.modseq),
            decode_flags(self.flags, self.keywords),
            self.size,
            self.header_size,
            self.internal_date_s,
            index.places.intern(self.blob, self.segment, self.offset),
        )


class Transaction:
    """What jobs plan against."""

    __slots__ = (
        "_blobs",
        "_messages",
        "_queued",
        "_queued_recipients",
        "_refs",
        "drafts",
        "index",
        "new_id",
        "now_s",
        "process",
        "sql",
    )

    def __init__(
        self, sql: Statements, index: StoreIndex, new_id: Callable[[], int], now_s: int
    ) -> None:
        self.sql = sql
        self.index = index
        self.new_id = new_id
        self.now_s = now_s
        self.process = 0  # its number among those that share the database
        self.drafts: dict[MailboxId, MailboxHead | None] = {}
        self._blobs: list[tuple[Any, ...]] = []
        self._messages: list[tuple[Any, ...]] = []
        self._queued: list[tuple[Any, ...]] = []
        self._queued_recipients: list[tuple[Any, ...]] = []
        self._refs: dict[int, int] = {}

    def tell(self, notice: str) -> None:
        """Tell other processes on the same database, with the commit; see `notices`."""

    # Heads

    def find(self, mailbox: MailboxId) -> MailboxHead | None:
        """Return the draft of a mailbox, None when there is no such mailbox (any more)."""
        try:
            draft = self.drafts[mailbox]
        except KeyError:
            pass
        else:
            return None if draft is None or draft.is_gone else draft
        head = self.index.heads.get(mailbox)
        if head is not None:
            draft = head.copy()
        else:
            row = self.sql.head.one(mailbox)
            draft = None if row is None else MailboxHead.of_row(row)
        self.drafts[mailbox] = draft
        return draft

    def need(self, mailbox: MailboxId) -> MailboxHead:
        """Return the draft of a mailbox. Raises:  MailboxGone."""
        draft = self.find(mailbox)
        if draft is None:
            raise MailboxGone("mailbox was deleted")
        return draft

    def heads_of(self, account: AccountId) -> dict[str, MailboxHead]:
        """Return the drafts of all mailboxes of an account, by name, sorted."""
        found = {}
        for row in self.sql.heads_of.all(account):
            draft = self.drafts.get(row[0])
            if draft is None:
                draft = self.drafts[row[0]] = MailboxHead.of_row(row)
            found[draft.name] = draft
        return found

    def usage(self, account: AccountId) -> int:
        """Return the octets an account holds, this batch included."""
        return sum(head.octets for head in self.heads_of(account).values())

    # Messages in

    def add_blob(
        self, place: Place, size: int, header_size: int, internal_date_s: int, refs: int
    ) -> None:
        """Add a row for a record; one nobody refers to is dead at once."""
        if refs:
            self._blobs.append(
                (place.blob, place.segment, place.offset, size, header_size, internal_date_s, refs)
            )
        else:
            self.sql.add_dead.run(place.blob, place.segment, place.offset, size)

    def add_message(self, head: MailboxHead, bits: int, keywords: str, blob: int, size: int) -> int:
        """Append a message to a mailbox under its next UID, with its current modseq."""
        uid = head.uid_next
        head.uid_next = uid + 1
        head.messages += 1
        head.octets += size
        if not bits & SEEN_BIT:
            head.unseen += 1
        if bits & DELETED_BIT:
            head.deleted += 1
        self._messages.append((head.id, uid, head.highest_modseq, bits, keywords, blob))
        return uid

    def add_outbound(self, new: NewOutbound, blob: int, size: int) -> None:
        """Queue a message for other relays; its blob has to count the reference."""
        self._queued.append(message_row(new, blob))
        self._queued_recipients += recipient_rows(new, size, self.process)

    def refer(self, message: StoredMessage, count: int) -> None:
        """Note `count` more references to a blob (fewer when negative)."""
        self._refs.setdefault(message.blob, message.refs)
        self._refs[message.blob] += count

    # Messages found

    def messages(
        self, mailbox: MailboxId, uids: Sequence[int] | None = None
    ) -> list[StoredMessage]:
        """Return messages by UID (None: all), ascending; missing ones are left out."""
        self.flush()
        if uids is None:
            return [StoredMessage(row) for row in self.sql.all_messages.all(mailbox)]
        wanted = set(uids)
        if not wanted:
            return []
        first, last = min(wanted), max(wanted)
        if last - first <= SPAN_FACTOR * len(wanted) + SPAN_SLACK:
            rows: Iterable[Sequence[Any]] = self.sql.message_span.all(mailbox, first, last)
            return [StoredMessage(row) for row in rows if row[0] in wanted]
        found = []
        for uid in sorted(wanted):
            row = self.sql.one_message.one(mailbox, uid)
            if row is not None:
                found.append(StoredMessage(row))
        return found

    # Messages out

    def remove(self, head: MailboxHead, doomed: Sequence[StoredMessage]) -> None:
        """Expunge messages under the mailbox's current modseq, and journal that."""
        self.strike(head, doomed)
        self.release(doomed)

    def strike(self, head: MailboxHead, doomed: Sequence[StoredMessage]) -> None:
        """Do what `remove` does, but leave the references to be released by the caller."""
        modseq = head.highest_modseq
        self.sql.remove_messages.run_many([(head.id, message.uid) for message in doomed])
        self.sql.add_expunged.run_many(
            [(head.id, modseq, message.uid, self.now_s) for message in doomed]
        )
        for message in doomed:
            head.messages -= 1
            head.octets -= message.size
            if not message.flags & SEEN_BIT:
                head.unseen -= 1
            if message.flags & DELETED_BIT:
                head.deleted -= 1

    def release(self, messages: Sequence[StoredMessage]) -> None:
        """Drop one reference per message; blobs without any become dead."""
        known = {message.blob: message for message in messages}
        kept = []
        dead = []
        for blob, count in Counter(message.blob for message in messages).items():
            refs = self._refs.pop(blob, known[blob].refs) - count
            if refs > 0:
                kept.append((refs, blob))
            else:
                dead.append(known[blob])
        self.sql.save_refs.run_many(kept)
        self.sql.remove_blobs.run_many([(message.blob,) for message in dead])
        self.sql.add_dead.run_many(
            [(message.blob, message.segment, message.offset, message.size) for message in dead]
        )

    def drop_mailbox(self, head: MailboxHead) -> bool:
        """Delete a mailbox with everything in it.

        Returns:  whether it held so much that its messages are left to `departure`: nobody sees
            them any more, but they are still there.
        """
        # UIDs bound both the messages and the journal, so this bounds the transaction.
        is_departing = head.uid_next > DROP_AT_ONCE
        if is_departing:
            self.sql.retention.add_departing.run(head.id)
        else:
            messages = self.messages(head.id)
            self.sql.remove_all_messages.run(head.id)
            self.sql.remove_expunged.run(head.id)
            self.release(messages)
        self.sql.retention.remove_shown.run(head.id)
        self.sql.remove_mailbox.run(head.id)
        head.is_gone = True
        head.highest_modseq += 1
        return is_departing

    def claim_departing(self, mailbox: MailboxId) -> bool:
        """Take the remains of a mailbox; False: somebody else has removed them all."""
        return True

    # End

    def flush(self) -> None:
        """Write what was gathered."""
        if self._blobs:
            self.sql.add_blobs.run_many(self._blobs)
            self._blobs = []
        if self._messages:
            self.sql.add_messages.run_many(self._messages)
            self._messages = []
        self._flush_outbound()
        if self._refs:
            self.sql.save_refs.run_many([(refs, blob) for blob, refs in self._refs.items()])
            self._refs = {}

    def _flush_outbound(self) -> None:
        if self._queued:
            self.sql.outbound.add_messages.run_many(self._queued)
            self.sql.outbound.add_recipients.run_many(self._queued_recipients)
            self._queued, self._queued_recipients = [], []

    def finish(self) -> int:
        """Write what was gathered and all heads; returns how many rows that were."""
        written = len(self._blobs) + len(self._messages) + len(self._queued_recipients)
        self.flush()
        rows = self.changed_heads()
        self.sql.save_head.run_many(rows)
        return written + len(rows)

    def changed_heads(self) -> list[tuple[Any, ...]]:
        """Return the rows of all drafts that hold a change set, as `save_head` wants them."""
        return [
            (
                draft.uid_next,
                draft.highest_modseq,
                draft.messages,
                draft.unseen,
                draft.deleted,
                draft.octets,
                " ".join(draft.keywords),
                draft.id,
            )
            for draft in self.drafts.values()
            if draft is not None and draft.has_changed and not draft.is_gone
        ]
