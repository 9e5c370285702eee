"""A batch planned against rows that other processes change too.

What is read is locked first, so plans come from the rows themselves and not from memory. Locks
are taken in one order (accounts, mailboxes, then reference counts, each by number), so that two
processes seldom meet head on; when they do, the database rolls one back and it starts again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from chatmail.adapters.storage.head import MailboxHead
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.notices import mailbox_changed, texts
from chatmail.adapters.storage.postgresql.link import Link
from chatmail.adapters.storage.segments import Place
from chatmail.adapters.storage.statements import HEAD_COLUMNS, Statements
from chatmail.adapters.storage.transaction import StoredMessage, Transaction
from chatmail.adapters.storage.writer import Touches
from chatmail.domain.model.account import AccountId
from chatmail.domain.model.mailbox import MailboxId
from chatmail.domain.model.message import Body

CHANNEL: Final = "chatmail"

_HEAD_NAMES: Final = tuple(column.name for column in HEAD_COLUMNS)
HEADS: Final = f"SELECT {', '.join(_HEAD_NAMES)} FROM mailboxes"  # noqa: S608 - our own names
FLOOR_AT: Final = _HEAD_NAMES.index("expunged_floor")

_LOCK_ACCOUNTS: Final = (
    "SELECT id FROM accounts WHERE id = ANY(%s::bigint[]) ORDER BY id FOR UPDATE"
)
_LOCK_HEADS: Final = f"{HEADS} WHERE id = ANY(%s::bigint[]) ORDER BY id FOR UPDATE"
_LOCK_HOUSEHOLDS: Final = f"""{HEADS}
    WHERE id = ANY(%s::bigint[]) OR account = ANY(%s::bigint[]) ORDER BY id FOR UPDATE"""
_LOCK_BLOBS: Final = "SELECT id FROM blobs WHERE id = ANY(%s::bigint[]) ORDER BY id FOR UPDATE"
_LOCK_DEPARTING: Final = "SELECT mailbox FROM departing WHERE mailbox = %s FOR UPDATE"
_COUNT_REFS: Final = """UPDATE blobs SET refs = refs + changed.count
    FROM unnest(%s::bigint[], %s::bigint[]) AS changed (id, count)
    WHERE blobs.id = changed.id RETURNING blobs.id, blobs.refs"""
_BURY: Final = """WITH gone AS (
        DELETE FROM blobs WHERE id = ANY(%s::bigint[]) RETURNING id, segment, place, size)
    INSERT INTO dead_blobs (id, segment, place, size) SELECT id, segment, place, size FROM gone"""
_DROP_CONTENTS: Final = """WITH in_pieces AS (
        DELETE FROM pieces WHERE blob = ANY(%s::bigint[]))
    DELETE FROM contents WHERE blob = ANY(%s::bigint[])"""

_DROP_DEAD: Final = "DELETE FROM dead_blobs WHERE id = ANY(%s::bigint[])"
_NEXT_MAILBOXES: Final = "SELECT id FROM mailboxes WHERE id > %s ORDER BY id LIMIT %s"
_COUNT: Final = """SELECT mailboxes.id, count(messages.uid),
        coalesce(sum(blobs.size), 0)::bigint,
        count(*) FILTER (WHERE messages.flags & %s = 0),
        count(*) FILTER (WHERE messages.flags & %s != 0)
    FROM mailboxes
        LEFT JOIN messages ON messages.mailbox = mailboxes.id
        LEFT JOIN blobs ON blobs.id = messages.blob
    WHERE mailboxes.id = ANY(%s::bigint[]) GROUP BY mailboxes.id ORDER BY mailboxes.id"""

# All in one trip: the server is asked three times for a batch of deliveries, and commits.
_SEAL: Final = """WITH
    stored AS (INSERT INTO contents (blob, header, body)
        SELECT * FROM unnest(%s::bigint[], %s::bytea[], %s::bytea[])),
    added AS (INSERT INTO blobs
            (id, segment, place, size, header_size, internal_date_s, refs)
        SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
            %s::bigint[], %s::bigint[], %s::bigint[])),
    arrived AS (INSERT INTO messages (mailbox, uid, modseq, flags, keywords, blob)
        SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::int[],
            %s::text[], %s::bigint[])),
    moved AS (UPDATE mailboxes SET uid_next = new.uid_next,
            highest_modseq = new.highest_modseq, messages = new.messages,
            unseen = new.unseen, deleted = new.deleted, octets = new.octets,
            keywords = new.keywords
        FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
            %s::bigint[], %s::text[], %s::bigint[]) AS new (uid_next, highest_modseq,
            messages, unseen, deleted, octets, keywords, id)
        WHERE mailboxes.id = new.id),
    mark AS (INSERT INTO writers (id, batch, seen_s)
        VALUES (%s, %s, extract(epoch from clock_timestamp())::bigint)
        ON CONFLICT (id) DO UPDATE SET batch = excluded.batch, seen_s = excluded.seen_s)
    SELECT pg_notify(%s, notice) FROM unnest(%s::text[]) AS notice"""


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [[row[column] for row in rows] for column in range(width)]


class SharedTransaction(Transaction):
    """What jobs plan against, on a database with several writers."""

    __slots__ = ("_counts", "_households", "_link", "_may_lock", "_unused", "bodies", "notices")

    def __init__(
        self,
        sql: Statements,
        index: StoreIndex,
        new_id: Callable[[], int],
        now_s: int,
        link: Link,
        *,
        may_lock: bool = True,
    ) -> None:
        """Args:  may_lock: not in a transaction that only reads."""
        super().__init__(sql, index, new_id, now_s)
        self._link = link
        self._may_lock = may_lock
        self._households: set[AccountId] = set()
        self._counts: Counter[int] = Counter()
        self._unused: list[int] = []
        self.bodies: dict[int, Body] = {}
        self.notices: list[str] = []

    def tell(self, notice: str) -> None:
        """Tell other processes, with the commit."""
        self.notices.append(notice)

    # Locks

    def lock(self, touches: Iterable[Touches]) -> None:
        """Lock all rows that a batch is known to need, and read the heads among them."""
        accounts: set[AccountId] = set()
        households: set[AccountId] = set()
        mailboxes: set[MailboxId] = set()
        for one in touches:
            accounts.update(one.accounts, one.households)
            households.update(one.households)
            mailboxes.update(one.mailboxes)
        if accounts:
            self._link.execute(_LOCK_ACCOUNTS, sorted(accounts))
        self.drafts.update(dict.fromkeys(mailboxes))
        if households:
            rows = self._link.all(_LOCK_HOUSEHOLDS, sorted(mailboxes), sorted(households))
        elif mailboxes:
            rows = self._link.all(_LOCK_HEADS, sorted(mailboxes))
        else:
            rows = ()
        for row in rows:
            self.drafts[row[0]] = MailboxHead.of_row(row)
        self._households |= households

    def find(self, mailbox: MailboxId) -> MailboxHead | None:
        """Return the draft of a mailbox, whose row is ours until the end."""
        if mailbox not in self.drafts:
            if self._may_lock:
                self.lock((Touches((mailbox,)),))
            else:
                row = self.sql.head.one(mailbox)
                self.drafts[mailbox] = None if row is None else MailboxHead.of_row(row)
        return super().find(mailbox)

    def heads_of(self, account: AccountId) -> dict[str, MailboxHead]:
        """Return the drafts of all mailboxes of an account, by name."""
        if self._may_lock and account not in self._households:
            known = {id: draft for id, draft in self.drafts.items() if draft is not None}
            self.lock((Touches(households=(account,)),))
            self.drafts.update(known)  # what this batch has planned already stays
        return super().heads_of(account)

    # References: counted relative to the rows, all at the end

    def add_blob(
        self, place: Place, size: int, header_size: int, internal_date_s: int, refs: int
    ) -> None:
        """Add a row for a content; one nobody refers to was written for nothing."""
        if refs:
            super().add_blob(place, size, header_size, internal_date_s, refs)
        else:
            self._unused.append(place.blob)

    def refer(self, message: StoredMessage, count: int) -> None:
        """Note `count` more references to a blob (fewer when negative)."""
        self._counts[message.blob] += count

    def release(self, messages: Sequence[StoredMessage]) -> None:
        """Drop one reference per message."""
        for message in messages:
            self._counts[message.blob] -= 1

    def claim_departing(self, mailbox: MailboxId) -> bool:
        """Take the remains of a mailbox, or two processes would drop its references twice."""
        return bool(self._link.all(_LOCK_DEPARTING, mailbox))

    # End

    def seal(self, process: int, batch: int) -> None:
        """Write all that was gathered, the mark of the batch, and what others have to hear."""
        blobs, messages = self._blobs, self._messages
        self._blobs, self._messages = [], []
        small = [
            (blob, bytes(body.header), b"".join(body.chunks))
            for blob, body in self.bodies.items()
            if body.spooled is None and blob not in self._unused
        ]
        self._link.execute(
            _SEAL,
            *_columns(small, 3),
            *_columns(blobs, 7),
            *_columns(messages, 6),
            *_columns(self.changed_heads(), 8),
            process,
            batch,
            CHANNEL,
            texts(str(process), self.told()),
        )
        self._flush_outbound()
        self._count_references()

    def _count_references(self) -> None:
        counts = {blob: count for blob, count in sorted(self._counts.items()) if count}
        if counts:
            blobs = list(counts)
            self._link.execute(_LOCK_BLOBS, blobs)
            rows = self._link.all(_COUNT_REFS, blobs, list(counts.values()))
            dead = [blob for blob, refs in rows if refs <= 0]
            if dead:
                self._link.execute(_BURY, dead)
        if self._unused:
            self._link.execute(_DROP_CONTENTS, self._unused, self._unused)

    def told(self) -> list[str]:
        """Return everything others have to hear of."""
        changed: list[Any] = [
            mailbox_changed(draft.id, draft.highest_modseq)
            for draft in self.drafts.values()
            if draft is not None and draft.has_changed
        ]
        return [*changed, *self.notices]

    def look(self, mailboxes: Sequence[MailboxId]) -> list[MailboxHead]:
        """Return the heads of those mailboxes that exist, without a lock."""
        rows = self._link.all(f"{HEADS} WHERE id = ANY(%s::bigint[])", list(mailboxes))
        return [MailboxHead.of_row(row) for row in rows]

    def erase(self, dead: Sequence[int]) -> None:
        """Delete contents that have been dead long enough."""
        self._link.execute(_DROP_CONTENTS, list(dead), list(dead))
        self._link.execute(_DROP_DEAD, list(dead))

    def count_after(
        self, after: int, limit: int, seen_bit: int, deleted_bit: int
    ) -> list[tuple[MailboxHead, tuple[int, int, int, int]]]:
        """Lock the next mailboxes behind a number and count their rows.

        Returns:  each head with (messages, octets, unseen, deleted), ascending ids.
        """
        self.flush()
        ids = [id for (id,) in self._link.all(_NEXT_MAILBOXES, after, limit)]
        self.lock((Touches(tuple(id for id in ids if id not in self.drafts)),))
        counted = self._link.all(_COUNT, seen_bit, deleted_bit, ids)
        heads = [(self.find(row[0]), row) for row in counted]
        return [(head, (row[1], row[2], row[3], row[4])) for head, row in heads if head is not None]
