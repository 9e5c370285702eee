"""A connection that heals, and tries that are spaced."""

from __future__ import annotations

import time

import psycopg
import pytest

from chatmail.adapters.storage.errors import JobRefused, Unavailable
from chatmail.adapters.storage.postgresql.ids import BLOCK, IdBlocks
from chatmail.adapters.storage.postgresql.link import LONGEST_WAIT_S, Link, Outage, connect
from tests.unit.adapters.storage.postgresql.conftest import Database


def test_tries_are_spaced_up_to_a_bound_and_at_once_after_a_success(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    outage = Outage()
    outage.check()
    waits = [outage.failed() for _ in range(10)]
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert max(waits) == waits[-1] == LONGEST_WAIT_S
    with pytest.raises(Unavailable):
        outage.check()
    now[0] += LONGEST_WAIT_S
    outage.check()
    outage.failed()
    outage.is_over()
    outage.check()


def test_a_server_that_is_away_is_asked_once_per_wait(database: Database) -> None:
    asked = []

    def refuse(url: str):
        asked.append(url)
        raise psycopg.OperationalError("told to fail")

    link = Link(database.url, Outage(), refuse)
    for _ in range(5):
        with pytest.raises(Unavailable):
            link.begin("BEGIN")
    assert len(asked) == 1


def test_a_commit_the_server_turned_into_a_rollback_is_none(database: Database) -> None:
    link = Link(database.url, Outage())
    link.open()
    link.execute("CREATE TABLE IF NOT EXISTS scratch (number int)")
    link.begin("BEGIN")
    link.execute("INSERT INTO scratch VALUES (1)")
    with pytest.raises(JobRefused):
        link.execute("SELECT 1 / 0")
    assert link.is_in_transaction
    with pytest.raises(JobRefused):
        link.commit()
    link.execute("DROP TABLE scratch")
    link.close()
    assert not link.is_in_transaction


def test_a_silent_server_ends_a_connection(database: Database) -> None:
    connection = connect(database.url)
    parameters = connection.info.get_parameters()
    assert parameters["tcp_user_timeout"] == "15000"
    assert connection.execute("SHOW idle_in_transaction_session_timeout").fetchone() == ("30s",)
    connection.close()
    with connect(database.url + "?tcp_user_timeout=7000") as connection:
        assert connection.info.get_parameters()["tcp_user_timeout"] == "7000"


async def test_ids_of_two_processes_never_meet(database: Database) -> None:
    async with database.store() as one, database.store() as other:
        blocks = [IdBlocks(stores.store._writer._committer._database) for stores in (one, other)]
        found = [blocks[number % 2]() for number in range(2 * BLOCK + 10)]
    assert len(set(found)) == len(found)
