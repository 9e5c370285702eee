"""A relay on PostgreSQL while the database server is restarted, killed, frozen, or not there.

What was acknowledged stays, what was refused is not there, and the relay comes back by itself.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import psycopg
import pytest

from tests.e2e import wire
from tests.e2e.configured import ConfiguredRelay, running
from tests.e2e.databases import needs_postgres
from tests.e2e.ledger import Account, Ledger, Persistent, sending
from tests.e2e.mailbox import count, stored
from tests.e2e.raw import Closed, RawImap, client, newcomer, quoted
from tests.e2e.rawsmtp import RawSmtp, plain, submitter
from tests.e2e.relay import COMMAND, Relay, wait_until
from tests.e2e.stopwatch import Stopwatch
from tests.e2e.web import Web
from tests.pace import slowdown
from tests.postgres import PostgresServer

pytestmark = needs_postgres

PASSWORD = "never-shown-anywhere"
"""The server asks for none; nobody may print it all the same."""
HEAL_S = 60
"""The longest pause between two attempts to reconnect is 5 s."""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server that tests may stop; a test leaves it running."""
    with PostgresServer() as server:
        yield server


def with_password(url: str) -> str:
    return url.replace("@", f":{PASSWORD}@", 1)


@contextlib.contextmanager
def running_on(server: PostgresServer, folder: Path) -> Iterator[ConfiguredRelay]:
    """A relay on a fresh database: it may not crash, and it may not tell what is private."""
    url = server.fresh_database()
    relay = ConfiguredRelay(folder, database=with_password(url))
    try:
        relay.start()
        yield relay
        assert relay.stop() == 0, "\n".join(relay.errors[-20:])
        said = "\n".join(relay.errors)
        assert "Traceback" not in said
        assert PASSWORD not in said
        assert "postgresql://" not in said
    finally:
        if relay.process is not None and relay.process.poll() is None:
            relay.kill()
        if not server.is_running:
            server.start()
        server.drop_database(url)


@pytest.fixture
def relay(server: PostgresServer, tmp_path: Path) -> Iterator[ConfiguredRelay]:
    with running_on(server, tmp_path / "relay") as relay:
        yield relay


class Reader(threading.Thread):
    """A device that is in IDLE whenever it can be, and believes what it is told."""

    def __init__(self, relay: Relay, account: Account) -> None:
        super().__init__()
        self.told = 0
        self.goodbyes = 0
        self.problem: AssertionError | None = None
        self._relay = relay
        self._account = account
        self._over = threading.Event()
        self._raw: RawImap | None = None

    def run(self) -> None:
        try:
            while not self._over.is_set():
                with contextlib.suppress(Closed, OSError):
                    self._session()
                self._over.wait(0.05)
        except AssertionError as problem:
            self.problem = problem

    def _session(self) -> None:
        with RawImap(self._relay) as raw:
            self._raw = raw
            raw.greet()
            address, password = self._account
            answer = raw.run(f"LOGIN {quoted(address)} {quoted(password)}")
            if not answer.is_ok:
                assert b" NO [UNAVAILABLE] " in answer.tagged, "alarms nobody about a password"
                return
            self._believe(raw.select().lines)
            raw.send(raw.tag() + b" IDLE\r\n")
            while True:
                self._believe([raw.idle_line()])

    def _believe(self, lines: list[bytes]) -> None:
        for line in lines:
            if line.startswith(b"* BYE"):
                assert b"[UNAVAILABLE]" in line
                self.goodbyes += 1
            elif line.endswith(b" EXISTS"):
                number = int(line.split()[1])
                assert number >= self.told, "what was there is there"
                self.told = number

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End; raises what went wrong."""
        self._over.set()
        if self._raw is not None:
            with contextlib.suppress(OSError):
                self._raw.socket.shutdown(2)
        self.join(40)
        if self.problem is not None:
            raise self.problem


def _restart(server: PostgresServer, _: str) -> None:
    server.stop("fast")
    server.start()


def _kill(server: PostgresServer, _: str) -> None:
    server.kill()
    server.start()


def _terminate(server: PostgresServer, url: str) -> None:
    assert server.terminate_backends(url) >= 1


# --- under load ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("end", "times"), [(_restart, 5), (_kill, 5), (_terminate, 15)])
def test_nothing_is_lost_or_doubled_when_the_database_goes(
    server: PostgresServer,
    relay: ConfiguredRelay,
    end: Callable[[PostgresServer, str], None],
    times: int,
) -> None:
    recipients, ledger = [newcomer(relay) for _ in range(2)], Ledger()
    senders = [newcomer(relay) for _ in range(4)]
    clients = [Persistent(relay, sender, recipients, ledger) for sender in senders]
    with Reader(relay, recipients[0]) as reader:
        with sending(clients):
            for _ in range(times):
                goal = len(ledger.acknowledged) + 25
                wait_until("mail flows", lambda g=goal: len(ledger.acknowledged) >= g)
                end(server, relay.database)
            goal = len(ledger.acknowledged) + 25
            wait_until("mail flows again", lambda: len(ledger.acknowledged) >= goal)
        total = len(stored(relay, recipients[0]))
        wait_until("the reader was told of all", lambda: reader.told == total, HEAL_S)
    copies = ledger.check_all(relay, recipients)
    print(f"{len(ledger.acknowledged)} acknowledged, {copies} copies, {dict(ledger.refusals)}")
    print(f"{ledger.lost.total()} answers lost, {reader.goodbyes} times BYE")
    codes = {reply.split()[0] for reply in ledger.refusals}
    assert codes <= {"421", "451", "452", "454"}
    for address, _ in (*recipients, *senders):
        assert address.partition("@")[0] not in server.log, "the server's log names nobody"
    assert relay.stop() == 0, "it has lived through it all"
    relay.start()
    assert ledger.check_all(relay, recipients) == copies


def test_sessions_cut_at_any_instant_lose_and_double_nothing(
    server: PostgresServer, relay: ConfiguredRelay
) -> None:
    """Connections end so often that COMMITs are hit whose answer never comes."""
    recipients, ledger = [newcomer(relay) for _ in range(2)], Ledger()
    senders = [newcomer(relay) for _ in range(4)]
    cuts, end = 0, time.monotonic() + 10
    with sending([Persistent(relay, sender, recipients, ledger) for sender in senders]):
        while time.monotonic() < end or min(cuts, len(ledger.acknowledged)) <= 20:
            goal = len(ledger.attempted) + 1
            wait_until("more is on its way", lambda g=goal: len(ledger.attempted) >= g)
            time.sleep(random.uniform(0, 0.03))
            cuts += server.terminate_backends(relay.database)
    copies = ledger.check_all(relay, recipients)
    acknowledged = len(ledger.acknowledged)
    print(f"{cuts} cuts, {acknowledged} acknowledged, {copies} copies, {dict(ledger.refusals)}")
    assert cuts > 20
    assert acknowledged > 20


# --- while it is away ----------------------------------------------------------------------------


def test_everything_asks_to_come_back_while_the_database_is_down(
    server: PostgresServer, relay: ConfiguredRelay
) -> None:
    alice, bob = newcomer(relay), newcomer(relay)
    octets = wire.encrypted(alice[0])[1]
    web, local = Web(relay), Web(relay, "http")
    with contextlib.ExitStack() as stack:
        smtp = stack.enter_context(submitter(relay, alice))
        idler, appender, storer = (
            stack.enter_context(client(relay, bob, "INBOX")) for _ in range(3)
        )
        assert smtp.submit(alice[0], [bob[0]], octets).code == 250
        idler.ok("NOOP")
        storer.ok("NOOP")
        tag = idler.idle()
        server.stop()

        stopwatch = Stopwatch(relay)
        stopwatch.start()
        assert _submits(smtp, alice, bob, octets) == 451
        assert _submits(smtp, alice, bob, octets) == 451, "the session goes on"
        refused = _until_closed(appender, b"APPEND INBOX {%d+}\r\n%b" % (len(octets), octets))
        assert b"OK" not in refused
        assert b"[UNAVAILABLE]" in refused
        told = _until_closed(storer, b"UID STORE 1 +FLAGS (\\Seen)")
        assert b"* BYE [UNAVAILABLE]" in told, "clients take a NO for success"
        assert b" OK " not in told
        with RawImap(relay) as stranger:
            stranger.greet()
            address, password = relay.credentials()
            refused = stranger.refused(f"LOGIN {quoted(address)} {quoted(password)}")
            assert refused.startswith(b"NO [UNAVAILABLE]")
        with RawSmtp(relay).secure() as stranger_smtp:
            reply = stranger_smtp.command(b"AUTH PLAIN " + plain(*relay.credentials()))
            assert reply.code in (421, 451, 454)
        assert web.post("/new").status == 503
        assert local.get("/livez").status == 200
        assert local.get("/readyz").status == 503
        assert stopwatch.elapsed_s() < 30, "nobody waits for what is not there"

        used = relay.cpu_s()
        waited = time.monotonic()
        while time.monotonic() < waited + 2:
            assert local.get("/livez").status == 200
            time.sleep(0.2)
        assert relay.cpu_s() - used < slowdown(), "it waits for the server without spinning"

        server.start()
        wait_until("mail is taken again", lambda: _submits(smtp, alice, bob, octets) == 250, HEAL_S)
        wait_until("it is ready", lambda: local.get("/readyz").status == 200, HEAL_S)
        assert web.post("/new").status in (200, 201)
        wire.imap(relay, *relay.credentials()).logout()
        line = idler.idle_line()
        assert line == b"* 2 EXISTS" or line.startswith(b"* BYE [UNAVAILABLE]")
        if line == b"* 2 EXISTS":
            idler.done(tag)
    assert count(relay, bob) == 2
    with client(relay, bob, "INBOX") as raw:
        assert raw.ok("UID FETCH 1 (FLAGS)").lines == [b"* 1 FETCH (UID 1 FLAGS ())"]


def _submits(smtp: RawSmtp, sender: Account, recipient: Account, octets: bytes) -> int:
    for line in (f"MAIL FROM:<{sender[0]}>", f"RCPT TO:<{recipient[0]}>", "DATA"):
        reply = smtp.command(line)
        if reply.code not in (250, 354):
            assert smtp.command("RSET").code == 250
            return reply.code
    return smtp.content(octets).code


def _until_closed(raw: RawImap, command: bytes) -> bytes:
    """Return what a command is told: up to its tagged answer, or to the end."""
    tag = raw.tag()
    raw.send(tag + b" " + command + b"\r\n")
    told = b""
    with contextlib.suppress(Closed):
        while not told.rpartition(b"\r\n")[0].rpartition(b"\r\n")[2].startswith(tag):
            told += raw.line()
    return told


def test_a_frozen_database_holds_up_nobody_who_does_not_need_it(
    server: PostgresServer, relay: ConfiguredRelay
) -> None:
    alice, bob = newcomer(relay), newcomer(relay)
    message_id, octets = wire.encrypted(alice[0])
    replies: list[int] = []
    with submitter(relay, alice) as smtp, client(relay, bob, "INBOX") as raw:
        assert smtp.envelope(alice[0], [bob[0]]).code == 354
        submission = threading.Thread(target=lambda: replies.append(smtp.content(octets).code))
        stopwatch = Stopwatch(relay)
        with server.frozen():
            submission.start()
            end = time.monotonic() + 3
            while time.monotonic() < end:
                stopwatch.start()
                raw.ok("CAPABILITY")
                assert Web(relay, "http").get("/livez").status == 200
                assert stopwatch.elapsed_s() < 1
            assert replies == []
        submission.join(60)
        assert replies == [250]
    assert [found for _, found in stored(relay, bob)] == [message_id]


def test_news_of_the_other_process_survive_a_lost_connection(
    server: PostgresServer, tmp_path: Path
) -> None:
    """What is announced while nobody listens is found at the reconnection, not at the next poll."""
    with (
        running_on(server, tmp_path / "a") as a,
        running(tmp_path / "b", database=a.database) as b,
    ):
        account, sender, ledger = newcomer(a), a.credentials(), Ledger()
        with client(b, account, "INBOX") as raw:
            for wanted in range(1, 6):
                server.terminate_backends(a.database)
                with sending([Persistent(a, sender, [account], ledger)], messages=1):
                    pass
                began = time.monotonic()
                wait_until("b has heard", lambda n=wanted: _exists(raw) >= n, HEAL_S)
                print(f"heard after {time.monotonic() - began:.2f} s")
            assert len(stored(b, account)) == _exists(raw)
        ledger.check(stored(b, account))


def _exists(raw: RawImap) -> int:
    """Return how many messages a session knows after a NOOP."""
    raw.ok("NOOP")
    return len(raw.ok("FETCH 1:* (UID)").untagged)


# --- starting ------------------------------------------------------------------------------------


def _start(folder: Path, url: str, env: dict[str, str] | None = None) -> str:
    """Try to start a relay that cannot; returns the one line it says."""
    relay = Relay(folder, database=url, env=env or {})
    relay.choose_ports()
    relay.write_config()
    said = subprocess.run(
        [*COMMAND, "serve", "--config", str(relay.config)],
        cwd=folder,
        env={**os.environ, **relay.env},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert said.returncode == 1, said
    assert said.stdout == ""
    assert "Traceback" not in said.stderr
    assert PASSWORD not in said.stderr
    lines = said.stderr.splitlines()
    assert len(lines) == 1, said.stderr
    return lines[0]


def test_a_server_that_is_down_at_the_start_is_one_clear_line(
    server: PostgresServer, tmp_path: Path
) -> None:
    url = with_password(server.fresh_database())
    server.stop()
    try:
        line = _start(tmp_path / "relay", url)
        assert "database" in line
        assert str(server.port) in line or "127.0.0.1" in line
    finally:
        server.start()
    with running(tmp_path / "relay", database=url) as relay:
        newcomer(relay)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        pytest.param(("/test_", "/missing_"), "missing_", id="database"),
        pytest.param(("//relay", "//nobody"), "nobody", id="role"),
        pytest.param(("postgresql:", "mysql:"), "database.url", id="scheme"),
        pytest.param((re.compile(r":\d+/"), ":port/"), "database.url", id="port"),
    ],
)
def test_a_wrong_url_is_one_clear_line(
    server: PostgresServer, tmp_path: Path, wrong: tuple[str | re.Pattern[str], str], named: str
) -> None:
    old, new = wrong
    url = server.fresh_database()
    url = old.sub(new, url) if isinstance(old, re.Pattern) else url.replace(old, new)
    assert named in _start(tmp_path / "relay", with_password(url))


def test_a_missing_driver_is_named(server: PostgresServer, tmp_path: Path) -> None:
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    (shadow / "psycopg.py").write_text("raise ImportError('not installed')\n")
    path = os.pathsep.join([str(shadow), os.environ.get("PYTHONPATH", "")])
    line = _start(tmp_path / "relay", server.fresh_database(), env={"PYTHONPATH": path})
    assert "postgresql" in line
    assert "install" in line


def test_a_database_of_a_newer_program_is_refused(server: PostgresServer, tmp_path: Path) -> None:
    url = server.fresh_database()
    with running(tmp_path / "relay", database=url) as relay:
        newcomer(relay)
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE schema_version SET version = version + 1000")
    assert "newer" in _start(tmp_path / "relay", url)
