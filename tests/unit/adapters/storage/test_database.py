"""What follows from which database error, and that none repeats private values."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import bindparam, insert, select
from sqlalchemy.exc import DBAPIError

from chatmail.adapters.storage.database import Prepared, SqliteDatabase, translated
from chatmail.adapters.storage.errors import Busy, DiskFull, JobRefused, StorageFault, StoreFailed
from chatmail.adapters.storage.schema import barred
from tests.unit.adapters.storage.faults import sqlite_error


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        (sqlite3.SQLITE_FULL, DiskFull),
        (sqlite3.SQLITE_BUSY, Busy),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, Busy),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, JobRefused),
        (sqlite3.SQLITE_TOOBIG, JobRefused),
        (sqlite3.SQLITE_IOERR_WRITE, StoreFailed),
        (sqlite3.SQLITE_IOERR_FSYNC, StoreFailed),
        (sqlite3.SQLITE_CORRUPT, StoreFailed),
        (sqlite3.SQLITE_NOTADB, StoreFailed),
        (sqlite3.SQLITE_READONLY, StoreFailed),
    ],
)
def test_database_errors_by_what_follows(code: int, fault: type[StorageFault]) -> None:
    with pytest.raises(fault), translated():
        raise sqlite_error(code)


def test_errors_of_statements_hide_their_values(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "db")
    database.open()
    statement = Prepared(database.writer, insert(barred), ["address", "reason", "day_s"])
    statement.run("private@relay.test", "reason", 1)
    with pytest.raises(DBAPIError) as caught:
        statement.run("private@relay.test", "reason", 1)
    assert "private" not in str(caught.value)
    database.close()


def test_prepared_parameters_must_be_named_in_their_order(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "db")
    database.open()
    query = select(barred).where(barred.c.address == bindparam("p_address"))
    with pytest.raises(ValueError, match="p_address"):
        Prepared(database.writer, query, ["p_other"])
    database.close()


def test_the_reader_cannot_write(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "db")
    database.open()
    with pytest.raises(DBAPIError), database.snapshot() as connection:
        connection.exec_driver_sql("DELETE FROM barred")
    database.close()
