"""The blocking half of the writer, over segments and SQLite: content first, then rows.

Content of a small batch is not synced by itself: it rides in the database's log, see `journal`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from chatmail.adapters.storage.database import SqliteDatabase, translated
from chatmail.adapters.storage.errors import StorageFault, StoreFailed
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.journal import MAX_BATCH_OCTETS, ContentJournal
from chatmail.adapters.storage.segments import Place, SegmentLog
from chatmail.adapters.storage.spool import SegmentSpool
from chatmail.adapters.storage.statements import Statements
from chatmail.adapters.storage.transaction import Transaction
from chatmail.adapters.storage.writer import Job, is_change, plan_one
from chatmail.domain.model.message import Body
from chatmail.domain.ports.system import Clock


class Committer:
    """`Commits` of the segment store; runs in one thread at a time."""

    def __init__(
        self,
        database: SqliteDatabase,
        log: SegmentLog,
        index: StoreIndex,
        new_id: Callable[[], int],
        clock: Clock,
        known_segments: Iterable[int] = (),
        journal_batch_octets: int = MAX_BATCH_OCTETS,
    ) -> None:
        """Args:  known_segments: those that the database has on its list."""
        self._database = database
        self._segments = log
        self._index = index
        self._new_id = new_id
        self._clock = clock
        self._known_segments = set(known_segments)
        self._sql = Statements(database.writer)
        self._journal = ContentJournal(database.writer, log, journal_batch_octets)
        self.rows_since_checkpoint = 0

    def commit(self, jobs: Sequence[Job]) -> Transaction:
        """Make a batch durable.

        Returns:  the transaction, whose drafts are to be published.
        Raises:  StorageFault: nothing of the batch was stored (StoreFailed: nobody knows).
        """
        has_appended = False
        used: set[int] = set()
        try:
            has_appended = self._write_contents(jobs, used)
            tx = Transaction(self._sql, self._index, self._new_id, int(self._clock.now_s()))
            with translated():
                self._plan(jobs, tx, used - self._known_segments)
        except StoreFailed:
            raise
        except StorageFault:
            with translated():
                self._database.rollback()
            self._journal.forget()
            if has_appended:
                self._segments.undo()
            for job in jobs:
                job.undone()
            raise
        self._known_segments |= used
        self._journal.wrote()
        return tx

    def checkpoint(self, truncate: bool = False) -> None:
        """Copy the database's log into its file; `truncate` also empties the log."""
        self.settle()
        with translated():
            self._database.checkpoint(truncate=truncate)
        self.rows_since_checkpoint = 0

    def settle(self) -> None:
        """Make segments hold by themselves what the database holds for them.

        Raises:  StorageFault.
        """
        if not self._journal.waits:
            return
        self._journal.settle()
        with translated():
            self._database.begin()
            self._journal.write()
            self._database.commit()
        self._journal.wrote()

    def _write_contents(self, jobs: Sequence[Job], used: set[int]) -> bool:
        """Write every message down; adds the segments to `used`. True: the log has grown."""
        small: list[tuple[int, Body]] = []
        owners = []
        for job in jobs:
            bodies = job.bodies
            if bodies:
                owners.append((job, [self._adopt(body, small) for body in bodies]))
        laid = self._segments.lay(small) if small else []
        if laid:
            self._journal.take(laid)
        appended = iter(laid)
        for job, adopted in owners:
            places = [place or next(appended)[0] for place in adopted]
            used.update(place.segment for place in places)
            job.place(places)
        return bool(small)

    def _adopt(self, body: Body, small: list[tuple[int, Body]]) -> Place | None:
        """Return where a spooled message is; one in memory joins `small`."""
        if isinstance(body.spooled, SegmentSpool):
            return body.spooled.place_in(self._segments)
        small.append((self._new_id(), body))
        return None

    def _plan(self, jobs: Sequence[Job], tx: Transaction, new_segments: set[int]) -> None:
        has_changes = any(map(is_change, jobs))
        if has_changes:
            self._database.begin()
        else:
            self._database.begin_reading()
        self._sql.add_segment.run_many([(number,) for number in new_segments])
        if has_changes:
            self._journal.write()
        for job in jobs:
            plan_one(job, tx)
        if has_changes:
            self.rows_since_checkpoint += tx.finish()
        self._database.commit()
