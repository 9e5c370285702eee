"""Starts the installed program as its users do, and speaks to it over real sockets."""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import signal
import socket
import string
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from tests.e2e import databases
from tests.patience import PATIENCE_S
from tests.ports import draw_port

COMMAND = [sys.executable, "-m", "chatmail"]
START_S = 3 * PATIENCE_S
"""Two seconds of a processor, which others may have, and may have to compile first."""
FACES = ("smtp", "submission", "submissions", "imap", "imaps", "http", "https")

_CONFIG = """\
[server]
ip = "127.0.0.1"
hostname = "127.0.0.1"
state_dir = "state"
[listen]
smtp = ["127.0.0.1:0"]
submission = ["127.0.0.1:0"]
submissions = ["127.0.0.1:0"]
imap = ["127.0.0.1:0"]
imaps = ["127.0.0.1:0"]
http = ["127.0.0.1:0"]
https = ["127.0.0.1:0"]
turn = []
[limits]
send_rate_per_minute = {rate}
[registration]
max_load_1m = 0
min_free_disk_space = 0
{registration}
[tls]
mode = "self-signed"
"""


class PortTaken(AssertionError):
    """The relay ended since somebody else listens on its port."""


class LogPipe:
    """What a process writes to its log, line by line.

    A thread reads it, so that the process never waits for us. Whoever asks for the lines reads what
    the thread has not come to: a line that was written before an answer is there with the answer.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._partial = b""
        self._reading = threading.Lock()
        self._pipe: TextIO | None = None
        self._thread: threading.Thread | None = None

    def follow(self, pipe: TextIO) -> None:
        """Read a pipe to its end, and close it."""
        self._pipe = pipe
        self._thread = threading.Thread(target=self._follow, args=(pipe,))
        self._thread.start()

    def lines(self) -> list[str]:
        """Return all lines up to now: the list itself, to be cleared by who has seen them."""
        with self._reading:
            if self._pipe is not None:
                while _has_input(self._pipe) and self._read(self._pipe):
                    pass
        return self._lines

    def join(self) -> None:
        """Wait for the end of the pipe."""
        if self._thread is not None:
            self._thread.join(PATIENCE_S)

    def _follow(self, pipe: TextIO) -> None:
        is_open = True
        while is_open:
            _has_input(pipe, None)
            with self._reading:
                # Somebody else may have read what there was.
                is_open = not _has_input(pipe) or self._read(pipe)
        with self._reading:
            self._pipe = None
            pipe.close()

    def _read(self, pipe: TextIO) -> bool:
        """Take over what waits in the pipe; False: that was its end."""
        octets = os.read(pipe.fileno(), 65536)
        *whole, self._partial = (self._partial + octets).split(b"\n")
        if not octets and self._partial:
            whole, self._partial = [self._partial], b""
        self._lines.extend(line.decode(errors="replace").rstrip() for line in whole)
        return bool(octets)


def _has_input(pipe: TextIO, timeout_ms: int | None = 0) -> bool:
    """Say whether there is something to read, be it the end; None waits for it."""
    poll = select.poll()  # a descriptor may be larger than select(2) takes
    poll.register(pipe, select.POLLIN)
    return bool(poll.poll(timeout_ms))


@dataclass
class Relay:
    """One relay process on loopback, and its state in `folder`.

    The ports stay the same over `restart`, as clients expect of a server.
    `database`: URL; if empty it is chosen at the first start, as the environment says.
    """

    folder: Path
    rate: int = 0
    registration: str = ""
    database: str = ""
    env: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None
    ports: dict[str, int] = field(default_factory=dict)
    _log: LogPipe = field(default_factory=LogPipe)
    _was_told: bool = False

    @property
    def domain(self) -> str:
        return "[127.0.0.1]"

    @property
    def errors(self) -> list[str]:
        """All lines the relay has written to its log before this moment."""
        return self._log.lines()

    @property
    def config(self) -> Path:
        return self.folder / "chatmail.toml"

    def choose_ports(self) -> None:
        """Choose ports that nobody else takes while the relay is down."""
        taken = set(self.ports.values())
        for face in FACES:
            while face not in self.ports:
                port = free_port()
                if port not in taken:
                    taken.add(port)
                    self.ports[face] = port

    def write_config(self) -> None:
        text = _CONFIG.format(rate=self.rate, registration=self.registration)
        for face, port in self.ports.items():
            text = text.replace(f'\n{face} = ["127.0.0.1:0"]', f'\n{face} = ["127.0.0.1:{port}"]')
        if self.database:
            text += f'[database]\nurl = "{self.database}"\n'
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(text)
        self.config.chmod(0o640)  # the URL may hold a password

    def start(self) -> Relay:
        """Start it and wait until it is ready.

        Ports of a first start are only chosen, not held: if somebody took one, others are chosen.
        """
        chosen = dict(self.ports)
        for attempts_left in (2, 1, 0):
            self.choose_ports()
            try:
                return self._start()
            except PortTaken:
                if not attempts_left or len(chosen) == len(self.ports):
                    raise
                self.ports = dict(chosen)
                self.errors.clear()
        raise AssertionError("not reached")

    def _start(self) -> Relay:
        self.database = self.database or databases.fresh_url()
        self.write_config()
        self._was_told = False
        self.process = subprocess.Popen(
            [*COMMAND, "serve", "--config", str(self.config)],
            cwd=self.folder,
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self._log.follow(self.process.stderr)
        line = self._read_ready(self.process)
        self.ports = parse_ready(line)
        return self

    def _read_ready(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        timer = threading.Timer(START_S, process.kill)
        timer.start()
        try:
            line = process.stdout.readline()
        finally:
            timer.cancel()
        if not line.startswith("chatmail ready"):
            process.kill()
            process.wait()
            self._close_pipes()
            said = f"not ready: {line!r}\n" + "\n".join(self.errors)
            raise PortTaken(said) if "is already in use" in said else AssertionError(said)
        return line

    def kill(self) -> None:
        """SIGKILL: the power cut of a process."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE_S)
        self._close_pipes()

    def tell_to_stop(self) -> None:
        """SIGTERM, once: a second one would end the process at once."""
        assert self.process is not None
        self._was_told = True
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """SIGTERM unless it was told; returns the exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            if not self._was_told:
                self.tell_to_stop()
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(PATIENCE_S)
                raise
        self._close_pipes()
        return self.process.returncode

    def _close_pipes(self) -> None:
        assert self.process is not None
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._log.join()

    def restart(self) -> None:
        self.stop()
        self.start()

    def lose_account(self, address: str) -> None:
        """Rename an account in the stopped relay's database, so that nobody has the address."""
        self.stop()
        with self.rows() as db:
            changed = db.execute(
                "UPDATE accounts SET address = 'gone@gone.test' WHERE address = ?", (address,)
            )
            assert changed.rowcount == 1
        self.start()

    def rows(self) -> contextlib.AbstractContextManager[databases.Rows]:
        """Open the relay's database, to read it or, while the relay is down, to change it."""
        return databases.rows(self.folder / "state", self.database)

    def cpu_s(self) -> float:
        """CPU seconds the process has used."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def credentials(self) -> tuple[str, str]:
        """A new address and a password that JIT accepts."""
        name = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(9))
        return f"{name}@{self.domain}", secrets.token_urlsafe(17)[:22]


def free_port() -> int:
    """Choose a port that nobody has, and no outgoing connection takes."""
    while True:
        port = draw_port()
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def parse_ready(line: str) -> dict[str, int]:
    """Return face → port of a ready line; several addresses of one face: the last one."""
    ports = {}
    for pair in line.split()[2:]:
        face, _, address = pair.partition("=")
        ports[face] = int(address.rpartition(":")[2])
    return ports


def wait_until(what: str, condition: object, timeout_s: float = PATIENCE_S) -> None:
    """Poll until `condition()` is true; for facts that no event announces."""
    assert callable(condition)
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if condition():
                return
        time.sleep(0.02)
    raise AssertionError(f"timed out waiting until {what}")
