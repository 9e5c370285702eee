"""Two relay processes on one PostgreSQL database, and what they show of it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests import postgres
from tests.e2e.configured import ConfiguredRelay, Table
from tests.e2e.raw import RawImap, in_parallel
from tests.e2e.relay import wait_until

SOON_S = 20
"""A hint takes milliseconds, and what missed it is found after 30 s; between them is a machine that
does much else."""


@dataclass
class Pair:
    """Two relays that are to be one."""

    a: ConfiguredRelay
    b: ConfiguredRelay

    def __iter__(self) -> Iterator[ConfiguredRelay]:
        return iter((self.a, self.b))


@contextlib.contextmanager
def running_pair(folder: Path, **tables: Table) -> Iterator[Pair]:
    """Start both at the same instant on an empty database; both have to end well."""
    server = postgres.shared()
    url = server.fresh_database()
    pair = Pair(
        *(
            ConfiguredRelay(folder / name, database=f"{url}?application_name={name}", tables=tables)
            for name in "ab"
        )
    )
    try:
        in_parallel([relay.start for relay in pair])
        yield pair
        for relay in pair:
            assert relay.stop() == 0, "\n".join(relay.errors[-20:])
            assert not any("Traceback" in line for line in relay.errors)
    finally:
        for relay in pair:
            if relay.process is not None and relay.process.poll() is None:
                relay.kill()
        server.drop_database(url)


def await_end(victim: ConfiguredRelay) -> None:
    """Wait until the database server has seen that a relay was killed.

    Until then it may still execute what that relay had sent.
    """
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = ? AND application_name = ?"
    values = (postgres.database_name(victim.database), victim.folder.name)

    def is_over() -> bool:
        with victim.rows() as rows:
            rows.execute("SET application_name TO 'test'")
            return bool(rows.execute(query, values).fetchone() == (0,))

    wait_until("the server has seen the kill", is_over)


def rows_of(raw: RawImap) -> list[tuple[bytes, ...]]:
    """(number, UID, flags) of everything in the selected mailbox."""
    answer = raw.ok("FETCH 1:* (UID FLAGS)")
    return answer.find(rb"^\* (\d+) FETCH \(UID (\d+) FLAGS \(([^)]*)\)\)")


def status(raw: RawImap, mailbox: str) -> dict[bytes, int]:
    """STATUS of a mailbox, all items."""
    items = "MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ"
    [line] = [
        line
        for line in raw.ok(f'STATUS "{mailbox}" ({items})').lines
        if line.startswith(b"* STATUS ")  # news of the selected mailbox may come with it
    ]
    return {name: int(value) for name, value in re.findall(rb"([A-Z]+) (\d+)", line)}


def names(raw: RawImap) -> set[bytes]:
    """The names LIST tells."""
    return {name for (name,) in raw.ok('LIST "" "*"').find(rb'"/" "?([^"]+)"?$')}


def noop_until(raw: RawImap, line: bytes) -> list[bytes]:
    """Say NOOP until it tells this; returns everything that was told up to then."""
    told: list[bytes] = []

    def is_told() -> bool:
        told.extend(raw.ok("NOOP").lines)
        return line in told

    wait_until(f"NOOP tells {line!r}", is_told, SOON_S)
    return told
