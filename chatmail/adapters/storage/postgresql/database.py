"""A PostgreSQL database: two connections and all that is particular to the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from chatmail.adapters.storage.database import translated
from chatmail.adapters.storage.errors import StorageFault, Unavailable, UnsupportedDatabase
from chatmail.adapters.storage.migrations.forward import migrate
from chatmail.adapters.storage.postgresql.link import Link, Outage

_WORDS: Final = {
    "octets": "BYTEA",
    "clustered": "",
    "serial": "BIGINT",
    "bytewise": ' COLLATE "C"',  # compared as SQLite does, whatever language the server speaks
}

# Any number will do, as long as every version of this program takes the same.
MIGRATION_LOCK: Final = 0x63686174

_SNAPSHOT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class PostgresDatabase:
    """Every method blocks: call it in the thread that owns the connection."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.outage = Outage()
        self.writing = Link(url, self.outage)
        self.reading = Link(url, self.outage)

    @property
    def writer(self) -> Connection:
        """Return the connection that writes; another one after it was lost."""
        return self.writing.connection

    @property
    def reader(self) -> Connection:
        """Return the connection that reads; another one after it was lost."""
        return self.reading.connection

    @property
    def url(self) -> str:
        """Return where the server is; holds a password."""
        return self._url

    def open(self) -> None:
        """Connect and bring the tables up to date, one process at a time.

        Raises:  UnsupportedDatabase: a newer program wrote it, or the server is none we can use.
            StorageFault: it cannot be reached.
        """
        self.writing.open()
        self.begin()
        with translated():
            try:
                # The first process builds the tables; others wait for it, then find them built.
                self.writing.execute("SET LOCAL lock_timeout = '60s'")
                self.writing.execute("SET LOCAL statement_timeout = 0")
                self.writing.execute("SELECT pg_advisory_xact_lock(%s)", MIGRATION_LOCK)
                migrate(self.writer, _WORDS)
            except (DBAPIError, StorageFault, UnsupportedDatabase):
                self.rollback()
                raise
        self.commit()
        self.reading.open()

    def close(self) -> None:
        """Close both connections."""
        self.reading.close()
        self.writing.close()

    def begin(self) -> None:
        """Begin a transaction that may write."""
        self.writing.begin("BEGIN")

    def begin_reading(self) -> None:
        """Begin a transaction of the writer's connection with one view of everything."""
        self.writing.begin(_SNAPSHOT)

    def commit(self) -> None:
        """Make the transaction durable."""
        self.writing.commit()

    def rollback(self) -> None:
        """Undo the transaction; a lost connection has done so already."""
        if self.writing.is_in_transaction:
            try:
                self.writing.execute("ROLLBACK")
            except Unavailable:
                self.writing.close()

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Give the reader's connection one consistent view."""
        self.reading.begin(_SNAPSHOT)
        try:
            yield self.reader
        finally:
            if self.reading.is_in_transaction:
                self.reading.execute("COMMIT")
