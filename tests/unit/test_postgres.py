"""The PostgreSQL server that tests run against: what they rely on."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from tests.patience import PATIENCE_S
from tests.postgres import PostgresServer, database_name, missing

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


def _count(url: str) -> int:
    with psycopg.connect(url, connect_timeout=int(PATIENCE_S)) as connection:
        return connection.execute("SELECT count(*) FROM t").fetchall()[0][0]


def _filled(server: PostgresServer) -> str:
    url = server.fresh_database()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS x")
    return url


def test_every_database_is_new_and_of_an_owner_without_privileges(
    postgres_server: PostgresServer,
) -> None:
    first, second = _filled(postgres_server), postgres_server.fresh_database()
    assert first != second
    with psycopg.connect(second) as connection:
        assert connection.execute("SELECT to_regclass('t')").fetchall() == [(None,)]
        assert connection.execute("SHOW is_superuser").fetchall() == [("off",)]
        assert connection.execute("SHOW fsync").fetchall() == [("on",)]
    postgres_server.drop_database(first)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(first, connect_timeout=int(PATIENCE_S))


def test_what_was_committed_outlives_stop_and_kill() -> None:
    with PostgresServer() as server:
        url = _filled(server)
        for end in (server.stop, lambda: server.stop("immediate"), server.kill):
            end()
            assert not server.is_running
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(url, connect_timeout=int(PATIENCE_S))
            started = time.monotonic()
            server.start()
            print(f"back after {time.monotonic() - started:.2f} s")
            assert _count(url) == 1
        folder = server.folder
    assert not folder.exists()


def test_a_kill_ends_sessions_in_the_middle_of_their_transaction() -> None:
    with PostgresServer() as server:
        url = _filled(server)
        connection = psycopg.connect(url)
        connection.execute("INSERT INTO t VALUES (2)")
        server.kill()
        with pytest.raises(psycopg.OperationalError):
            connection.commit()
        connection.close()
        server.start()
        assert _count(url) == 1


def test_sessions_of_one_database_are_ended(postgres_server: PostgresServer) -> None:
    one, other = postgres_server.fresh_database(), postgres_server.fresh_database()
    with psycopg.connect(other) as kept:
        ended = psycopg.connect(one)
        assert postgres_server.terminate_backends(one) == 1
        with pytest.raises(psycopg.OperationalError):
            ended.execute("SELECT 1")
        ended.close()
        assert postgres_server.terminate_backends(database_name(one)) == 0
        kept.execute("SELECT 1")


def test_a_frozen_server_answers_when_it_goes_on(postgres_server: PostgresServer) -> None:
    with psycopg.connect(postgres_server.fresh_database()) as connection:
        with postgres_server.frozen():
            connection.pgconn.send_query(b"SELECT 1")
            assert not select.select([connection.fileno()], [], [], 0.1)[0]
        assert select.select([connection.fileno()], [], [], PATIENCE_S)[0]
        connection.pgconn.get_result()
        connection.pgconn.get_result()


def test_a_killed_run_leaves_no_server_behind(tmp_path: Path) -> None:
    script = (
        "import sys, tests.postgres\n"
        "with tests.postgres.PostgresServer() as server:\n"
        "    print(server.folder, server._process.pid, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as run:
        assert run.stdout is not None
        folder, pid = run.stdout.readline().split()
        run.kill()
    end = time.monotonic() + PATIENCE_S
    while Path(folder).exists() or _is_alive(int(pid)):
        assert time.monotonic() < end
        time.sleep(0.05)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
