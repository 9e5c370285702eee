"""Reports owed to senders: rows that are leased, then settled or put off."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from chatmail.adapters.storage.boards import Board
from chatmail.adapters.storage.transaction import Transaction
from chatmail.adapters.storage.writer import Job, Log, Writer
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.queue import FailedRecipient, NewReport, QueueEntry, QueueId
from chatmail.domain.model.verdict import RefusalReason

LONGEST_WAIT_S: Final = 86_400
"""No entry is put off for longer; a later time is that of a clock that ran ahead, and means now."""


def report_row(id: int, report: NewReport) -> tuple[Any, ...]:
    """Return the row of a new report."""
    failed = [[str(one.address), one.reason.value, one.reply, one.host] for one in report.failed]
    return (
        id,
        str(report.sender),
        json.dumps(failed),
        bytes(report.header),
        report.arrived_s,
        report.due_s,
        0,
        0,
    )


def _entry(row: Sequence[Any]) -> QueueEntry:
    id, sender, failed, header, arrived_s, due_s, _, attempts = row
    return QueueEntry(
        id=QueueId(id),
        report=NewReport(
            sender=EmailAddress.parse(sender),
            failed=tuple(
                FailedRecipient(EmailAddress.parse(address), RefusalReason(reason), *said)
                for address, reason, *said in json.loads(failed)
            ),
            header=bytes(header),
            arrived_s=arrived_s,
            due_s=due_s,
        ),
        attempts=attempts,
    )


class _Claim(Job):
    __slots__ = ("_lease_s", "_limit", "_now_s", "rows")

    def __init__(self, now_s: float, limit: int, lease_s: float) -> None:
        self._now_s = int(now_s)
        self._limit = limit
        self._lease_s = lease_s
        self.rows: Sequence[Sequence[Any]] = ()

    def plan(self, tx: Transaction) -> None:
        now, far = self._now_s, self._now_s + LONGEST_WAIT_S
        until = int(now + self._lease_s)
        self.rows = tx.sql.due_reports.all(now, far, now, far, self._limit)
        tx.sql.lease_report.run_many([(until, row[-1] + 1, row[0]) for row in self.rows])


class _Settle(Job):
    __slots__ = ("_entry",)

    def __init__(self, entry: QueueId) -> None:
        self._entry = entry

    def plan(self, tx: Transaction) -> None:
        tx.sql.remove_report.run(self._entry)


class _Postpone(Job):
    __slots__ = ("_due_s", "_entry")

    def __init__(self, entry: QueueId, due_s: float) -> None:
        self._entry = entry
        self._due_s = int(due_s)

    def plan(self, tx: Transaction) -> None:
        tx.sql.postpone_report.run(self._due_s, 0, self._entry)


class _NextDue(Job):
    __slots__ = ("due_s",)

    is_read = True

    def __init__(self) -> None:
        self.due_s: float | None = None

    def plan(self, tx: Transaction) -> None:
        far = tx.now_s + LONGEST_WAIT_S
        times = (
            max(time if time <= far else tx.now_s for time in row) for row in tx.sql.next_due.all()
        )
        self.due_s = min(map(float, times), default=None)


class SqlReportQueue:
    """`ReportQueue` in the table `reports`.

    `attempts` of a claimed entry counts the claims before this one, a crashed one included.
    """

    def __init__(self, writer: Writer, board: Board, log: Log) -> None:
        self._writer = writer
        self._board = board
        self._log = log

    async def claim(self, now_s: float, limit: int, lease_s: float) -> list[QueueEntry]:
        """Lease entries that are due, oldest first; one that nobody can read ends here."""
        entries = []
        for row in (await self._writer.do(_Claim(now_s, limit, lease_s))).rows:
            try:
                entries.append(_entry(row))
            except (ValueError, TypeError):
                self._log.warning("report_unreadable")
                await self.settle(QueueId(row[0]))
        return entries

    async def settle(self, entry: QueueId) -> None:
        """Forget an entry."""
        await self._writer.do(_Settle(entry))

    async def postpone(self, entry: QueueId, due_s: float) -> None:
        """Try again later."""
        await self._writer.do(_Postpone(entry, due_s))

    async def next_due_s(self) -> float | None:
        """Return when the next entry is due, leases included."""
        return (await self._writer.do(_NextDue())).due_s

    async def wait_for_more(self) -> None:
        """Return when an entry was added since the last call."""
        await self._board.wait()
