"""A listening socket on which tests speak a protocol themselves."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import BinaryIO, Self

from tests.patience import PATIENCE_S


class Listener:
    """A listening socket with a thread for each connection; `serve` speaks on one."""

    def __init__(self, address: str, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((address, port))
        self._socket.listen(64)
        self.address, self.port = address, port
        self.connections = 0
        self.stalls = 0  # how often it began to
        self.waits_s: list[float] = []  # how long the other side stayed where a script stalls
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._is_closed = False
        self._owed = 0
        self._nothing_owed = threading.Condition()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Refuse connections from now on, and break those there are once nothing is owed."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        # Closed only then: its number may be another socket's by the time it is listened to.
        self._thread.join(PATIENCE_S)
        self._socket.close()
        with self._nothing_owed:
            self._nothing_owed.wait_for(lambda: not self._owed, PATIENCE_S)
        with self._lock:
            self._is_closed = True
            for connection in self._open:
                _break(connection)

    @contextlib.contextmanager
    def owing(self) -> Iterator[None]:
        """What a test sees arrive in here gets its answer, even if the test ends at that sight."""
        with self._nothing_owed:
            self._owed += 1
        try:
            yield
        finally:
            with self._nothing_owed:
                self._owed -= 1
                self._nothing_owed.notify_all()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._guard, args=(connection,), daemon=True).start()

    def _guard(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE_S)
        self._keep(connection)
        with connection, contextlib.suppress(OSError, EOFError, ValueError):
            self.serve(connection)
        with self._lock:
            self._open = {other for other in self._open if other.fileno() >= 0}

    def _keep(self, connection: socket.socket) -> None:
        """Have `close` break a connection; one whose thread comes late is broken here."""
        with self._lock:
            self._open.add(connection)
            if self._is_closed:
                _break(connection)

    def serve(self, connection: socket.socket) -> None:
        """Speak on one connection."""
        raise NotImplementedError

    def stall(self, connection: socket.socket | BinaryIO) -> None:
        """Neither read nor write from here on, and note how long the other side waits."""
        poll, since = select.poll(), time.monotonic()
        poll.register(connection, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        self.stalls += 1
        if poll.poll(PATIENCE_S * 1000):
            self.waits_s.append(time.monotonic() - since)

    def secure(
        self, connection: socket.socket, context: ssl.SSLContext
    ) -> tuple[socket.socket, str | None]:
        """Do a handshake; returns the TLS socket and the name that was asked for."""
        names: list[str | None] = []

        def note(_socket: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
            names.append(name)

        context.sni_callback = note
        wrapped = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self._keep(wrapped)
        try:
            wrapped.do_handshake()
        except OSError:
            wrapped.close()
            raise
        return wrapped, names[0] if names else None


def _break(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # Not the method of TLS sockets: it takes their state from under whoever speaks.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
