"""Mail owed to other relays: rows that are leased, then end or wait."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sqlalchemy import Connection

from chatmail.adapters.storage.boards import Board
from chatmail.adapters.storage.federation.queue_jobs import (
    ClaimExpiredJob,
    ClaimJob,
    HoldJob,
    KeepAliveJob,
    Key,
    NextDueJob,
    OperatorJob,
    RemoveJob,
    RetryJob,
    SettleJob,
    WakeJob,
)
from chatmail.adapters.storage.federation.queue_rows import Found, entries_of, message_of
from chatmail.adapters.storage.federation.queue_sql import BACKLOGS, MESSAGE, WAITING, matching
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.reader import Reader
from chatmail.adapters.storage.writer import Log, Writer
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.mailbox import MailboxEntry
from chatmail.domain.model.outbound import (
    Backlog,
    OutboundEntry,
    OutboundMessageId,
    QueuedMessage,
    QueueFilter,
    Settled,
    Waiting,
)
from chatmail.domain.ports.mailstore import MailStore
from chatmail.domain.ports.system import Clock


class SqlOutboundQueue:
    """`OutboundQueue` in the tables `outbound_messages` and `outbound_recipients`.

    The content is a message of the store like any other; `mail` reads it.
    """

    def __init__(
        self,
        writer: Writer,
        reader: Reader,
        index: StoreIndex,
        mail: MailStore,
        board: Board,
        reports_board: Board,
        clock: Clock,
        log: Log,
        *,
        is_shared: bool = False,
    ) -> None:
        """Args:  is_shared: other processes may be at work on the same database."""
        self._writer = writer
        self._reader = reader
        self._index = index
        self._mail = mail
        self._board = board
        self._reports_board = reports_board
        self._clock = clock
        self._log = log
        self._is_shared = is_shared

    async def backlogs(self) -> list[Backlog]:
        """Return what waits, by destination; one pass over an index in the reader's thread."""
        return await self._reader.query(partial(_backlogs, self._clock.now_s()))

    async def waiting(self, sender: EmailAddress) -> Waiting:
        """Return what waits of one author; two looks at an index in the reader's thread."""
        return await self._reader.query(partial(_waiting, str(sender)))

    async def claim(
        self, domain: str, now_s: float, lease_s: float, limit: int
    ) -> list[OutboundEntry]:
        """Lease entries of a destination that are due and not held, small messages first."""
        job = await self._writer.do(ClaimJob(domain, now_s, lease_s, limit))
        return self._claimed(job.found)

    async def claim_expired(
        self,
        now_s: float,
        created_before_s: float,
        reports_before_s: float,
        lease_s: float,
        limit: int,
    ) -> list[OutboundEntry]:
        """Lease entries that are too old, due or not, held ones excepted; oldest first."""
        job = ClaimExpiredJob(now_s, created_before_s, reports_before_s, lease_s, limit)
        return self._claimed((await self._writer.do(job)).found)

    def _claimed(self, found: Found) -> list[OutboundEntry]:
        if found.unreadable:
            self._log.warning("queue_entry_unreadable", entries=len(found.unreadable))
        return found.entries

    async def settle(self, settled: Settled) -> None:
        """End or postpone entries and owe reports, in one transaction."""
        await self._writer.do(SettleJob(settled, self._board, self._reports_board))

    async def wake(self, domain: str, now_s: float) -> int:
        """Make everything queued to a destination due now, in steps; returns how many.

        Raises:  TransientFailure: the rest was not changed.
        """
        changed = 0
        while step := (await self._writer.do(WakeJob(domain, now_s, self._board))).changed:
            changed += step
        return changed

    async def keep_alive(self) -> int:
        """Say that this process lives; free what dead processes had in hand."""
        if not self._is_shared:
            return 0
        job = await self._writer.do(KeepAliveJob(self._board))
        if job.freed:
            self._log.warning("queue_taken_over", entries=job.freed)
        return job.freed

    async def next_due_s(self) -> float | None:
        """Return when the next entry is due, leases included, held ones excepted."""
        return (await self._writer.do(NextDueJob())).due_s

    async def wait_for_more(self) -> None:
        """Return when an entry was added without a lease, or made due, since the last call."""
        await self._board.wait()

    async def read(self, message: OutboundMessageId, offset: int, length: int) -> bytes:
        """Return stored octets of a queued message (without its prefix).

        Raises:  TransientFailure: it is gone, or its octets are damaged.
        """
        content = self._index.queued.get(message)
        if content is None:
            found = await self._look_up(message)
            if found is None:
                raise TransientFailure("the queued message is gone")
            content = found[1]
            self._index.queued.put(message, content)
        return await self._mail.read(content, offset, length)

    async def page(
        self, wanted: QueueFilter, after: tuple[OutboundMessageId, EmailAddress] | None, limit: int
    ) -> list[OutboundEntry]:
        """Return entries in the order of (message id, recipient), behind `after`."""
        key = None if after is None else (int(after[0]), str(after[1]))
        query, values = matching(wanted, key, limit)

        def read(connection: Connection) -> Found:
            return entries_of(connection.execute(query, values).fetchall(), self._index)

        return (await self._reader.query(read)).entries

    async def message(self, message: OutboundMessageId) -> tuple[QueuedMessage, bytes] | None:
        """Return a queued message and its header block; None: there is none."""
        found = await self._look_up(message)
        if found is None:
            return None
        facts, content = found
        return facts, await self._mail.read(content, 0, facts.header_size)

    async def retry(self, wanted: QueueFilter, now_s: float) -> int:
        """Make entries due now; what is being attempted is attempted again after it."""
        return await self._step(lambda after: RetryJob(wanted, after, now_s, self._board))

    async def hold(self, wanted: QueueFilter, is_held: bool) -> int:
        """Hold entries back, or let them go; returns how many changed."""
        return await self._step(lambda after: HoldJob(wanted, after, is_held, self._board))

    async def remove(self, wanted: QueueFilter) -> int:
        """Forget entries, without a report; returns how many. In steps of at most 500."""
        return await self._step(lambda after: RemoveJob(wanted, after))

    async def _step(self, make: Callable[[Key | None], OperatorJob]) -> int:
        after: Key | None = None
        changed = 0
        while True:
            job = await self._writer.do(make(after))
            changed += job.changed
            after = job.last
            if after is None:
                return changed

    async def _look_up(
        self, message: OutboundMessageId
    ) -> tuple[QueuedMessage, MailboxEntry] | None:
        def read(connection: Connection) -> tuple[QueuedMessage, MailboxEntry] | None:
            row = connection.execute(MESSAGE, {"message": int(message)}).fetchone()
            return None if row is None else message_of(row, self._index)

        try:
            return await self._reader.query(read)
        except ValueError as error:
            raise TransientFailure("the queued message cannot be read") from error


def _backlogs(now_s: float, connection: Connection) -> list[Backlog]:
    return [
        Backlog(domain=domain, entries=entries, held=int(held), oldest_s=oldest_s, next_due_s=due_s)
        for domain, entries, held, oldest_s, due_s in connection.execute(BACKLOGS, {"now": now_s})
    ]


def _waiting(sender: str, connection: Connection) -> Waiting:
    entries, octets = connection.execute(WAITING, {"sender": sender}).one()
    return Waiting(int(entries), int(octets))
