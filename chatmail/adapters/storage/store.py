"""The store as a whole: opened, recovered, and wired together.

    async with open_store(state_dir, "sqlite", hints, clock, log) as store:
        await nursery.start(store.run)       # commits until cancelled

Calls wait until `run` has been started; it must end before the context is left.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import attrs
import trio

from chatmail.adapters.storage import recovery
from chatmail.adapters.storage.accounts import SqlAccountStore, TombstoneKeys
from chatmail.adapters.storage.boards import Board
from chatmail.adapters.storage.committer import Committer
from chatmail.adapters.storage.database import FILE_NAME, SqliteDatabase, translated
from chatmail.adapters.storage.errors import (
    CannotOpen,
    DiskFull,
    StorageFault,
    StoreFailed,
    UnsupportedDatabase,
)
from chatmail.adapters.storage.federation.exchangers import SqlExchangerStore
from chatmail.adapters.storage.federation.peers import Peers, read_peers
from chatmail.adapters.storage.federation.queue import SqlOutboundQueue
from chatmail.adapters.storage.files import Files
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.intake import SegmentIntake
from chatmail.adapters.storage.journal import MAX_BATCH_OCTETS, clear, settle_after_crash
from chatmail.adapters.storage.mailstore import SegmentMailStore, SqlMailStore
from chatmail.adapters.storage.object_ids import KeyedObjectIds
from chatmail.adapters.storage.queue import SqlReportQueue
from chatmail.adapters.storage.reader import Reader
from chatmail.adapters.storage.retention import SqlRetention
from chatmail.adapters.storage.roster import SqlRoster
from chatmail.adapters.storage.segment_reader import SegmentReader
from chatmail.adapters.storage.segments import SEGMENT_LIMIT_BYTES, SegmentLog
from chatmail.adapters.storage.settings import SqlSettingsStore
from chatmail.adapters.storage.spool import SegmentBlobStore
from chatmail.adapters.storage.tokens import SqlDeviceTokens, TokenCache
from chatmail.adapters.storage.upkeep import Upkeep
from chatmail.adapters.storage.writer import (
    MAX_QUEUED_BYTES,
    MAX_QUEUED_JOBS,
    Log,
    Writer,
)

if TYPE_CHECKING:
    from chatmail.adapters.storage.postgresql.index import SharedIndex
from chatmail.domain.model.account import AccountId
from chatmail.domain.ports.hints import MailboxHints
from chatmail.domain.ports.system import Clock

SQLITE_URL: Final = "sqlite"
POSTGRESQL_URLS: Final = ("postgresql://", "postgres://")


@attrs.frozen(kw_only=True)
class StoreOptions:
    """Bounds, and the parts that tests replace."""

    segment_limit_bytes: int = SEGMENT_LIMIT_BYTES
    journal_batch_octets: int = MAX_BATCH_OCTETS
    max_queued_jobs: int = MAX_QUEUED_JOBS
    max_queued_bytes: int = MAX_QUEUED_BYTES
    new_index: Callable[[], StoreIndex] = StoreIndex
    new_shared_index: Callable[[], SharedIndex] | None = None
    new_database: Callable[[Path], SqliteDatabase] = SqliteDatabase
    files: Files = attrs.field(factory=Files)


class Tends(Protocol):
    """The periodic work of a store."""

    async def vacuum(self) -> int: ...

    async def sweep(self) -> int: ...

    async def recount(self) -> int: ...


@attrs.frozen(kw_only=True)
class Ears:
    """What the application wants to hear of other processes on the same database. Sync.

    `account_changed`: its secret may be another one. `account_closed`: it was blocked or removed.
    """

    account_changed: Callable[[AccountId], None]
    account_closed: Callable[[AccountId], None]
    settings_changed: Callable[[], None]


class Store:
    """All ports of the store. `is_shared`: other processes may be at work on its database."""

    is_shared = False

    def __init__(
        self,
        writer: Writer,
        index: StoreIndex,
        accounts: SqlAccountStore,
        mail: SqlMailStore,
        blobs: SegmentBlobStore,
        upkeep: Tends,
        reader: Reader,
        object_ids: KeyedObjectIds,
        peers: Peers,
        cache: TokenCache,
        clock: Clock,
        log: Log,
    ) -> None:
        self._writer = writer
        self._reader = reader
        self.upkeep = upkeep
        self.board = Board()
        self.outbound_board = Board()
        self.index = index
        self.accounts = accounts
        self.intake = SegmentIntake(writer, self.board, self.outbound_board)
        self.blobs = blobs
        self.mail = mail
        self.queue = SqlReportQueue(writer, self.board, log)
        self.outbound = SqlOutboundQueue(
            writer,
            reader,
            index,
            mail,
            self.outbound_board,
            self.board,
            clock,
            log,
            is_shared=self.is_shared,
        )
        self.peers = peers.directory
        self.peer_memory = peers.memory
        self.peer_ledger = peers.ledger
        self.exchangers = SqlExchangerStore(writer)
        self.tokens = SqlDeviceTokens(writer, cache)
        self.object_ids = object_ids
        self.settings = SqlSettingsStore(writer)
        self.arrivals_key = object_ids.derive(b"arrivals")
        self.retention = SqlRetention(writer, reader, index, cache)
        self.roster = SqlRoster(reader)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Commit until cancelled.

        Raises:  StoreFailed: the disk or the database failed; the process has to end.
        """
        await self._writer.run(task_status=task_status)

    @property
    def failed(self) -> StoreFailed | None:
        """Return why the store failed, if it did."""
        return self._writer.failure

    def is_at_work(self) -> bool:
        """Say whether a thread writes or reads now; it needs the interpreter many times."""
        return self._writer.is_at_work or self._reader.is_at_work

    def listen(self, ears: Ears) -> None:
        """Tell the application from now on what others change; nobody else writes SQLite."""

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

    Args:  url: `sqlite` (the file lives in the state directory), or `postgresql://…`.
    Raises:  StateDirectoryInUse; UnsupportedDatabase; CannotOpen: with the reason.
    """
    options = options or StoreOptions()
    with ExitStack() as closing:
        if url == SQLITE_URL:
            open_it = partial(_open, state_dir, hints, clock, log, options, closing)
            what = str(state_dir)
        else:
            open_it = partial(_postgresql(url), state_dir, url, hints, clock, log, options, closing)
            what = "database.url"
        try:
            store = await trio.to_thread.run_sync(open_it)
        except (OSError, StorageFault) as error:
            raise CannotOpen(f"{what}: cannot be used: {_reason(error)}") from error
        yield store


def _postgresql(url: str) -> Callable[..., Store]:
    """Return what opens a database of this address; its driver is an extra."""
    if not url.startswith(POSTGRESQL_URLS):
        raise UnsupportedDatabase("database.url is neither sqlite nor postgresql://…")
    try:
        module = import_module("chatmail.adapters.storage.postgresql.store")
    except ImportError as error:
        raise UnsupportedDatabase(
            "PostgreSQL needs its driver: pip install 'chatmail[postgresql]'"
        ) from error
    opener: Callable[..., Store] = module.open_shared
    return opener


def _reason(error: OSError | StorageFault) -> str:
    """One line for the operator: what the system or the database itself said."""
    if isinstance(error, OSError):
        return error.strerror or "unknown error"
    said = getattr(error.__cause__, "orig", error.__cause__) or error
    return " ".join(str(said).split())[:300]


def _settle_at_end(writer: Writer, committer: Committer) -> None:
    if writer.failure is None:
        with suppress(StorageFault):  # the next start does it
            committer.settle()


def _settle(database: SqliteDatabase, mail: Path, files: Files) -> int:
    settled = settle_after_crash(database.writer, mail, files)
    if settled:
        database.begin()
        try:
            with translated():
                clear(database.writer)
                database.commit()
        except DiskFull:
            # Reading, and deleting, must go on: the rows go when there is room again.
            database.rollback()
    return settled


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
        settled = _settle(database, mail, options.files)
        missing = recovery.missing_content(connection, mail)
        recovery.return_leases(connection, clock.now_s())
        index.account_count = recovery.count_accounts(connection)
    if unknown := recovery.unknown_segments(known, mail):
        log.warning("segments_unknown", segments=len(unknown), first=unknown[0])
    if settled:
        log.info("content_settled", records=settled)
    if missing:
        log.warning("content_missing", segments=len(missing), first=missing[0])

    def new_id() -> int:
        return next(ids)

    files = options.files
    segments = SegmentLog(mail, files, first_segment, options.segment_limit_bytes)
    closing.callback(segments.close)
    content = SegmentReader(mail, files)
    closing.callback(content.close)
    committer = Committer(
        database, segments, index, new_id, clock, known, options.journal_batch_octets
    )
    writer = Writer(
        committer,
        index,
        hints,
        log,
        max_jobs=options.max_queued_jobs,
        max_octets=options.max_queued_bytes,
    )
    closing.callback(_settle_at_end, writer, committer)
    reader = Reader(database, index)
    upkeep = Upkeep(writer, reader, index, segments, content, files, clock, log)
    closing.callback(upkeep.close)
    blobs = SegmentBlobStore(spool, files, new_id)
    server_key = recovery.server_key(state_dir)
    cache = TokenCache()
    accounts = SqlAccountStore(writer, index, TombstoneKeys(server_key), cache)
    mail_store = SegmentMailStore(writer, reader, index, content, log)
    object_ids = KeyedObjectIds(server_key)
    peers = read_peers(connection, writer)
    return Store(
        writer,
        index,
        accounts,
        mail_store,
        blobs,
        upkeep,
        reader,
        object_ids,
        peers,
        cache,
        clock,
        log,
    )
