"""A private PostgreSQL server for tests: own folder, own port, gone at the end.

The cluster that a distribution's package starts is never touched. The server is durable
(`fsync=on`), so what it acknowledged outlives `kill()`.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from psycopg.conninfo import conninfo_to_dict

from tests.patience import PATIENCE_S
from tests.ports import draw_port

ADMIN = "postgres"
ROLE = "relay"
"""Owner of the databases that tests get: an operator's role is no superuser either."""

SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "log_line_prefix": "%m %p %d ",
}
# Waits for a word from us. If there is none, because we were killed, it does what we cannot.
_UNDERTAKER = """\
read _ && exit
kill -QUIT "$(head -1 "$1/data/postmaster.pid")" 2>/dev/null
n=0
while [ -e "$1" ] && [ $((n += 1)) -le 60 ]; do
    sleep 1  # until it has ended it may write
    rm -rf "$1"
done
"""


@functools.cache
def binaries() -> Path | None:
    """Return the folder of `initdb` and `postgres`, the newest one; None if there is none."""
    folders = [Path(found).parent for name in ("initdb",) if (found := shutil.which(name))]
    if pg_config := shutil.which("pg_config"):
        said = subprocess.run(
            [pg_config, "--bindir"], capture_output=True, text=True, timeout=PATIENCE_S
        )
        folders.append(Path(said.stdout.strip()))
    packaged = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    folders += sorted(packaged, key=_version, reverse=True)
    return next((f for f in folders if (f / "initdb").exists() and (f / "postgres").exists()), None)


def _version(folder: Path) -> int:
    return int((re.findall(r"\d+", str(folder)) or ["0"])[0])


def missing() -> str | None:
    """Say why there is no server to test with; None if there is one."""
    return None if binaries() else "needs the programs of a PostgreSQL server (initdb, postgres)"


def _unprivileged() -> pwd.struct_passwd | None:
    """Whom the server runs as: PostgreSQL refuses root. None: whoever runs the tests."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise AssertionError("no unprivileged user to run PostgreSQL as")


class PostgresServer:
    """One cluster in a temporary folder; a context manager that starts and removes it."""

    def __init__(self, **settings: str) -> None:
        """Args:  settings: of `postgresql.conf`, beside and over ours."""
        folder = binaries()
        assert folder is not None, missing()
        self._bin = folder
        self._user = _unprivileged()
        self._settings = _SETTINGS | settings
        self._process: subprocess.Popen[bytes] | None = None
        self._has_served = False  # from then on there are URLs with this port
        self.port = _free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="chatmail-postgres-"))
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        self._undertaker = subprocess.Popen(
            ["/bin/sh", "-c", _UNDERTAKER, "sh", str(self.folder)],
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._initialise()

    def _initialise(self) -> None:
        options = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", f"-U{ADMIN}"]
        made = self._popen("initdb", *options, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said = made.communicate(timeout=PATIENCE_S)[0]
        assert made.returncode == 0, said.decode()
        lines = [f"{key} = '{value}'\n" for key, value in self._settings.items()]
        with (self.folder / "data" / "postgresql.conf").open("a") as file:
            file.writelines(lines)

    def _popen(self, program: str, *arguments: str, **options: object) -> subprocess.Popen[bytes]:
        whom: dict[str, object] = {}
        if self._user is not None:
            whom = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        command = [str(self._bin / program), "-D", str(self.folder / "data"), *arguments]
        # The environment must not choose for us (PGDATA, PGPORT…).
        env = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=env | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C ends the tests, and they end the server
            **options,  # type: ignore[call-overload]
            **whom,
        )

    def __enter__(self) -> Self:
        try:
            self.start()
            self._admin(f"CREATE ROLE {ROLE} LOGIN")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the server and remove every trace of it; may be called twice."""
        self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._undertaker.poll() is None:
            self._undertaker.communicate(b"all is done\n", timeout=PATIENCE_S)

    # --- life ---------------------------------------------------------------------------------

    @property
    def log(self) -> str:
        """What the server has written to its log."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "server.log").read_text(errors="replace")
        return ""

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start a stopped or killed server and wait until it takes connections."""
        assert not self.is_running
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if not self.is_running:
                # The first tries after a kill may meet what the killed one left in shared memory.
                with (self.folder / "server.log").open("ab") as log:
                    self._process = self._popen(
                        "postgres", f"-p{self.port}", stdout=log, stderr=subprocess.STDOUT
                    )
            if not self._has_served and not self.is_running and "could not bind" in self.log:
                self.port = _free_port()  # somebody took it between the choice and the start
            with contextlib.suppress(psycopg.OperationalError):
                if self._is_ours():
                    self._has_served = True
                    return
            time.sleep(0.02)
        raise AssertionError(f"PostgreSQL did not start\n{self.log[-2000:]}")

    def _is_ours(self) -> bool:
        """Say whether the server that answers is this one, and not another test run's."""
        with self._connect() as connection:
            row = connection.execute("SHOW data_directory").fetchone()
        return row == (str(self.folder / "data"),)

    def stop(self, mode: str = "fast") -> None:
        """Stop the server if it runs: `fast` ends its sessions, `immediate` crashes them.

        `smart` waits for them, for ever if they stay.
        """
        if self._process is not None:
            self._process.send_signal(SIGNALS[mode])
            self._process.wait(PATIENCE_S)
            self._process = None

    def kill(self) -> None:
        """SIGKILL for the server and its sessions: the power cut of a server."""
        assert self._process is not None
        sessions = _children(self._process.pid)
        self._process.kill()
        for pid in sessions:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(PATIENCE_S)
        self._process = None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """While the block runs the server keeps its connections and does nothing."""
        assert self._process is not None
        pids = [self._process.pid]
        os.kill(self._process.pid, signal.SIGSTOP)  # from now on there are no new sessions
        try:
            for pid in _children(self._process.pid):
                os.kill(pid, signal.SIGSTOP)
                pids.append(pid)
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    # --- databases ------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The administrator's URL."""
        return f"postgresql://{ADMIN}@127.0.0.1:{self.port}/postgres"

    def fresh_database(self) -> str:
        """Make an empty database; returns the URL of it for its owner, who is no superuser."""
        name = f"test_{secrets.token_hex(6)}"
        self._admin(f"CREATE DATABASE {name} OWNER {ROLE}")
        return f"postgresql://{ROLE}@127.0.0.1:{self.port}/{name}"

    def drop_database(self, url: str) -> None:
        """Remove a database, whoever is connected to it."""
        self._admin(f"DROP DATABASE IF EXISTS {database_name(url)} WITH (FORCE)")

    def terminate_backends(self, url: str) -> int:
        """End all sessions of a database, by its URL or name; returns how many there were."""
        end_all = "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
        still_there = "SELECT 1 FROM pg_stat_activity WHERE pid = ANY(%s)"
        with self._connect() as connection:
            pids = [row[0] for row in connection.execute(end_all, (database_name(url),)).fetchall()]
            end = time.monotonic() + PATIENCE_S
            # They are listed for a moment after their clients have been told.
            while connection.execute(still_there, (pids,)).fetchone():
                assert time.monotonic() < end, "sessions that do not end"
                time.sleep(0.005)
            return len(pids)

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.url, autocommit=True, connect_timeout=int(PATIENCE_S))

    def _admin(self, statement: str) -> None:
        with self._connect() as connection:
            connection.execute(statement.encode())


def database_name(url: str) -> str:
    """Return the name of the database of a URL; a name is returned as it is."""
    return str(conninfo_to_dict(url)["dbname"]) if "://" in url else url


def _children(parent: int) -> list[int]:
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(file.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(file.parent.name))
    return found


def _free_port() -> int:
    """Choose a port outside the range of outgoing connections, so that it stays ours while down."""
    while True:
        port = draw_port()
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


# --- one for all tests of a run ------------------------------------------------------------------

_shared: list[PostgresServer] = []


def shared() -> PostgresServer:
    """Return the one server of this run, running: it is made at the first call."""
    if not _shared:
        _shared.append(PostgresServer().__enter__())
        atexit.register(close_shared)
    if not _shared[0].is_running:
        _shared[0].start()
    return _shared[0]


def close_shared() -> None:
    """Remove the one server, if there is one."""
    while _shared:
        _shared.pop().close()
