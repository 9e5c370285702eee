"""The database behind a relay, whichever kind it is.

With `CHATMAIL_TEST_DATABASE=postgresql` in the environment every relay that the helpers start gets
a fresh database of the run's private PostgreSQL server; without it, SQLite in its state directory.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests import postgres

IS_POSTGRESQL = os.environ.get("CHATMAIL_TEST_DATABASE", "sqlite") == "postgresql"

needs_postgres = pytest.mark.skipif(
    postgres.missing() is not None, reason=postgres.missing() or "there is a server"
)


def sqlite_only(reason: str) -> pytest.MarkDecorator:
    """Mark a test that is about the files of the other backend."""
    return pytest.mark.skipif(IS_POSTGRESQL, reason=f"SQLite: {reason}")


_made: list[str] = []


def fresh_url() -> str:
    """Return the URL of a new database if relays are to have one; else an empty text."""
    if not IS_POSTGRESQL:
        return ""
    _made.append(postgres.shared().fresh_database())
    return _made[-1]


def drop_all() -> None:
    """Remove the databases that were made up to now."""
    while _made:
        postgres.shared().drop_database(_made.pop())


class Rows:
    """A connection of either kind; statements have `?` for their values."""

    def __init__(self, connection: sqlite3.Connection | psycopg.Connection[Any]) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Sequence[object] = ()) -> Any:
        """Return the cursor of the statement."""
        if isinstance(self._connection, sqlite3.Connection):
            return self._connection.execute(statement, values)
        return self._connection.execute(statement.replace("?", "%s").encode(), values)

    def tables(self) -> list[str]:
        """Return the names of all tables."""
        query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        if isinstance(self._connection, sqlite3.Connection):
            query = "SELECT name FROM sqlite_master WHERE type = 'table'"
        return [row[0] for row in self.execute(query)]

    def content_bytes(self) -> int:
        """Return the octets of stored mail that PostgreSQL holds, as allocated."""
        return int(self.execute("SELECT pg_table_size('contents')").fetchone()[0])


@contextlib.contextmanager
def rows(state: Path, url: str) -> Iterator[Rows]:
    """Open the database of a relay; commits at the end of the block."""
    if url:
        with psycopg.connect(url) as connection:
            yield Rows(connection)
        return
    with contextlib.closing(sqlite3.connect(state / "chatmail.db")) as db, db:
        yield Rows(db)
