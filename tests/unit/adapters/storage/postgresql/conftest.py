"""Two stores on one database, as two processes would have them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import attrs
import psycopg
import pytest
import trio

from chatmail.adapters.storage.store import StoreOptions
from tests import postgres
from tests.patience import PATIENCE_S
from tests.unit.ports.world import ListLog, Stores, empty_database, postgresql_stores

Pair = tuple[Stores, Stores]


@attrs.define
class Database:
    """One database, and stores on it."""

    url: str
    folder: Path
    count: int = 0

    def store(
        self, log: ListLog | None = None, **options: object
    ) -> AbstractAsyncContextManager[Stores]:
        """Open one more store, in a state directory of its own."""
        self.count += 1
        directory = self.folder / str(self.count)
        return postgresql_stores(directory, StoreOptions(**options), log, self.url)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    if reason := postgres.missing():
        pytest.skip(reason)
    with empty_database() as url:
        yield Database(url, tmp_path)


@pytest.fixture
def server() -> postgres.PostgresServer:
    """A server of this test's own, to be stopped and killed."""
    if reason := postgres.missing():
        pytest.skip(reason)
    with postgres.PostgresServer() as server:
        yield server


@pytest.fixture
async def pair(database: Database) -> AsyncIterator[Pair]:
    async with database.store() as one, database.store() as other:
        for stores in (one, other):
            await until(lambda stores=stores: stores.store.listener.is_listening)
        yield one, other


async def until(condition: Callable[[], bool], limit_s: float = PATIENCE_S) -> None:
    """Wait for what another task or the server does; there is nothing to await."""
    with trio.fail_after(limit_s):
        while not condition():  # noqa: ASYNC110 - the server tells nobody
            await trio.sleep(0.01)


def write_beside(stores: Stores, statement: str, *values: object) -> None:
    """Write as nobody of ours; the writer's connection is its thread's, which may be using it."""
    url = stores.store._writer._committer._database.writing._url
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement, values)


@asynccontextmanager
async def hinted(stores: Stores, mailbox: int) -> AsyncIterator[None]:
    """Wait, at the end, until a session on this mailbox would have been woken."""
    woken = trio.Event()
    with stores.hints.subscribe(mailbox, woken.set):
        yield
        with trio.fail_after(PATIENCE_S):
            await woken.wait()
