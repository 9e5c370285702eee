"""Changes of the outbound queue, each one transaction of the writer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from chatmail.adapters.storage.boards import Board
from chatmail.adapters.storage.federation.queue_rows import Found, entries_of
from chatmail.adapters.storage.federation.queue_sql import CLAIM_WINDOW, matching
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.notices import OUTBOUND, REPORTS
from chatmail.adapters.storage.queue import report_row
from chatmail.adapters.storage.transaction import StoredMessage, Transaction
from chatmail.adapters.storage.writer import Job
from chatmail.domain.model.outbound import (
    OutboundMessageId,
    QueueFilter,
    Settled,
    Settlement,
    SettlementKind,
)

STEP: Final = 500
"""So many entries are changed in one transaction, unless a peer's word was on more."""

OTHERS_CLAIM: Final = 100
"""So many of the next entries may be in the hands of other processes at this very moment."""

Key = tuple[int, str]


def drop_entries(tx: Transaction, keys: Sequence[Key]) -> list[OutboundMessageId]:
    """Remove entries; messages without any left let their content go.

    Returns:  the messages that ended.
    """
    if not keys:
        return []
    sql = tx.sql.outbound
    tx.flush()
    ids = sql.ids(sorted({message for message, _ in keys}))
    if sql.is_shared:
        # Or two processes would each end one of the last two entries, and neither the message.
        sql.lock_messages.all(ids)
    sql.remove.run_many(list(keys))
    finished = sql.finished.all(ids)
    if finished:
        gone = [row[-1] for row in finished]
        sql.remove_messages.run(sql.ids(gone))
        tx.release([StoredMessage(row[:-1]) for row in finished])
    return [OutboundMessageId(row[-1]) for row in finished]


class _Leasing(Job):
    __slots__ = ("_lease_s", "_limit", "_now_s", "found")

    def __init__(self, now_s: float, lease_s: float, limit: int) -> None:
        self._now_s = float(now_s)
        self._lease_s = lease_s
        self._limit = limit
        self.found = Found()

    def rows(self, tx: Transaction) -> Sequence[Sequence[Any]]:
        raise NotImplementedError

    def plan(self, tx: Transaction) -> None:
        """Lease what was found. What nobody can read is held back: an operator sees it."""
        tx.flush()
        self.found = entries_of(self.rows(tx), tx.index)
        sql = tx.sql.outbound
        until_s = self._now_s + self._lease_s
        sql.lease.run_many(
            [
                (until_s, tx.process, one.message.id, str(one.recipient))
                for one in self.found.entries
            ]
        )
        sql.hold.run_many([(1, *key) for key in self.found.unreadable])

    def publish(self, index: StoreIndex) -> None:
        """Note where the content is: it is about to be read."""
        for message, content in self.found.contents.items():
            index.queued.put(message, content)


class ClaimJob(_Leasing):
    """Lease what is due for a destination."""

    __slots__ = ("_domain",)

    def __init__(self, domain: str, now_s: float, lease_s: float, limit: int) -> None:
        super().__init__(now_s, lease_s, limit)
        self._domain = domain

    def rows(self, tx: Transaction) -> Sequence[Sequence[Any]]:
        """Small messages, then large ones."""
        now_s, left = self._now_s, self._limit
        sql = tx.sql.outbound
        found: list[Sequence[Any]] = []
        for is_large in (0, 1):
            # Where others claim too, some of the next ones may be theirs.
            cut = left + OTHERS_CLAIM if sql.is_shared else left
            window = max(CLAIM_WINDOW, left)
            found += sql.claim.all(self._domain, is_large, now_s, now_s, window, cut, now_s, left)
            left = self._limit - len(found)
            if not left:
                break
        return found


class ClaimExpiredJob(_Leasing):
    """Lease what is too old."""

    __slots__ = ("_before_s", "_reports_before_s")

    def __init__(
        self, now_s: float, before_s: float, reports_before_s: float, lease_s: float, limit: int
    ) -> None:
        super().__init__(now_s, lease_s, limit)
        # Whole seconds, as the column has them: PostgreSQL has no index over a fraction.
        self._before_s = math.ceil(before_s)
        self._reports_before_s = math.ceil(reports_before_s)

    def rows(self, tx: Transaction) -> Sequence[Sequence[Any]]:
        """Oldest first, whatever it is."""
        expired = tx.sql.outbound.expired
        found = [
            *expired.all(0, self._before_s, self._now_s, self._limit),
            *expired.all(1, self._reports_before_s, self._now_s, self._limit),
        ]
        found.sort(key=lambda row: (row[11], row[0], row[1]))  # created_s, message, recipient
        return found[: self._limit]


class SettleJob(Job):
    """End or postpone entries, owe reports."""

    __slots__ = ("_board", "_is_due", "_reports_board", "_settled")

    def __init__(self, settled: Settled, board: Board, reports_board: Board) -> None:
        self._settled = settled
        self._board = board
        self._reports_board = reports_board
        self._is_due = False

    def plan(self, tx: Transaction) -> None:
        """Change all of it."""
        ended: list[Settlement] = []
        waiting: list[Settlement] = []
        for one in self._settled.entries:
            (waiting if one.kind is SettlementKind.RETRY else ended).append(one)
        drop_entries(tx, [(one.message, str(one.recipient)) for one in ended])
        self._postpone(tx, waiting)
        for report in self._settled.reports:
            tx.sql.add_report.run(*report_row(tx.new_id(), report))
            tx.tell(REPORTS)

    def _postpone(self, tx: Transaction, waiting: Sequence[Settlement]) -> None:
        sql = tx.sql.outbound
        tx.flush()
        handed_back, retried = [], []
        for one in waiting:
            key = (one.message, str(one.recipient))
            last = one.last
            if last is None:
                handed_back.append((float(one.due_s), 0.0, *key, tx.process))
            else:
                kind = None if last.transport is None else last.transport.value
                reply = (last.at_s, last.reply, kind, last.host)
                retried.append((float(one.due_s), 0.0, *reply, *key, tx.process))
        sql.hand_back.run_many(handed_back)
        sql.retry.run_many(retried)
        self._is_due = any(one.due_s <= tx.now_s for one in waiting)
        if self._is_due:
            tx.tell(OUTBOUND)

    def publish(self, index: StoreIndex) -> None:
        """Tell those who wait for work."""
        # Those that have not ended, too: where others settle, nobody else may say when they do.
        index.queued.discard(one.message for one in self._settled.entries)
        if self._is_due:
            self._board.ring()
        if self._settled.reports:
            self._reports_board.ring()


class WakeJob(Job):
    """Make some entries of a destination due."""

    __slots__ = ("_board", "_domain", "_now_s", "changed")

    def __init__(self, domain: str, now_s: float, board: Board) -> None:
        self._domain = domain
        self._now_s = float(now_s)
        self._board = board
        self.changed = 0

    def plan(self, tx: Transaction) -> None:
        """Change at most `STEP` entries of either size."""
        tx.flush()
        sql, now_s = tx.sql.outbound, self._now_s
        keys: list[Key] = []
        for is_large in (0, 1):
            rows = sql.some_later.all(self._domain, is_large, now_s, now_s, STEP)
            keys += [(row[0], row[1]) for row in rows]
        sql.make_due.run_many([(now_s, *key) for key in keys])
        self.changed = len(keys)
        if keys:
            tx.tell(OUTBOUND)

    def publish(self, index: StoreIndex) -> None:
        """Tell those who wait for work."""
        if self.changed:
            self._board.ring()


class KeepAliveJob(Job):
    """Free what dead processes had in hand. The batch itself says that this one lives."""

    __slots__ = ("_board", "freed")

    def __init__(self, board: Board) -> None:
        self._board = board
        self.freed = 0

    def plan(self, tx: Transaction) -> None:
        """One statement, over what is leased."""
        tx.flush()
        self.freed = tx.sql.outbound.free_orphans.run(tx.process).rowcount
        if self.freed:
            tx.tell(OUTBOUND)

    def publish(self, index: StoreIndex) -> None:
        """Tell those who wait for work."""
        if self.freed:
            self._board.ring()


class NextDueJob(Job):
    """When the next entry is due."""

    __slots__ = ("due_s",)

    is_read = True

    def __init__(self) -> None:
        self.due_s: float | None = None

    def plan(self, tx: Transaction) -> None:
        """Ask two indexes."""
        sql = tx.sql.outbound
        times = [sql.next_free.all()[0][0], sql.next_leased.all()[0][0]]
        self.due_s = min((one for one in times if one is not None), default=None)


class OperatorJob(Job):
    """One step over the entries an operator means."""

    __slots__ = ("_after", "_wanted", "changed", "last")

    def __init__(self, wanted: QueueFilter, after: Key | None) -> None:
        self._wanted = wanted
        self._after = after
        self.last: Key | None = None
        self.changed = 0

    def plan(self, tx: Transaction) -> None:
        """Change the next `STEP` entries; `last` None: that was all."""
        tx.flush()
        query, values = matching(self._wanted, self._after, STEP)
        rows = tx.sql.outbound.connection.execute(query, values).fetchall()
        self.last = (rows[-1][0], rows[-1][1]) if len(rows) == STEP else None
        self.changed = self.change(tx, rows)

    def change(self, tx: Transaction, rows: Sequence[Sequence[Any]]) -> int:
        """Change these; returns how many that were."""
        raise NotImplementedError


class RetryJob(OperatorJob):
    """Make entries due."""

    __slots__ = ("_board", "_now_s")

    def __init__(self, wanted: QueueFilter, after: Key | None, now_s: float, board: Board) -> None:
        super().__init__(wanted, after)
        self._now_s = float(now_s)
        self._board = board

    def change(self, tx: Transaction, rows: Sequence[Sequence[Any]]) -> int:
        """All of them, now."""
        tx.sql.outbound.make_due.run_many([(self._now_s, *row[:2]) for row in rows])
        if rows:
            tx.tell(OUTBOUND)
        return len(rows)

    def publish(self, index: StoreIndex) -> None:
        """Tell those who wait for work."""
        if self.changed:
            self._board.ring()


class HoldJob(OperatorJob):
    """Hold entries back, or let them go."""

    __slots__ = ("_board", "_is_held")

    def __init__(self, wanted: QueueFilter, after: Key | None, is_held: bool, board: Board) -> None:
        super().__init__(wanted, after)
        self._is_held = is_held
        self._board = board

    def change(self, tx: Transaction, rows: Sequence[Sequence[Any]]) -> int:
        """Those that are otherwise now."""
        wanted = int(self._is_held)
        others = [row for row in rows if row[4] != wanted]
        tx.sql.outbound.hold.run_many([(wanted, *row[:2]) for row in others])
        if others and not self._is_held:
            tx.tell(OUTBOUND)
        return len(others)

    def publish(self, index: StoreIndex) -> None:
        """Tell those who wait for work."""
        if self.changed and not self._is_held:
            self._board.ring()


class RemoveJob(OperatorJob):
    """Forget entries, without a report."""

    __slots__ = ("_gone",)

    def __init__(self, wanted: QueueFilter, after: Key | None) -> None:
        super().__init__(wanted, after)
        self._gone: list[OutboundMessageId] = []

    def change(self, tx: Transaction, rows: Sequence[Sequence[Any]]) -> int:
        """All of them."""
        self._gone = drop_entries(tx, [(row[0], row[1]) for row in rows])
        return len(rows)

    def publish(self, index: StoreIndex) -> None:
        """Let the content go."""
        index.queued.discard(self._gone)


class RemoveDoomedJob(Job):
    """Remove some of what senders left behind whose accounts are gone."""

    __slots__ = ("_gone", "is_done")

    def __init__(self) -> None:
        self._gone: list[OutboundMessageId] = []
        self.is_done = False

    def plan(self, tx: Transaction) -> None:
        """Remove one piece."""
        self._gone, self.is_done = remove_doomed(tx)

    def publish(self, index: StoreIndex) -> None:
        """Let the content go."""
        index.queued.discard(self._gone)


def remove_doomed(tx: Transaction) -> tuple[list[OutboundMessageId], bool]:
    """Remove a piece of what is doomed; returns the messages that ended, and whether it is all."""
    tx.flush()
    rows = tx.sql.outbound.some_doomed.all(STEP)
    gone = drop_entries(tx, [(row[0], row[1]) for row in rows])
    return gone, len(rows) < STEP
