"""A store on PostgreSQL: the same ports, shared by as many processes as there are."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import trio

from chatmail.adapters.storage import recovery
from chatmail.adapters.storage.accounts import (
    LookUpAddresses,
    SqlAccountStore,
    TombstoneKeys,
)
from chatmail.adapters.storage.database import translated
from chatmail.adapters.storage.errors import StoreFailed
from chatmail.adapters.storage.federation.peers import read_peers
from chatmail.adapters.storage.object_ids import KeyedObjectIds
from chatmail.adapters.storage.postgresql.committer import SharedCommitter
from chatmail.adapters.storage.postgresql.contents import RecentContents
from chatmail.adapters.storage.postgresql.database import PostgresDatabase
from chatmail.adapters.storage.postgresql.ids import IdBlocks
from chatmail.adapters.storage.postgresql.index import SharedIndex
from chatmail.adapters.storage.postgresql.listener import Listener
from chatmail.adapters.storage.postgresql.mailstore import SharedMailStore
from chatmail.adapters.storage.postgresql.upkeep import SharedUpkeep
from chatmail.adapters.storage.postgresql.writer import Availability, SharedWriter
from chatmail.adapters.storage.reader import Reader
from chatmail.adapters.storage.spool import SegmentBlobStore
from chatmail.adapters.storage.store import Ears, Store, StoreOptions
from chatmail.adapters.storage.tokens import TokenCache
from chatmail.adapters.storage.writer import Log
from chatmail.domain.model.account import Account
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.ports.hints import MailboxHints
from chatmail.domain.ports.system import Clock

TOMBSTONE_KEY: Final = "tombstones"
WRITER_KEPT_S: Final = 30 * 86400

_ADD_KEY: Final = "INSERT INTO server_keys (name, value) VALUES (%s, %s) ON CONFLICT DO NOTHING"
_KEY: Final = "SELECT value FROM server_keys WHERE name = %s"
_FORGET_WRITERS: Final = """DELETE FROM writers
    WHERE seen_s < extract(epoch from clock_timestamp()) - %s"""


class SharedAccountStore(SqlAccountStore):
    """`AccountStore`; others make accounts too, so they are counted by the database."""

    def __init__(
        self,
        writer: SharedWriter,
        reader: Reader,
        index: SharedIndex,
        keys: TombstoneKeys,
        tokens: TokenCache,
    ) -> None:
        super().__init__(writer, index, keys, tokens)
        self._reader = reader

    async def get(self, address: EmailAddress) -> Account | None:
        """Return the account as it is now: logins ask, and what another process did must count."""
        (record,) = (await self._writer.do(LookUpAddresses((address,)))).records or (None,)
        return None if record is None else record.account()

    async def count(self) -> int:
        """Return the number of accounts; one read."""
        return await self._reader.query(recovery.count_accounts)


class SharedStore(Store):
    """`Store` with a task that hears what others commit."""

    is_shared = True
    listener: Listener
    availability: Availability

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Commit and listen until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._writer.run)
            await nursery.start(self.listener.run)
            task_status.started()

    def listen(self, ears: Ears) -> None:
        """Tell the application from now on what others change."""
        self.listener.ears = ears

    @property
    def failed(self) -> StoreFailed | None:
        """Return why the store does not serve now: here that heals."""
        if self.availability.is_down:
            return StoreFailed("the database is away")
        return super().failed


def open_shared(
    state_dir: Path,
    url: str,
    hints: MailboxHints,
    clock: Clock,
    log: Log,
    options: StoreOptions,
    closing: ExitStack,
) -> Store:
    """Open the database and connect all parts; blocks.

    Raises:  StateDirectoryInUse; UnsupportedDatabase; OSError; StorageFault.
    """
    closing.enter_context(recovery.locked(state_dir))
    _, spool = recovery.make_directories(state_dir)
    database = PostgresDatabase(url)
    closing.callback(database.close)
    database.open()
    index = SharedIndex() if options.new_shared_index is None else options.new_shared_index()
    ids = IdBlocks(database)
    process = ids()
    with translated():
        key = _server_key(database, recovery.server_key(state_dir))
        database.writing.execute(_FORGET_WRITERS, WRITER_KEPT_S)
        index.account_count = recovery.count_accounts(database.writer)
    recent = RecentContents()
    availability = Availability(log)
    writer = SharedWriter(
        SharedCommitter(database, index, ids, clock, process),
        index,
        hints,
        log,
        availability,
        recent,
        max_jobs=options.max_queued_jobs,
        max_octets=options.max_queued_bytes,
    )
    with translated():
        _return_leases(database, state_dir, process, clock)
    peers = read_peers(database.writer, writer)
    reader = Reader(database, index)
    cache = TokenCache()
    store = SharedStore(
        writer,
        index,
        SharedAccountStore(writer, reader, index, TombstoneKeys(key), cache),
        SharedMailStore(writer, reader, index, database.reading, recent, log),
        SegmentBlobStore(spool, options.files, itertools.count(1).__next__),
        SharedUpkeep(writer, reader, index, clock, log),
        reader,
        KeyedObjectIds(key),
        peers,
        cache,
        clock,
        log,
    )
    store.availability = availability
    store.listener = Listener(
        url,
        process,
        database.outage,
        writer,
        index,
        cache,
        store.board,
        store.outbound_board,
        peers,
        availability,
    )
    return store


def _return_leases(database: PostgresDatabase, state_dir: Path, process: int, clock: Clock) -> None:
    """Free what this state directory's last process was working on, and take its place."""
    before = recovery.last_process(state_dir)
    if before is not None:
        recovery.return_queue_leases(database.writer, before)
    recovery.mend_queue_times(database.writer, clock.now_s())
    recovery.note_process(state_dir, process)


def _server_key(database: PostgresDatabase, own: bytes) -> bytes:
    """Return the key all processes share: that of the first one."""
    database.writing.execute(_ADD_KEY, TOMBSTONE_KEY, own)
    ((key,),) = database.writing.all(_KEY, TOMBSTONE_KEY)
    return bytes(key)
