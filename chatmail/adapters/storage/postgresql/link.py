"""One long-lived connection to the server, made again when it was lost.

A lost connection is not the end of the process: what was in hand has failed, and the next
transaction begins on a new connection. While the server is away tries are spaced, so that
callers hear at once that they have to wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, Engine, StaticPool, create_engine

from chatmail.adapters.storage.errors import JobRefused, Unavailable, UnsupportedDatabase
from chatmail.adapters.storage.sqlstates import fault_of

FIRST_WAIT_S: Final = 0.1
LONGEST_WAIT_S: Final = 5.0
OLDEST_SERVER: Final = 120000

# A server that vanished without a word must not hold a thread: its silence ends a connection.
_DEFAULTS: Final = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "application_name": "chatmail",
}

# A process that hangs must not keep its locks; one that waits for a lock must not wait for ever.
# What was acknowledged is on disk: only this setting of the operator's is not his to choose.
_SESSION: Final = """
    SET lock_timeout = '5s';
    SET statement_timeout = '30s';
    SET idle_in_transaction_session_timeout = '30s';
    SET client_min_messages = 'warning';
    SELECT set_config('synchronous_commit', 'on', false)
        WHERE current_setting('synchronous_commit') = 'off'
"""


@contextmanager
def driving() -> Iterator[None]:
    """Translate errors of the driver. Raises:  StorageFault."""
    try:
        yield
    except psycopg.Error as error:
        raise fault_of(error.sqlstate) from error


class Outage:
    """When the server may be tried again; shared by all connections of a store."""

    def __init__(self) -> None:
        self._wait_s = 0.0
        self._not_before_s = 0.0

    def check(self) -> None:
        """Raises:  Unavailable: it is too early to try again."""
        if time.monotonic() < self._not_before_s:
            raise Unavailable("the database cannot be reached")

    def failed(self) -> float:
        """Note a failed try; returns how long to wait before the next."""
        self._wait_s = min(max(self._wait_s * 2, FIRST_WAIT_S), LONGEST_WAIT_S)
        self._not_before_s = time.monotonic() + self._wait_s
        return self._wait_s

    def is_over(self) -> None:
        """Note that the server answers."""
        self._wait_s = self._not_before_s = 0.0


def connect(url: str) -> psycopg.Connection[Any]:
    """Open a connection on which BEGIN and COMMIT are ours.

    Raises:  psycopg.Error; UnsupportedDatabase: the server is too old, or stores no UTF-8.
    """
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # The driver's text repeats the address, and with it the password.
        raise UnsupportedDatabase("database.url: not a valid address") from None
    wanted = {name: value for name, value in _DEFAULTS.items() if name not in given}
    connection = psycopg.connect(url, autocommit=True, **cast(Any, wanted))
    try:
        if connection.info.server_version < OLDEST_SERVER:
            raise UnsupportedDatabase("PostgreSQL 12 or newer is needed")
        if connection.info.parameter_status("server_encoding") != "UTF8":
            raise UnsupportedDatabase("the database must have the encoding UTF8")
        connection.execute(_SESSION)
    except BaseException:
        connection.close()
        raise
    return connection


class Link:
    """A connection used by one thread at a time. Every method blocks."""

    def __init__(self, url: str, outage: Outage, connect: Callable[[str], Any] = connect) -> None:
        self._url = url
        self._outage = outage
        self._connect = connect
        self._engine: Engine | None = None
        self.connection: Connection
        self._driver: psycopg.Connection[Any]

    def open(self) -> None:
        """Connect, whatever was before.

        Raises:  Unavailable, or another StorageFault; UnsupportedDatabase.
        """
        self.close()
        engine = create_engine(
            "postgresql+psycopg://",
            creator=lambda: self._connect(self._url),
            poolclass=StaticPool,
            isolation_level="AUTOCOMMIT",  # BEGIN and COMMIT are ours alone
            hide_parameters=True,  # error texts may reach a log: no address in them
            paramstyle="format",  # plain tuples, see `Prepared`
            use_native_hstore=False,
        )
        try:
            with driving(), _bare():
                self.connection = engine.connect()
        except BaseException:
            engine.dispose()
            raise
        self._engine = engine
        driver = self.connection.connection.driver_connection
        self._driver = cast("psycopg.Connection[Any]", driver)

    def close(self) -> None:
        """Close the connection, if it is open."""
        engine, self._engine = self._engine, None
        if engine is not None:
            self._driver.close()
            engine.dispose()

    def begin(self, statement: str) -> None:
        """Begin a transaction, on a new connection if the old one was lost meanwhile.

        Raises:  Unavailable.
        """
        if self._engine is not None and not self._driver.closed:
            try:
                self.execute(statement)
            except Unavailable:
                pass  # nothing was sent on it yet: a new one is as good
            else:
                return
        self.reopen()
        self.execute(statement)

    def reopen(self) -> None:
        """Connect again, unless that was tried a moment ago. Raises:  Unavailable."""
        self._outage.check()
        try:
            self.open()
        except Unavailable:
            self._outage.failed()
            raise
        self._outage.is_over()

    def execute(self, statement: str, *values: object) -> None:
        """Run a statement whose rows are of no interest."""
        with driving():
            self._driver.execute(statement.encode(), values or None)

    def commit(self) -> None:
        """Commit. Raises:  JobRefused: the server has rolled back, which it calls a success."""
        with driving():
            said = self._driver.execute(b"COMMIT").statusmessage
        if said != "COMMIT":
            raise JobRefused("the transaction was rolled back")

    def all(self, statement: str, *values: object) -> Sequence[Any]:
        """Return all rows."""
        with driving():
            return self._driver.execute(statement.encode(), values or None).fetchall()

    def look(self, statement: str, *values: object) -> Sequence[Any]:
        """Return all rows of a query that needs no transaction, on a new connection if need be."""
        if self._engine is not None and not self._driver.closed:
            try:
                return self.all(statement, *values)
            except Unavailable:
                pass
        self.reopen()
        return self.all(statement, *values)

    @property
    def is_in_transaction(self) -> bool:
        """Say whether there is something to roll back."""
        if self._engine is None or self._driver.closed:
            return False
        return self._driver.info.transaction_status != psycopg.pq.TransactionStatus.IDLE


@contextmanager
def _bare() -> Iterator[None]:
    """Take SQLAlchemy's coat off an error of the driver."""
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except DBAPIError as error:
        raise (error.orig or error) from error
