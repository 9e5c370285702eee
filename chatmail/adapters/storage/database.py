"""The SQL database: its connections and all that is particular to SQLite.

One connection writes, one reads; each is used by one thread at a time and lives as long as the
store. Other modules speak portable SQL through `Prepared` statements.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

from sqlalchemy import Connection, CursorResult, Engine, Executable, StaticPool, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ClauseElement

from chatmail.adapters.storage.errors import (
    Busy,
    DiskFull,
    JobRefused,
    StorageFault,
    StoreFailed,
    UnsupportedDatabase,
)
from chatmail.adapters.storage.migrations.forward import migrate
from chatmail.adapters.storage.sqlstates import fault_of

FILE_NAME: Final = "chatmail.db"
BUSY_TIMEOUT_S: Final = 5.0

# `serial`: in SQLite only this spelling makes the key the row's own number, without an index.
_WORDS: Final = {
    "octets": "BLOB",
    "clustered": " WITHOUT ROWID",
    "serial": "INTEGER",
    "bytewise": "",
}

# WAL with FULL syncs the log at every commit: what was acknowledged survives a power cut.
# Checkpoints are run between commits by the writer, never inside one (autocheckpoint 0).
# secure_delete: freed pages hold nothing of a deleted message.
_WRITER_PRAGMAS: Final = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "secure_delete=ON",
    "wal_autocheckpoint=0",
    "cache_size=-32768",
    "temp_store=MEMORY",
)
_READER_PRAGMAS: Final = ("query_only=ON", "cache_size=-8192", "temp_store=MEMORY")

_FULL_CODES: Final = frozenset({sqlite3.SQLITE_FULL})
_BUSY_CODES: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_REFUSED_CODES: Final = frozenset(
    {
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_RANGE,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_INTERRUPT,
    }
)


class Prepared:
    """A statement compiled once; run with rows that are plain tuples in the order of `names`.

    Core's own parameter handling costs three times the rest of an `executemany`
    (7 µs against 2 µs a row), so hot statements go past it.
    """

    __slots__ = ("_connection", "_many", "_sql")

    def __init__(
        self, connection: Connection, statement: Executable, names: Sequence[str] = ()
    ) -> None:
        columns = list(names) if statement.is_insert else None
        # Every executable clause has `compile`, but the class Executable does not say so.
        compiled = cast(ClauseElement, statement).compile(
            dialect=connection.dialect, column_keys=columns
        )
        order = cast(SQLCompiler, compiled).positiontup or []
        if order != list(names):
            raise ValueError(f"parameters are {order}, not {list(names)}")
        self._sql = compiled.string
        self._connection = connection
        driver = connection.connection.driver_connection
        self._many: Callable[[str, list[tuple[Any, ...]]], object] = (
            driver.executemany
            if isinstance(driver, sqlite3.Connection)
            else connection.exec_driver_sql
        )

    def run(self, *values: object) -> CursorResult[Any]:
        """Execute once."""
        return self._connection.exec_driver_sql(self._sql, values)

    def run_many(self, rows: list[tuple[Any, ...]]) -> None:
        """Execute once per row; no row, no call."""
        if rows:
            self._many(self._sql, rows)

    def all(self, *values: object) -> Sequence[Any]:
        """Return all rows of a query."""
        return self._connection.exec_driver_sql(self._sql, values).fetchall()

    def one(self, *values: object) -> Any | None:
        """Return the first row of a query."""
        return self._connection.exec_driver_sql(self._sql, values).fetchone()


def is_shared(connection: Connection) -> bool:
    """Say whether other processes may write to the database at the same time."""
    return connection.dialect.name != "sqlite"


class SqliteDatabase:
    """A SQLite file. Every method blocks: call it in the thread that owns the connection."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engines: list[Engine] = []
        self.writer: Connection
        self.reader: Connection
        self._driver: sqlite3.Connection

    def open(self) -> None:
        """Create or open the file, replay its log, bring the tables up to date.

        Raises:  UnsupportedDatabase: a newer program wrote it. StoreFailed: it is unreadable.
        """
        # The log files take the mode of this one.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        with translated():
            self.writer = self._connect(_WRITER_PRAGMAS)
            self._driver = cast(sqlite3.Connection, self.writer.connection.driver_connection)
            self.begin()
            try:
                migrate(self.writer, _WORDS)
            except (DBAPIError, sqlite3.Error, UnsupportedDatabase):
                self.rollback()
                raise
            self.commit()
            self.reader = self._connect(_READER_PRAGMAS)

    def close(self) -> None:
        """Close both connections; the last one folds the log into the file."""
        for engine in reversed(self._engines):
            engine.dispose()
        self._engines.clear()

    def begin(self) -> None:
        """Begin a transaction that may write."""
        # Past SQLAlchemy, like COMMIT: 60 µs less per batch, and nothing of it is used here.
        self._driver.execute("BEGIN IMMEDIATE")

    def begin_reading(self) -> None:
        """Begin a transaction of the writer connection that only reads: no lock, no sync."""
        self._driver.execute("BEGIN DEFERRED")

    def commit(self) -> None:
        """Make the transaction durable."""
        self._driver.execute("COMMIT")

    def rollback(self) -> None:
        """Undo the transaction; SQLite may have done so itself, after a full disk."""
        if self._driver.in_transaction:
            self._driver.execute("ROLLBACK")

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Give the reader connection one consistent view.

        Short on purpose: a long one keeps checkpoints from finishing and the log growing.
        """
        self.reader.exec_driver_sql("BEGIN DEFERRED")
        try:
            yield self.reader
        finally:
            self.reader.exec_driver_sql("COMMIT")

    def checkpoint(self, *, truncate: bool = False) -> None:
        """Copy the log into the file, as far as readers allow."""
        mode = "TRUNCATE" if truncate else "PASSIVE"
        self.writer.exec_driver_sql(f"PRAGMA wal_checkpoint({mode})").fetchall()

    def _connect(self, pragmas: Iterable[str]) -> Connection:
        engine = create_engine(
            "sqlite://",
            creator=self._open_driver,
            poolclass=StaticPool,
            isolation_level="AUTOCOMMIT",  # BEGIN and COMMIT are ours alone
            hide_parameters=True,  # error texts may reach a log: no address in them
        )
        self._engines.append(engine)
        connection = engine.connect()
        for pragma in pragmas:
            connection.exec_driver_sql(f"PRAGMA {pragma}").close()
        return connection

    def _open_driver(self) -> sqlite3.Connection:
        return sqlite3.connect(
            self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )


@contextmanager
def translated() -> Iterator[None]:
    """Translate database errors by what follows from them.

    Raises:  DiskFull, Busy, JobRefused, StoreFailed.
    """
    try:
        yield
    except DBAPIError as error:
        raise _fault(error.orig) from error
    except sqlite3.Error as error:
        raise _fault(error) from error
    except (OverflowError, UnicodeError) as error:
        # The driver refuses integers beyond 64 bits and lone surrogates by itself.
        raise JobRefused("a value cannot be stored") from error


def _fault(error: BaseException | None) -> StorageFault:
    if error is not None and hasattr(error, "sqlstate"):
        return fault_of(error.sqlstate)
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        # Raised by the driver before SQLite saw it: a statement or a value of ours is wrong.
        return JobRefused("the driver refused a statement")
    primary = code & 0xFF
    if primary in _FULL_CODES:
        return DiskFull("no room for the database")
    if primary in _BUSY_CODES:
        return Busy("the database is locked")
    if primary in _REFUSED_CODES:
        return JobRefused("the database refused a statement")
    return StoreFailed(f"database error {code}")
