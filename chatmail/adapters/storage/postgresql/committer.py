"""The blocking half of the writer, over PostgreSQL: content and rows in one transaction.

    BEGIN → large content → locks → plans → content, rows, mark, notices → COMMIT

The mark is the number of the batch in this process's row of `writers`. When the answer to COMMIT
is lost, a new connection reads it under its lock, which waits until the old transaction has
ended: the batch was committed exactly if the mark is there. (The number of the transaction would
not do: after a crash the server may give it to another one.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from chatmail.adapters.storage.database import translated
from chatmail.adapters.storage.errors import (
    Busy,
    Conflict,
    JobRefused,
    StorageFault,
    Unavailable,
)
from chatmail.adapters.storage.postgresql.catch_up import Missed, read_missed
from chatmail.adapters.storage.postgresql.contents import store_spooled
from chatmail.adapters.storage.postgresql.database import PostgresDatabase
from chatmail.adapters.storage.postgresql.index import SharedIndex
from chatmail.adapters.storage.postgresql.transaction import SharedTransaction
from chatmail.adapters.storage.segments import Place
from chatmail.adapters.storage.statements import Statements
from chatmail.adapters.storage.writer import Job, is_change, plan_one
from chatmail.domain.model.mailbox import MailboxId
from chatmail.domain.ports.system import Clock

TRIES: Final = 5
ANSWER_WITHIN_S: Final = 15.0
"""How long the fate of a batch is looked for, before its callers hear that it is unknown."""

_FIND_MARK: Final = "SELECT batch FROM writers WHERE id = %s FOR UPDATE"


class SharedCommitter:
    """`Commits` of a database that other processes write too."""

    def __init__(
        self,
        database: PostgresDatabase,
        index: SharedIndex,
        new_id: Callable[[], int],
        clock: Clock,
        process: int,
    ) -> None:
        """Args:  process: the number of this process among all that share the database."""
        self._database = database
        self._index = index
        self._new_id = new_id
        self._clock = clock
        self._process = process
        self._batch = 0
        self._sql = Statements(database.writer)
        self._prepared_for = database.writer
        self.rows_since_checkpoint = 0

    def commit(self, jobs: Sequence[Job]) -> SharedTransaction:
        """Make a batch durable.

        Returns:  the transaction, whose drafts are to be published.
        Raises:  StorageFault: nothing of the batch is known to be stored.
        """
        tries = TRIES
        while True:
            tries -= 1
            try:
                with translated():
                    self._look([job for job in jobs if not is_change(job)])
                    return self._change([job for job in jobs if is_change(job)])
            except StorageFault as fault:
                self._database.rollback()
                for job in jobs:
                    job.undone()
                if not isinstance(fault, Conflict) or not tries:
                    raise

    def read_missed(self, since: Mapping[MailboxId, int]) -> list[Missed]:
        """Read what others have changed. Raises:  StorageFault."""
        with translated():
            self._database.begin_reading()
            try:
                return read_missed(self._database.writing, self._index, since)
            finally:
                self._database.rollback()

    def checkpoint(self, truncate: bool = False) -> None:
        """The server looks after its own log."""

    def _statements(self) -> Statements:
        if self._prepared_for is not self._database.writer:
            self._sql = Statements(self._database.writer)
            self._prepared_for = self._database.writer
        return self._sql

    def _transaction(self, *, may_lock: bool) -> SharedTransaction:
        tx = SharedTransaction(
            self._statements(),
            self._index,
            self._new_id,
            int(self._clock.now_s()),
            self._database.writing,
            may_lock=may_lock,
        )
        tx.process = self._process
        return tx

    def _look(self, jobs: Sequence[Job]) -> None:
        """Answer the jobs that only read, from one view."""
        if not jobs:
            return
        self._database.begin_reading()
        tx = self._transaction(may_lock=False)
        for job in jobs:
            plan_one(job, tx)
        self._database.commit()

    def _change(self, jobs: Sequence[Job]) -> SharedTransaction:
        if not jobs:
            return self._transaction(may_lock=False)
        self._database.begin()
        tx = self._transaction(may_lock=True)
        for job in jobs:
            bodies = {self._new_id(): body for body in job.bodies}
            if bodies:
                tx.bodies |= bodies
                job.place([Place(blob, 0, 0) for blob in bodies])
        store_spooled(self._database.writing, tx.bodies)
        tx.lock(job.touches for job in jobs)
        for job in jobs:
            plan_one(job, tx)
        self._batch += 1
        tx.seal(self._process, self._batch)
        try:
            self._database.commit()
        except Unavailable:
            if not self._was_committed():
                raise
        return tx

    def _was_committed(self) -> bool:
        """Find out what became of a batch whose COMMIT was not answered.

        Raises:  Unavailable: it cannot be found out in time.
        """
        end_s = time.monotonic() + ANSWER_WITHIN_S
        while True:
            try:
                self._database.writing.open()
                self._database.begin()
                rows = self._database.writing.all(_FIND_MARK, self._process)
                self._database.rollback()
            except (Busy, JobRefused):
                if time.monotonic() > end_s:
                    raise Unavailable("it is not known what became of a batch") from None
                time.sleep(0.1)
            else:
                return [tuple(row) for row in rows] == [(self._batch,)]
