"""Thousands of IMAP clients in one process: they log in, select INBOX, idle, and come back.

Plain epoll over non-blocking TLS sockets: the crowd has to cost less than the relay it measures.
"""

from __future__ import annotations

import collections
import errno
import heapq
import multiprocessing
import random
import select
import socket
import ssl
import time
import zlib
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any, Final

import attrs

FIRST_RETRY_S: Final = 0.1
LONGEST_RETRY_S: Final = 2.0
GIVE_UP_S: Final = 60.0
"""After this long without an answer a client begins anew, as core does."""


@attrs.frozen(kw_only=True)
class Plan:
    """Who comes where. `accounts`: (address, password), dealt out to the clients in turn."""

    port: int
    accounts: tuple[tuple[str, str], ...]
    clients: int
    compress: bool
    at_once: int


class Idler:
    """One client. `refusals`: times it was let down between a connection and IDLE."""

    def __init__(self, crowd: Crowd, place: int) -> None:
        self._crowd = crowd
        self.place = place
        address, password = crowd.plan.accounts[place % len(crowd.plan.accounts)]
        script = [b"", b'l LOGIN "%b" "%b"' % (address.encode(), password.encode())]
        if crowd.plan.compress:
            script.append(b"c COMPRESS DEFLATE")
        self._script = [*script, b"s SELECT INBOX", b"i IDLE"]
        self.refusals = 0
        self._retry_s = FIRST_RETRY_S
        self._socket: socket.socket | None = None
        self.is_idle = False

    def connect(self) -> None:
        """Begin."""
        plain = socket.socket()
        plain.setblocking(False)
        code = plain.connect_ex(("127.0.0.1", self._crowd.plan.port))
        if code not in (0, errno.EINPROGRESS):
            plain.close()
            self._crowd.again(self, self._next_retry())
            return
        self._socket = plain
        self._steps = iter(self._script)
        self._step = b""
        self._is_connected = self._is_shaken = False
        self._buffer = b""
        self._inflate: Any = None
        self._deflate: Any = None
        self._begun_s = time.monotonic()
        self._crowd.watch(self, self._socket.fileno(), select.EPOLLOUT)

    def look(self) -> None:
        """Go on as far as possible."""
        assert self._socket is not None
        try:
            if not self._is_connected:
                code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    self._part(is_refusal=code != errno.ECONNREFUSED)
                    return
                self._is_connected = True
                self._crowd.want(self._socket.fileno(), select.EPOLLIN)
                self._socket = self._crowd.tls.wrap_socket(
                    self._socket, do_handshake_on_connect=False
                )
            if not self._is_shaken:
                assert isinstance(self._socket, ssl.SSLSocket)
                self._socket.do_handshake()
                self._is_shaken = True
                self._next()
            for line in self._lines():
                self._hear(line)
        except ssl.SSLWantReadError:
            return
        except ssl.SSLWantWriteError:
            self._crowd.want(self._socket.fileno(), select.EPOLLOUT | select.EPOLLIN)
        except (OSError, EOFError) as error:
            self._part(is_refusal=not self.is_idle, how=type(error).__name__)

    def check(self, now_s: float) -> None:
        """Give up on an answer that does not come."""
        if self._socket is not None and not self.is_idle and now_s - self._begun_s > GIVE_UP_S:
            self._part(is_refusal=True, how="gave up")

    def forget(self) -> None:
        """Begin a new count."""
        self.refusals = 0
        self._retry_s = FIRST_RETRY_S

    def _lines(self) -> Iterator[bytes]:
        assert self._socket is not None
        while True:
            octets = self._socket.recv(4096)
            if not octets:
                raise EOFError
            if self._inflate is not None:
                octets = self._inflate.decompress(octets)
            *lines, self._buffer = (self._buffer + octets).split(b"\r\n")
            yield from lines

    def _hear(self, line: bytes) -> None:
        if self.is_idle:
            if line.endswith(b" EXISTS"):
                self._crowd.told.append((time.monotonic(), self.place))
            elif line.startswith(b"* BYE"):
                self._crowd.byes += 1
        elif line.startswith(b"* BYE"):
            raise EOFError
        elif not self._step:
            self._next()  # the greeting
        elif self._step.startswith(b"i "):
            if line.startswith(b"+"):
                self.is_idle = True
                self._crowd.arrived(self)
        elif line.startswith(self._step[:2]):
            if not line.startswith(self._step[:2] + b"OK"):
                raise EOFError
            if self._step.startswith(b"c "):
                self._inflate = zlib.decompressobj(-15)
                self._deflate = zlib.compressobj(wbits=-15)
            self._next()

    def _next(self) -> None:
        assert self._socket is not None
        self._step = next(self._steps)
        if self._step:
            octets = self._step + b"\r\n"
            if self._deflate is not None:
                octets = self._deflate.compress(octets) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
            self._socket.sendall(octets)

    def _part(self, *, is_refusal: bool, how: str = "") -> None:
        assert self._socket is not None
        if is_refusal:
            step = self._step.decode()[:1] if self._is_shaken else "handshake"
            self._crowd.reasons[f"{how} in {step or 'greeting'}"] += 1
        self._crowd.unwatch(self._socket.fileno())
        self._socket.close()
        self._socket = None
        self.refusals += is_refusal
        self._crowd.left(self)
        self.is_idle = False
        self._crowd.again(self, self._next_retry())

    def _next_retry(self) -> float:
        wait_s = self._retry_s
        self._retry_s = min(2 * wait_s, LONGEST_RETRY_S)
        return wait_s * random.uniform(0.7, 1.3)


class Crowd:
    """All clients of one process."""

    def __init__(self, plan: Plan, orders: Connection) -> None:
        self.plan = plan
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.tls.check_hostname = False
        self.tls.verify_mode = ssl.CERT_NONE
        self.told: list[tuple[float, int]] = []
        self.byes = 0
        self.reasons: collections.Counter[str] = collections.Counter()
        self._orders = orders
        self._epoll = select.epoll()
        self._epoll.register(orders.fileno(), select.EPOLLIN)
        self._by_fd: dict[int, Idler] = {}
        self._later: list[tuple[float, int, Idler]] = []
        self._idlers = [Idler(self, place) for place in range(plan.clients)]
        self._waiting = collections.deque(self._idlers)
        self._idle = 0
        self._arrivals: list[float] = []

    def watch(self, idler: Idler, fd: int, events: int) -> None:
        self._by_fd[fd] = idler
        self._epoll.register(fd, events)

    def want(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def unwatch(self, fd: int) -> None:
        self._epoll.unregister(fd)
        del self._by_fd[fd]

    def again(self, idler: Idler, wait_s: float) -> None:
        heapq.heappush(self._later, (time.monotonic() + wait_s, idler.place, idler))

    def arrived(self, _: Idler) -> None:
        self._idle += 1
        self._arrivals.append(time.monotonic())
        self._admit()

    def left(self, idler: Idler) -> None:
        self._idle -= idler.is_idle

    def run(self) -> None:
        self._admit()
        checked_s = time.monotonic()
        while True:
            now_s = time.monotonic()
            while self._later and self._later[0][0] <= now_s:
                heapq.heappop(self._later)[2].connect()
            if now_s - checked_s > 5:
                checked_s = now_s
                for idler in self._idlers:
                    idler.check(now_s)
            wait_s = min(self._later[0][0] - now_s, 1.0) if self._later else 1.0
            for fd, _ in self._epoll.poll(max(wait_s, 0), 256):
                if fd == self._orders.fileno():
                    if not self._obey(self._orders.recv()):
                        return
                elif fd in self._by_fd:
                    self._by_fd[fd].look()

    def _admit(self) -> None:
        """Let in the first ones in the order of their places, some at a time."""
        while self._waiting and self.plan.clients - len(self._waiting) - self._idle < max(
            self.plan.at_once, 1
        ):
            self._waiting.popleft().connect()

    def _obey(self, order: str) -> bool:
        if order == "report":
            self._orders.send(
                {
                    "idle": self._idle,
                    "arrivals": self._arrivals,
                    "told": self.told,
                    "byes": self.byes,
                    "reasons": self.reasons,
                    "refusals": collections.Counter(one.refusals for one in self._idlers),
                }
            )
            self.told, self._arrivals = [], []
        elif order == "forget":
            self.byes = 0
            self.reasons.clear()
            for idler in self._idlers:
                idler.forget()
        return order != "end"


class Crowds:
    """Crowds in processes of their own, as one."""

    def __init__(self, plan: Plan, processes: int) -> None:
        fork = multiprocessing.get_context("fork")
        self._pipes: list[Connection] = []
        self._children = []
        for number in range(processes):
            here, there = fork.Pipe()
            share = plan.clients // processes + (number < plan.clients % processes)
            mine = attrs.evolve(plan, clients=share, at_once=plan.at_once // processes)
            child = fork.Process(target=_run, args=(mine, there), daemon=True)
            child.start()
            self._pipes.append(here)
            self._children.append(child)

    def order(self, order: str) -> list[dict[str, Any]]:
        """Tell all; returns what they answer."""
        for pipe in self._pipes:
            pipe.send(order)
        return [pipe.recv() for pipe in self._pipes] if order == "report" else []

    def end(self) -> None:
        """Let all go home."""
        self.order("end")
        for child in self._children:
            child.join()


def _run(plan: Plan, orders: Connection) -> None:
    Crowd(plan, orders).run()
