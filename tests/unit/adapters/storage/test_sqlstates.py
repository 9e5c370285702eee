"""What follows from which SQLSTATE."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from chatmail.adapters.storage.database import translated
from chatmail.adapters.storage.errors import (
    Busy,
    Conflict,
    DiskFull,
    JobRefused,
    StorageFault,
    Unavailable,
)


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (psycopg.errors.DiskFull, DiskFull),
        (psycopg.errors.OutOfMemory, Busy),
        (psycopg.errors.TooManyConnections, Busy),
        (psycopg.errors.SerializationFailure, Conflict),
        (psycopg.errors.DeadlockDetected, Conflict),
        (psycopg.errors.LockNotAvailable, Busy),
        (psycopg.errors.QueryCanceled, Busy),
        (psycopg.errors.IoError, Busy),
        (psycopg.errors.DataCorrupted, Busy),
        (psycopg.errors.UniqueViolation, JobRefused),
        (psycopg.errors.NotNullViolation, JobRefused),
        (psycopg.errors.NumericValueOutOfRange, JobRefused),
        (psycopg.errors.UndefinedTable, JobRefused),
        (psycopg.errors.AdminShutdown, Unavailable),
        (psycopg.errors.CrashShutdown, Unavailable),
        (psycopg.errors.CannotConnectNow, Unavailable),
        (psycopg.errors.IdleInTransactionSessionTimeout, Unavailable),
        (psycopg.errors.ConnectionFailure, Unavailable),
        (psycopg.OperationalError, Unavailable),
    ],
)
def test_errors_of_the_server_by_what_follows(
    error: type[psycopg.Error], fault: type[StorageFault]
) -> None:
    with pytest.raises(StorageFault) as caught, translated():
        raise DBAPIError("statement", None, error("a text with private@relay.test"))
    assert type(caught.value) is fault
    assert "private" not in str(caught.value)
