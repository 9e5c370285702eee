"""Hostile clients in a process of their own, lowest priority: they cost the relay, not the tests.

`python -m tests.e2e.hostile ATTACK PORT ADDRESS PASSWORD` waits for lines on its input: `go` opens
connections and begins, `stop` ends and closes them all. Each is answered by `done`. A connection
that the relay closes is opened again, as fast as that goes.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator

TIMEOUT_S = 60.0
PAUSE_S = 0.05
"""Before a connection that was closed or refused is opened again."""


class Over(Exception):
    """The attack was stopped."""


class Connection:
    """One session of the attacker, logged in."""

    def __init__(self, attacker: Attacker, buffer_octets: int = 0) -> None:
        self._attacker = attacker
        raw = socket.socket()
        if buffer_octets:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_octets)
        raw.settimeout(TIMEOUT_S)
        attacker.adopt(raw)
        raw.connect(("127.0.0.1", attacker.port))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.socket = context.wrap_socket(raw)
        attacker.adopt(self.socket)
        self._buffer = b""
        self.line()

    def line(self) -> bytes:
        """The next line."""
        while b"\n" not in self._buffer:
            self._buffer += self.take()
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def take(self) -> bytes:
        """Some octets. Raises OSError at the end."""
        if self._attacker.is_over.is_set():
            raise Over
        if not (octets := self.socket.recv(65536)):
            raise ConnectionError
        return octets

    def send(self, octets: bytes) -> None:
        """Send octets."""
        if self._attacker.is_over.is_set():
            raise Over
        self.socket.sendall(octets)

    def run(self, command: bytes) -> bytes:
        """Send a command; returns the tagged line."""
        self.send(b"X " + command + b"\r\n")
        while not (line := self.line()).startswith(b"X "):
            pass
        return line

    def log_in(self, mailbox: bytes = b"INBOX") -> Connection:
        """LOGIN and SELECT. Raises ConnectionError if that is refused."""
        attacker = self._attacker
        if not self.run(b'LOGIN "%b" "%b"' % (attacker.address, attacker.password)).startswith(
            b"X OK"
        ):
            raise ConnectionError
        self.run(b"SELECT " + mailbox)
        return self

    def wait(self) -> None:
        """Do nothing until the attack is over."""
        self._attacker.is_over.wait()
        raise Over


class Attacker:
    """All connections of one attack."""

    def __init__(self, attack: str, port: int, address: str, password: str) -> None:
        self.port = port
        self.address = address.encode()
        self.password = password.encode()
        self.is_over = threading.Event()
        self._attack, self._count = ATTACKS[attack]
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def adopt(self, connection: socket.socket) -> None:
        """Close this socket when the attack is over."""
        self._sockets.append(connection)

    def go(self) -> None:
        """Begin."""
        self.is_over.clear()
        self._threads = [threading.Thread(target=self._again) for _ in range(self._count)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, and have every connection closed."""
        self.is_over.set()
        for connection in self._sockets:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for connection in self._sockets:
            connection.close()
        self._sockets.clear()

    def _again(self) -> None:
        while not self.is_over.is_set():
            try:
                self._attack(self)
            except Over:
                return
            except OSError:
                self.is_over.wait(PAUSE_S)


# --- the attacks ---------------------------------------------------------------------------------


def slow_reader(attacker: Attacker) -> None:
    """Asks for the largest message, many times over, and does not read."""
    session = Connection(attacker, 4096).log_in(b"Large")
    session.send(b"X UID FETCH 1 BODY.PEEK[]\r\n" * 100)
    session.wait()


def endless_literal(attacker: Attacker) -> None:
    """Messages of the largest size that the gate refuses, and literals nobody asked for."""
    session = Connection(attacker).log_in()
    chunk = b"A NOOP\r\n" * 8192
    while True:
        for opening in (b"X APPEND INBOX {31000000+}\r\n", b"X SELECT {31000000+}\r\n"):
            session.send(opening)
            for _ in range(31_000_000 // len(chunk)):
                session.send(chunk)
            session.send(chunk[: 31_000_000 % len(chunk)] + b"\r\n")
            while not session.line().startswith(b"X "):
                pass


def _drain(session: Connection) -> None:
    with contextlib.suppress(OSError, Over):
        while True:
            session.take()


def pipelined_fetch(attacker: Attacker) -> None:
    """A thousand commands in one go, all answers read."""
    session = Connection(attacker).log_in()
    reader = threading.Thread(target=_drain, args=(session,))
    reader.start()
    try:
        while True:
            session.send(b"X FETCH 1:* (FLAGS UID RFC822.SIZE ENVELOPE)\r\n" * 1000)
    finally:
        reader.join()


def bomb(attacker: Attacker) -> None:
    """256 MiB of zeros in 256 KiB."""
    session = Connection(attacker).log_in()
    session.run(b"COMPRESS DEFLATE")
    session.send(_BOMB)
    _drain(session)
    raise ConnectionError


def compressed_flood(attacker: Attacker) -> None:
    """As many commands as the bomb guard lets through, answers read."""
    session = Connection(attacker).log_in()
    session.run(b"COMPRESS DEFLATE")
    compressor = zlib.compressobj(wbits=-15)
    reader = threading.Thread(target=_drain, args=(session,))
    reader.start()
    try:
        number = 0
        while True:
            batch = bytearray()
            for _ in range(2000):
                number += 1
                batch += b"%d NOOP\r\n" % number
            session.send(compressor.compress(batch) + compressor.flush(zlib.Z_SYNC_FLUSH))
    finally:
        reader.join()


def many_sessions(attacker: Attacker) -> None:
    """Logs in and waits in IDLE; is refused most of the time, and comes again."""
    session = Connection(attacker).log_in()
    session.send(b"X IDLE\r\n")
    attacker.is_over.wait(0.5)
    raise ConnectionError


def search_bodies(attacker: Attacker) -> None:
    """Looks for what is in no message, in all of them."""
    session = Connection(attacker).log_in()
    while True:
        session.run(b'SEARCH OR BODY "nowhere at all" TEXT "nor here"')


_BOMB = (
    (lambda deflate: deflate.compress(bytes(256 << 20)) + deflate.flush())(
        zlib.compressobj(9, wbits=-15)
    )
    if "bomb" in sys.argv
    else b""
)

ATTACKS: dict[str, tuple[Callable[[Attacker], None], int]] = {
    "slow_reader": (slow_reader, 20),
    "endless_literal": (endless_literal, 8),
    "pipelined_fetch": (pipelined_fetch, 8),
    "bomb": (bomb, 8),
    "compressed_flood": (compressed_flood, 8),
    "many_sessions": (many_sessions, 100),
    "search_bodies": (search_bodies, 8),
}


def commands() -> Iterator[str]:
    """What is to be done, line by line."""
    for line in sys.stdin:
        yield line.strip()


def main() -> None:
    """Serve the commands on standard input."""
    os.nice(19)
    attack, port, address, password = sys.argv[1:]
    attacker = Attacker(attack, int(port), address, password)
    for command in commands():
        if command == "go":
            attacker.go()
            time.sleep(0.3)
        else:
            attacker.stop()
        print("done", flush=True)
    attacker.stop()


if __name__ == "__main__":
    main()
