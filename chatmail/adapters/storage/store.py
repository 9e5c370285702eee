"""The store as a whole: opened, recovered, and wired together.

    async with open_store(state_dir, "sqlite", hints, clock, log) as store:
        await nursery.start(store.run)       # commits until cancelled

Calls wait until `run` has been started; it must end before the context is left.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import attrs
import trio

from chatmail.adapters.storage import recovery
from chatmail.adapters.storage.accounts import SqlAccountStore, TombstoneKeys
from chatmail.adapters.storage.database import FILE_NAME, SqliteDatabase, translated
from chatmail.adapters.storage.errors import (
    CannotOpen,
    StorageFault,
    StoreFailed,
    UnsupportedDatabase,
)
from chatmail.adapters.storage.files import Files
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.intake import SegmentIntake
from chatmail.adapters.storage.mailstore import SegmentMailStore
from chatmail.adapters.storage.queue import ReportBoard, SqlOutboundQueue
from chatmail.adapters.storage.reader import Reader
from chatmail.adapters.storage.retention import SqlRetention
from chatmail.adapters.storage.segment_reader import SegmentReader
from chatmail.adapters.storage.segments import SEGMENT_LIMIT_BYTES, SegmentLog
from chatmail.adapters.storage.spool import SegmentBlobStore
from chatmail.adapters.storage.tokens import SqlDeviceTokens, TokenCache
from chatmail.adapters.storage.upkeep import Upkeep
from chatmail.adapters.storage.writer import (
    MAX_QUEUED_BYTES,
    MAX_QUEUED_JOBS,
    Committer,
    Log,
    Writer,
)
from chatmail.domain.ports.hints import MailboxHints
from chatmail.domain.ports.system import Clock

SQLITE_URL: Final = "sqlite"


@attrs.frozen(kw_only=True)
class StoreOptions:
    """Bounds, and the parts that tests replace."""

    segment_limit_bytes: int = SEGMENT_LIMIT_BYTES
    max_queued_jobs: int = MAX_QUEUED_JOBS
    max_queued_bytes: int = MAX_QUEUED_BYTES
    new_index: Callable[[], StoreIndex] = StoreIndex
    new_database: Callable[[Path], SqliteDatabase] = SqliteDatabase
    files: Files = attrs.field(factory=Files)


class Store:
    """All ports of the store."""

    def __init__(
        self,
        writer: Writer,
        reader: Reader,
        index: StoreIndex,
        content: SegmentReader,
        blobs: SegmentBlobStore,
        upkeep: Upkeep,
        keys: TombstoneKeys,
        log: Log,
    ) -> None:
        board = ReportBoard()
        cache = TokenCache()
        self._writer = writer
        self.upkeep = upkeep
        self.index = index
        self.accounts = SqlAccountStore(writer, index, keys, cache)
        self.intake = SegmentIntake(writer, board)
        self.blobs = blobs
        self.mail = SegmentMailStore(writer, reader, index, content, log)
        self.queue = SqlOutboundQueue(writer, board, log)
        self.tokens = SqlDeviceTokens(writer, cache)
        self.retention = SqlRetention(writer, reader, index, cache)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Commit until cancelled.

        Raises:  StoreFailed: the disk or the database failed; the process has to end.
        """
        await self._writer.run(task_status=task_status)

    @property
    def failed(self) -> StoreFailed | None:
        """Return why the store failed, if it did."""
        return self._writer.failure

    async def sweep(self) -> int:
        """Erase what is dead and forget what is over; returns how many records were erased."""
        return await self.upkeep.sweep()

    async def recount(self) -> int:
        """Recount all counters from the rows; returns how many mailboxes were wrong."""
        return await self.upkeep.recount()


@asynccontextmanager
async def open_store(
    state_dir: Path,
    url: str,
    hints: MailboxHints,
    clock: Clock,
    log: Log,
    options: StoreOptions | None = None,
) -> AsyncIterator[Store]:
    """Take the state directory, recover, and give the store; leaving closes it.

    Args:  url: `sqlite` (the file lives in the state directory).
    Raises:  StateDirectoryInUse; UnsupportedDatabase; CannotOpen: with the reason.
    """
    if url != SQLITE_URL:
        raise UnsupportedDatabase("this version stores in SQLite only")
    with ExitStack() as closing:
        try:
            store = await trio.to_thread.run_sync(
                _open, state_dir, hints, clock, log, options or StoreOptions(), closing
            )
        except (OSError, StorageFault) as error:
            raise CannotOpen(f"{state_dir}: cannot be used: {_reason(error)}") from error
        yield store


def _reason(error: OSError | StorageFault) -> str:
    """One line for the operator: what the system or the database itself said."""
    if isinstance(error, OSError):
        return error.strerror or "unknown error"
    said = getattr(error.__cause__, "orig", error.__cause__) or error
    return str(said).splitlines()[0]


def _open(
    state_dir: Path,
    hints: MailboxHints,
    clock: Clock,
    log: Log,
    options: StoreOptions,
    closing: ExitStack,
) -> Store:
    closing.enter_context(recovery.locked(state_dir))
    mail, spool = recovery.make_directories(state_dir)
    database = options.new_database(state_dir / FILE_NAME)
    closing.callback(database.close)
    database.open()
    connection = database.writer
    index = options.new_index()
    with translated():
        ids = recovery.next_id(connection)
        first_segment = recovery.next_segment(connection, mail)
        known = recovery.known_segments(connection)
        missing = recovery.missing_content(connection, mail)
        recovery.return_leases(connection)
        index.account_count = recovery.count_accounts(connection)
    if unknown := recovery.unknown_segments(known, mail):
        log.warning("segments_unknown", segments=len(unknown), first=unknown[0])
    if missing:
        log.warning("content_missing", segments=len(missing), first=missing[0])

    def new_id() -> int:
        return next(ids)

    files = options.files
    segments = SegmentLog(mail, files, first_segment, options.segment_limit_bytes)
    closing.callback(segments.close)
    content = SegmentReader(mail, files)
    closing.callback(content.close)
    committer = Committer(database, segments, index, new_id, clock, known)
    writer = Writer(
        committer,
        index,
        hints,
        log,
        max_jobs=options.max_queued_jobs,
        max_octets=options.max_queued_bytes,
    )
    reader = Reader(database, index)
    upkeep = Upkeep(writer, reader, index, segments, content, files, clock, log)
    closing.callback(upkeep.close)
    blobs = SegmentBlobStore(spool, files, new_id)
    keys = TombstoneKeys(recovery.server_key(state_dir))
    return Store(writer, reader, index, content, blobs, upkeep, keys, log)
