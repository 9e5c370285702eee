"""The one writer: group commit of everything that changes the store.

Whatever queued while the last batch ran is the next batch. Its order is fixed:

    content written → segment synced → BEGIN, rows, COMMIT (synced)        in a thread
    → index → hints → callers                                             in the loop

so no row points at octets that are not durable, nobody sees what is not durable, and the next
batch begins only after the last one was published. A job the database refuses fails alone. After
a failed sync or an I/O error nothing is known any more: the store fails, and so does the process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import ClassVar, Final, Protocol, TypeVar

import attrs
import trio

from chatmail.adapters.storage.errors import (
    Busy,
    DiskFull,
    StorageFault,
    StoreFailed,
)
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.segments import Place
from chatmail.adapters.storage.transaction import Transaction
from chatmail.adapters.system.redaction import Public
from chatmail.adapters.system.threads import OneThread
from chatmail.domain.model.account import AccountId
from chatmail.domain.model.errors import ChatmailError, Overloaded, TransientFailure
from chatmail.domain.model.mailbox import MailboxHint, MailboxId, Modseq
from chatmail.domain.model.message import Body
from chatmail.domain.ports.hints import MailboxHints

MAX_QUEUED_JOBS: Final = 4096
MAX_QUEUED_BYTES: Final = 64 * 1024 * 1024
MAX_BATCH_JOBS: Final = 512
MAX_BATCH_BYTES: Final = 32 * 1024 * 1024

# A checkpoint copies pages and syncs twice: better while nobody waits. Under load without a gap it
# is forced before the log needs more than some 100 MB.
CHECKPOINT_ROWS: Final = 4_000
CHECKPOINT_FORCED_ROWS: Final = 100_000
CHECKPOINT_IDLE_S: Final = 0.1


class Log(Protocol):
    """Where events go."""

    def info(self, event: str, **fields: object) -> None: ...

    def warning(self, event: str, **fields: object) -> None: ...


@attrs.frozen
class Touches:
    """Rows a job will want to itself, as far as it knows beforehand.

    A database that others write too locks them all at once and in one order, so that two
    processes do not wait for each other. `accounts`: the account's own row; `households`: that
    row and all mailboxes of the account.
    """

    mailboxes: tuple[MailboxId, ...] = ()
    accounts: tuple[AccountId, ...] = ()
    households: tuple[AccountId, ...] = ()


NOTHING: Final = Touches()


class Job:
    """One caller's change (or look): all of it happens, or nothing.

    `plan` runs in the writer's thread, inside the batch's transaction. It may raise ChatmailError
    before it has changed anything; the caller gets it. `publish` runs in the loop after the
    commit, in commit order.
    """

    __slots__ = ("error", "task")

    is_read: ClassVar[bool] = False

    error: ChatmailError | None
    task: trio.lowlevel.Task | None  # the caller, until it was told

    @property
    def bodies(self) -> Sequence[Body]:
        """Return the messages to be written down first."""
        return ()

    @property
    def touches(self) -> Touches:
        """Return which rows the job will change; what is missing here is locked when it is met."""
        return NOTHING

    @property
    def octets(self) -> int:
        """Return how much memory the job holds while it waits."""
        return 0

    def place(self, places: Sequence[Place]) -> None:
        """Take note where the messages are, in the order of `bodies`."""

    def undone(self) -> None:
        """Take note that the batch failed and that nothing of it was stored."""

    def plan(self, tx: Transaction) -> None:
        """Do the work in SQL and on drafts."""
        raise NotImplementedError

    def publish(self, index: StoreIndex) -> None:
        """Bring the index up to date."""


class Nothing(Job):
    """Wait for one's turn: what was committed before is published then."""

    __slots__ = ()

    is_read = True

    def plan(self, tx: Transaction) -> None:
        """Do nothing."""


J = TypeVar("J", bound=Job)
R = TypeVar("R")


class Commits(Protocol):
    """The half of the writer that blocks; runs in one thread at a time."""

    rows_since_checkpoint: int

    def commit(self, jobs: Sequence[Job]) -> Transaction:
        """Make a batch durable.

        Returns:  the transaction, whose drafts are to be published.
        Raises:  StorageFault: nothing of the batch was stored (StoreFailed: nobody knows).
        """

    def checkpoint(self, truncate: bool = False) -> None:
        """Fold the database's log into its file, if it has one."""


class Writer:
    """The queue in front of the committer, and the task that empties it."""

    def __init__(
        self,
        committer: Commits,
        index: StoreIndex,
        hints: MailboxHints,
        log: Log,
        *,
        max_jobs: int = MAX_QUEUED_JOBS,
        max_octets: int = MAX_QUEUED_BYTES,
    ) -> None:
        self._committer = committer
        self._index = index
        self._hints = hints
        self._log = log
        self._max_jobs = max_jobs
        self._max_octets = max_octets
        self._queue: deque[Job] = deque()
        self._queued_octets = 0
        self._in_hand: list[Job] = []
        self._sleeper: trio.lowlevel.Task | None = None
        self._thread = OneThread("chatmail writer")
        self._must_fold = False
        self.has_ended = False
        self.failure: StoreFailed | None = None
        self.batches = 0

    @property
    def is_at_work(self) -> bool:
        """Say whether the thread commits now."""
        return self._thread.is_at_work

    async def do(self, job: J) -> J:
        """Run a job in the next batch.

        Raises:  Overloaded: the queue is full. TransientFailure: nothing was stored. Whatever
            else the job's plan raised.
        Cancellation:  has no effect once the job is queued: it is done, and this waits for it.
        """
        if self.has_ended or self.failure is not None:
            raise TransientFailure("the store is closed")
        octets = job.octets
        if len(self._queue) >= self._max_jobs or (
            self._queued_octets + octets > self._max_octets and self._queue
        ):
            raise Overloaded("the write queue is full")
        job.error = None
        job.task = trio.lowlevel.current_task()
        self._queue.append(job)
        self._queued_octets += octets
        if self._sleeper is not None:
            trio.lowlevel.reschedule(self._sleeper)
            self._sleeper = None
        await trio.lowlevel.wait_task_rescheduled(_stay)
        if job.error is not None:
            raise job.error
        return job

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Commit batches until cancelled.

        Raises:  StoreFailed: the disk or the database failed; the process has to end.
        """
        task_status.started()
        try:
            while True:
                if not self._queue:
                    await self._sleep()
                else:
                    await trio.lowlevel.checkpoint_if_cancelled()
                self._in_hand = self._take()
                await self._process(self._in_hand)
                self._in_hand = []  # or their octets would live on until the next batch
                if self._must_fold:
                    self._must_fold = False
                    await self._checkpoint(truncate=True)
                elif self._committer.rows_since_checkpoint >= CHECKPOINT_FORCED_ROWS:
                    await self._checkpoint()
        finally:
            self.has_ended = True
            self._thread.close()
            left = [*self._in_hand, *self._queue]
            self._queue.clear()
            self._fail(left, "the store is closing")

    async def fold(self) -> None:
        """Empty the database's log, so that it holds nothing of what was deleted.

        Raises:  TransientFailure: the store is closed.
        """
        self._must_fold = True
        await self.do(Nothing())

    async def _sleep(self) -> None:
        """Wait for a job; fold the log when none comes for a while."""
        if self._committer.rows_since_checkpoint < CHECKPOINT_ROWS:
            await self._wait_for_job()
            return
        with trio.move_on_after(CHECKPOINT_IDLE_S):
            await self._wait_for_job()
        if not self._queue:
            await self._checkpoint()

    async def _wait_for_job(self) -> None:
        def wake_up(_: object) -> trio.lowlevel.Abort:
            self._sleeper = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._sleeper = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(wake_up)

    def _take(self) -> list[Job]:
        jobs: list[Job] = []
        octets = 0
        while self._queue and len(jobs) < MAX_BATCH_JOBS and octets < MAX_BATCH_BYTES:
            job = self._queue.popleft()
            octets += job.octets
            jobs.append(job)
        self._queued_octets -= octets
        # Looks come first: they see, and publish, the state before this batch.
        jobs.sort(key=is_change)
        return jobs

    async def _process(self, jobs: list[Job]) -> None:
        if not jobs:
            return
        try:
            tx = await self._in_thread(self._committer.commit, jobs)
        except StoreFailed as failure:
            self.failure = failure
            self._log.warning("store_failed", reason=Public(str(failure)), cause=failure.__cause__)
            self._fail(jobs, "the store has failed")
            raise
        except Busy as fault:
            self._hold_off(jobs, fault)
        except StorageFault as fault:
            if len(jobs) > 1:
                # One of them is to blame: the others must not suffer.
                for job in jobs:
                    await self._process([job])
                return
            self._log.warning(
                "job_refused", reason=Public(str(fault)), job=Public(type(jobs[0]).__name__)
            )
            if isinstance(fault, DiskFull):
                self._fail(jobs, "the disk is full", Overloaded)
            else:
                self._fail(jobs, "the job was refused")
        else:
            await self._show(jobs, tx)

    def _hold_off(self, jobs: list[Job], fault: Busy) -> None:
        self._log.warning("database_busy", jobs=len(jobs))
        self._fail(jobs, "the database is busy")

    async def _show(self, jobs: list[Job], tx: Transaction) -> None:
        self._publish(jobs, tx)

    def _publish(self, jobs: list[Job], tx: Transaction) -> None:
        """Show a durable batch to everybody, in one step of the loop."""
        index = self._index
        for job in jobs:
            if job.error is None:
                job.publish(index)
        drafts = [draft for draft in tx.drafts.values() if draft is not None]
        for draft in drafts:
            index.publish_head(draft)
        index.shrink()
        self.batches += 1
        for draft in drafts:
            if draft.has_changed:
                self._hints.publish(MailboxHint(draft.id, Modseq(draft.highest_modseq)))
        for job in jobs:
            wake(job)

    def _fail(
        self, jobs: list[Job], reason: str, kind: type[TransientFailure] = TransientFailure
    ) -> None:
        for job in jobs:
            if job.task is not None:
                job.error = kind(reason)
                wake(job)

    async def _checkpoint(self, *, truncate: bool = False) -> None:
        try:
            await self._in_thread(self._committer.checkpoint, truncate)
        except StoreFailed as failure:
            self.failure = failure
            raise
        except StorageFault as fault:
            # A full disk or a long reader: the log grows on, the next try may do better.
            self._committer.rows_since_checkpoint = 0
            self._log.warning("checkpoint_postponed", reason=Public(str(fault)))

    async def _in_thread(self, function: Callable[..., R], *args: object) -> R:
        # Never cancelled: a batch that was taken is brought to its end; bounded by the disk alone.
        return await self._thread.run(function, *args)


def is_change(job: Job) -> bool:
    """Say whether a job needs a transaction that writes."""
    return not job.is_read


def plan_one(job: Job, tx: Transaction) -> None:
    """Plan a job; a refusal of its own stays with it."""
    job.error = None
    try:
        job.plan(tx)
    except ChatmailError as error:
        job.error = error


def wake(job: Job) -> None:
    """Tell the caller, once."""
    task, job.task = job.task, None
    if task is not None:
        trio.lowlevel.reschedule(task)


def _stay(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED
