"""How the rows of a mailbox come into memory: all of a small one, the UIDs of a large one.

SELECT needs only counters, UIDs and the first unseen message. UIDs that leave no gap follow from
the first and the last; else SQL joins them to texts, which takes a quarter of the time that a row
each does and leaves the interpreter to others meanwhile. Everything else of a large mailbox is
read page by page.

Measured with SQLite, 100,000 messages: 950 ms for all rows, 5 ms for UIDs without gaps, 27 with.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, Executable, bindparam, select, text

from chatmail.adapters.storage.database import Prepared
from chatmail.adapters.storage.flags import SEEN_BIT
from chatmail.adapters.storage.head import MailboxHead
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.loaded import BEYOND, LoadedMailbox
from chatmail.adapters.storage.schema import expunged, mailboxes, messages
from chatmail.adapters.storage.statements import HEAD_COLUMNS, select_messages
from chatmail.adapters.storage.transaction import StoredMessage
from chatmail.domain.model.mailbox import MailboxEntry, MailboxId

WHOLE_MESSAGES: Final = 512
"""A mailbox up to here is read at once: that costs 3 ms, and one wait instead of two."""
UIDS_PER_READ: Final = 8192
"""Numbers are read from text in steps of a millisecond: other threads wait for no longer."""
MOST_READS: Final = 16
"""Of a mailbox most of whose UIDs are gone, a read covers more of them."""


# SQL joins numbers to text by other words in each database.
_JOINED: Final = {"sqlite": "group_concat(uid)", "postgresql": "string_agg(uid::text, ',')"}

# Straight from the table: out of a subquery with a LIMIT it takes twice as long.
_UIDS: Final = """SELECT {joined} FROM messages
    WHERE mailbox = :p_mailbox AND uid >= :p_first AND uid < :p_behind{condition}"""
_CHANGED: Final = " AND modseq > :p_modseq"
_FIRST: Final = "SELECT min(uid) FROM messages WHERE mailbox = :p_mailbox"
_LAST: Final = "SELECT max(uid) FROM messages WHERE mailbox = :p_mailbox"
_LOWEST_UNSEEN: Final = """SELECT min(uid) FROM messages
    WHERE mailbox = :p_mailbox AND (flags & :p_seen) = 0"""
_NTH_UNSEEN: Final = """SELECT uid FROM messages
    WHERE mailbox = :p_mailbox AND (flags & :p_seen) = 0
    ORDER BY uid DESC LIMIT 1 OFFSET :p_place"""


def _param(name: str) -> BindParameter[int]:
    return bindparam(name)


class MailboxRows:
    """Queries about one mailbox, compiled for one connection. Call them inside one snapshot."""

    def __init__(self, connection: Connection) -> None:
        def prepared(statement: Executable, *names: str) -> Prepared:
            return Prepared(connection, statement, ["p_mailbox", *names])

        self.connection = connection
        is_mine = messages.c.mailbox == _param("p_mailbox")
        is_it = mailboxes.c.id == _param("p_mailbox")
        uid = messages.c.uid
        joined = _JOINED[connection.dialect.name]
        self._head = prepared(select(*HEAD_COLUMNS).where(is_it))
        self._all = prepared(select_messages().where(is_mine).order_by(uid))
        is_among = is_mine & (uid >= _param("p_first")) & (uid < _param("p_behind"))
        self._span = prepared(
            select_messages().where(is_among).order_by(uid), "p_first", "p_behind"
        )
        self._first, self._last = prepared(text(_FIRST)), prepared(text(_LAST))
        uids = _UIDS.format(joined=joined, condition="")
        self._uids = prepared(text(uids), "p_first", "p_behind")
        changed = _UIDS.format(joined=joined, condition=_CHANGED)
        self._changed = prepared(text(changed), "p_first", "p_behind", "p_modseq")
        self._lowest_unseen = prepared(text(_LOWEST_UNSEEN), "p_seen")
        self._nth_unseen = prepared(text(_NTH_UNSEEN), "p_seen", "p_place")
        self._floor = prepared(select(mailboxes.c.expunged_floor).where(is_it))
        is_later = (expunged.c.mailbox == _param("p_mailbox")) & (
            expunged.c.modseq > _param("p_modseq")
        )
        self._expunged = prepared(select(expunged.c.uid).where(is_later), "p_modseq")

    def head(self, mailbox: MailboxId) -> MailboxHead | None:
        """Return the head, None when there is no such mailbox."""
        row = self._head.one(mailbox)
        return None if row is None else MailboxHead.of_row(row)

    def load(self, mailbox: MailboxId, index: StoreIndex) -> LoadedMailbox | None:
        """Return a mailbox as sessions share it; None: there is none."""
        head = self.head(mailbox)
        if head is None:
            return None
        if head.messages <= WHOLE_MESSAGES:
            return LoadedMailbox(head, _entries(self._all.all(mailbox), index))
        return LoadedMailbox(
            head, uids=self._all_uids(head), lowest_unseen=self.lowest_unseen(head)
        )

    def pages(
        self, mailbox: MailboxId, spans: Iterable[tuple[int, int]], index: StoreIndex
    ) -> list[MailboxEntry]:
        """Return the messages from a UID to below another, for each pair."""
        rows = [row for first, behind in spans for row in self._span.all(mailbox, first, behind)]
        return _entries(rows, index)

    def changed_since(self, mailbox: MailboxId, modseq: int) -> array[int]:
        """Return the UIDs of what came or changed after a modseq; looks at every row."""
        return _read_uids(
            *self._ends(mailbox),
            lambda first, behind: self._changed.one(mailbox, first, behind, modseq),
        )

    def lowest_unseen(self, head: MailboxHead) -> int:
        """Return the lowest unseen UID, `BEYOND` when there is none.

        What is unseen is often all of it, or a few at the end: the search begins at that side
        where the end of it is probably nearer.
        """
        if not head.unseen:
            return BEYOND
        row = None
        if 2 * head.unseen < head.messages:
            row = self._nth_unseen.one(head.id, SEEN_BIT, head.unseen - 1)
        if row is None:
            row = self._lowest_unseen.one(head.id, SEEN_BIT)
        return BEYOND if row is None or row[0] is None else int(row[0])

    def expunged_since(self, mailbox: MailboxId, modseq: int) -> tuple[int, list[int]]:
        """Return (modseq up to which expunges were forgotten, UIDs expunged after `modseq`)."""
        floor = self._floor.one(mailbox)
        rows = self._expunged.all(mailbox, modseq)
        return (0 if floor is None else floor[0]), [row[0] for row in rows]

    def _all_uids(self, head: MailboxHead) -> array[int]:
        first, last = self._ends(head.id)
        if last - first + 1 == head.messages:
            return array("I", range(first, last + 1))
        return _read_uids(first, last, lambda first, behind: self._uids.one(head.id, first, behind))

    def _ends(self, mailbox: MailboxId) -> tuple[int, int]:
        """Return the first and the last UID, (1, 0) when there is none."""
        (first,), (last,) = *self._first.all(mailbox), *self._last.all(mailbox)
        return (1, 0) if first is None else (first, last)


def _read_uids(first: int, last: int, read: Callable[[int, int], Any]) -> array[int]:
    """Return all UIDs from one to another; `read` gives those of a span, joined to one text."""
    uids = array("I")
    step = max(UIDS_PER_READ, (last - first) // MOST_READS + 1)
    for start in range(first, last + 1, step):
        row = read(start, start + step)
        if row is not None and row[0]:
            # They come in the order of the key, but SQL does not promise it.
            uids.extend(sorted(map(int, row[0].split(","))))
    return uids


def _entries(rows: Iterable[Any], index: StoreIndex) -> list[MailboxEntry]:
    return [StoredMessage(row).entry(index) for row in rows]
