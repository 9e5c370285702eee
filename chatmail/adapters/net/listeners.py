"""Accept loops, and the guard around every connection.

Accepting runs where the caller starts it, connections in the nursery they are handed to: ending
the first stops arrivals and nothing else. No exception of a connection leaves its guard.
"""

from __future__ import annotations

import enum
import errno
import os
import socket
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol, TypeAlias

import attrs
import trio

from chatmail.adapters.net.binding import bound_address
from chatmail.adapters.net.crowds import Crowd
from chatmail.adapters.net.errors import TRANSPORT_ERRORS, PeerGone
from chatmail.adapters.net.handshakes import Handshaker, Turns
from chatmail.adapters.net.socket_stream import SocketStream
from chatmail.adapters.net.streams import Stream
from chatmail.adapters.net.tls import TlsKeeper, TlsPurpose
from chatmail.adapters.system.redaction import Public

ACCEPT_BATCH: Final = 16
BACK_OFF_S: Final = 0.1
COMPLAINT_EVERY_S: Final = 60.0

_OUT_OF_FILES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_OWN_CODE: Final = f"{os.sep}chatmail{os.sep}"

Handler: TypeAlias = Callable[[Stream], Awaitable[None]]


class EventLog(Protocol):
    """Where events go."""

    def warning(self, event: str, **fields: object) -> None:
        """Record one event."""


class TlsMode(enum.Enum):
    """How connections of a listener become TLS."""

    IMPLICIT = "implicit"
    STARTTLS = "starttls"
    NONE = "none"
    PROXIED = "proxied"  # a trusted proxy in front ended it: cleartext here, yet secure


@attrs.frozen(kw_only=True)
class Face:
    """A protocol: who speaks it, and with how many at once.

    `refusal` is said to a connection beyond the limits when that costs no handshake.
    """

    handler: Handler
    crowd: Crowd
    refusal: bytes = b""


@attrs.define(kw_only=True)
class ListenerCounters:
    """What happened at one listener since the start."""

    accepted: int = 0
    turned_away: int = 0
    handshakes_failed: int = 0
    failed: int = 0
    out_of_files: int = 0
    octets_in: int = 0
    octets_out: int = 0


def _everybody(host: str) -> bool:
    return True


@attrs.frozen(kw_only=True)
class FaceListener:
    """One kind of door, `name` as in the configuration (`imaps`).

    `purpose` is needed unless there is no TLS. `alpn` maps protocols agreed on in the handshake
    to other faces; everything else is `face`'s. `admits` sees the peer's numeric address.
    """

    name: str
    tls: TlsMode
    face: Face
    purpose: TlsPurpose | None = None
    alpn: Mapping[str, Face] = attrs.field(factory=dict)
    admits: Callable[[str], bool] = _everybody
    counters: ListenerCounters = attrs.field(factory=ListenerCounters)

    def spoken(self) -> set[str]:
        """Return the ALPN protocols that are at home here."""
        own = {
            TlsPurpose.IMAP: {"imap"},
            TlsPurpose.SUBMISSION: {"smtp"},
            TlsPurpose.RELAY: {"smtp"},
            TlsPurpose.HTTPS: {"h2", "http/1.1"},
        }
        return {*self.alpn, *(own[self.purpose] if self.purpose else ())}


async def serve_listener(
    sockets: Sequence[socket.socket],
    listener: FaceListener,
    keeper: TlsKeeper,
    turns: Turns,
    handler_nursery: trio.Nursery,
    log: EventLog,
    *,
    task_status: trio.TaskStatus[list[tuple[str, int]]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept on `sockets` (from `binding.bind`) until cancelled; closes them.

    Args:  turns: `handshakes.handshake_turns()`, one for the process. handler_nursery: where
        connections live; they go on when accepting is cancelled.
    Returns:  (as task status) the bound addresses.
    """
    handshaker = None
    if listener.purpose is not None and listener.tls in (TlsMode.IMPLICIT, TlsMode.STARTTLS):
        handshaker = Handshaker(keeper, listener.purpose, turns, listener.spoken())
    door = _Door(listener, handshaker, handler_nursery, log)
    try:
        addresses = [bound_address(sock) for sock in sockets]
        async with trio.open_nursery() as nursery:
            for sock in sockets:
                nursery.start_soon(door.accept, sock)
            task_status.started(addresses)
    finally:
        door.spare.release()
        for sock in sockets:
            trio.lowlevel.notify_closing(sock)
            sock.close()


class _SpareFile:
    """A file descriptor kept back, so that a connection can be taken and closed when none is left.

    Without it the kernel's queue stays full, the socket readable, and clients wait for nothing.
    """

    def __init__(self) -> None:
        self._fd = -1
        self.regain()

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def regain(self) -> None:
        try:
            self._fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._fd = -1


class _Door:
    """One listener at work."""

    def __init__(
        self,
        listener: FaceListener,
        handshaker: Handshaker | None,
        handler_nursery: trio.Nursery,
        log: EventLog,
    ) -> None:
        self.spare = _SpareFile()
        self._listener = listener
        self._counters = listener.counters
        self._handshaker = handshaker
        self._start = handler_nursery.start_soon
        self._log = log
        self._complain_at = -float("inf")

    async def accept(self, sock: socket.socket) -> None:
        while True:
            await trio.lowlevel.wait_readable(sock)
            for _ in range(ACCEPT_BATCH):
                try:
                    connection, address = sock.accept()
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno in _OUT_OF_FILES:
                        await self._shed(sock)
                    # Everything else concerns one connection that died in the queue (accept(2)).
                    break
                self._admit(connection, address[0], address[1])

    def _admit(self, connection: socket.socket, host: str, port: int) -> None:
        connection.setblocking(False)
        host = host.partition("%")[0].removeprefix("::ffff:")
        listener, crowd = self._listener, self._listener.face.crowd
        if not listener.admits(host) or not crowd.enter(host):
            self._turn_away(connection)
            return
        self._counters.accepted += 1
        is_proxied = listener.tls is TlsMode.PROXIED
        transport = SocketStream(connection)
        stream = Stream(transport, host, port, self._handshaker, is_tls=is_proxied)
        self._start(self._guard, stream, crowd)

    def _turn_away(self, connection: socket.socket) -> None:
        self._counters.turned_away += 1
        with connection:
            # In cleartext these octets fit into any fresh socket; with TLS a handshake for a
            # refusal would be a gift to whoever floods.
            if self._listener.tls is not TlsMode.IMPLICIT and self._listener.face.refusal:
                try:
                    connection.send(self._listener.face.refusal)
                    connection.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
        self._complain("connections_refused")

    async def _shed(self, sock: socket.socket) -> None:
        self._counters.out_of_files += 1
        self.spare.release()
        try:
            connection, _ = sock.accept()
        except OSError:
            pass
        else:
            connection.close()
        self.spare.regain()
        self._complain("out_of_file_descriptors")
        await trio.sleep(BACK_OFF_S)

    def _complain(self, event: str) -> None:
        # A flood of connections must not become a flood of log lines.
        now = trio.current_time()
        if now >= self._complain_at:
            self._complain_at = now + COMPLAINT_EVERY_S
            self._log.warning(event, listener=self._listener.name)

    async def _guard(self, stream: Stream, crowd: Crowd) -> None:
        """Run one connection. Only Cancelled and BaseExceptions leave."""
        face = self._listener.face
        try:
            if self._listener.tls is TlsMode.IMPLICIT:
                face = await self._shake_hands(stream)
                if face.crowd is not crowd:
                    crowd = self._change_crowd(stream, crowd, face.crowd)
            if crowd is face.crowd:
                await face.handler(stream)
            else:
                await stream.send_all(face.refusal)
        except* (PeerGone, *TRANSPORT_ERRORS):
            pass  # the normal end of a phone's connection
        except* Exception as failures:  # noqa: BLE001  the connection guard
            self._counters.failed += 1
            kind, place = _place(failures)
            self._log.warning(
                "connection_failed",
                listener=self._listener.name,
                error=Public(kind),
                place=Public(place),
            )
        finally:
            await stream.aclose()
            crowd.leave(stream.peer_host)
            self._counters.octets_in += stream.octets_in
            self._counters.octets_out += stream.octets_out

    async def _shake_hands(self, stream: Stream) -> Face:
        try:
            await stream.start_tls()
        except PeerGone:
            self._counters.handshakes_failed += 1
            raise
        alpn = stream.alpn
        return self._listener.alpn.get(alpn, self._listener.face) if alpn else self._listener.face

    def _change_crowd(self, stream: Stream, old: Crowd, new: Crowd) -> Crowd:
        """Move a connection to the crowd of its protocol; the old one: there is no room."""
        if not new.enter(stream.peer_host):
            self._counters.turned_away += 1
            return old
        old.leave(stream.peer_host)
        return new


def _place(failures: BaseExceptionGroup[Exception]) -> tuple[str, str]:
    """Return type and innermost place of the first failure; its text may hold private things."""
    failure: BaseException = failures
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    tracebacks = traceback.extract_tb(failure.__traceback__)
    frames = [frame for frame in tracebacks if frame.name != _Door._guard.__name__]
    if not frames:
        return type(failure).__name__, "unknown"
    own = [frame for frame in frames if _OWN_CODE in frame.filename]
    last = (own or frames)[-1]
    return type(failure).__name__, f"{os.path.basename(last.filename)}:{last.lineno} {last.name}"
