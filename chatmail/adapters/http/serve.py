"""HTTP on streams the program accepted itself: Hypercorn's per-connection server, our sockets.

Hypercorn's `TCPServer`, `Lifespan` and `WorkerContext` are not documented API. This module alone
imports them; `tests/unit/adapters/http/test_serve.py` breaks when they change.

Invariant: a request that was read before `drain` is answered before its connection closes, and no
peer can hold a connection by not reading.
"""

from __future__ import annotations

import math
import socket
import sys
from functools import partial
from typing import Any, Final, Protocol

import attrs
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, LifespanState

from chatmail.adapters.http.facts import HttpServices
from chatmail.adapters.http.in_flight import CONNECTION, InFlight
from chatmail.adapters.http.mxdeliv import Mxdeliv
from chatmail.adapters.http.routes import make_app
from chatmail.adapters.system.redaction import Public
from chatmail.domain.ports.system import Log

MAX_HEAD_OCTETS: Final = 65536
"""Request line and header block; `/mxdeliv` may carry sixty recipients in its header."""

KEEP_ALIVE_S: Final = 60.0
"""Idle time of a connection; also the time a peer has to send one whole request head.

Counted here: Hypercorn restarts its own timer from the task of the request that just ended, which
Quart-Trio has cancelled by then, so after its first answer a connection would stay for ever.
"""

STALLED_S: Final = 30.0
"""A peer that takes none of 64 KiB for so long is gone. Hypercorn sends without a bound."""

MAX_WEBSOCKET_OCTETS: Final = 1024 * 1024
MAX_STREAMS: Final = 32
MAX_REQUESTS_PER_CONNECTION: Final = 1000
SETTLE_S: Final = 0.1
CLOSE_S: Final = 5.0

_SLICE: Final = 65536


class FaceStream(Protocol):
    """What this face needs of an accepted connection whose TLS handshake is over."""

    @property
    def is_tls(self) -> bool: ...

    @property
    def peer_host(self) -> str: ...

    @property
    def peer_port(self) -> int: ...

    @property
    def alpn(self) -> str | None: ...

    @property
    def transport(self) -> trio.abc.Stream:
        """The octets; errors are Trio's."""

    async def aclose(self) -> None:
        """Close with close_notify, bounded, never raising."""


class HttpFace:
    """The web face: one app, many connections."""

    def __init__(self, services: HttpServices) -> None:
        self._log = services.log
        # Any twice, since ASGI's messages are a union of twenty TypedDicts that are passed through.
        app: Any = make_app(services)
        self._requests = InFlight(Mxdeliv(services.mxdeliv, app) if services.mxdeliv else app)
        framework: Any = self._requests
        self._app = ASGIWrapper(framework)
        self._config = _config(services.log)
        self._context = WorkerContext(None)
        self._state: LifespanState = {}
        self._live: set[_HypercornStream] = set()
        self._left = trio.Event()

    @property
    def requests_in_flight(self) -> int:
        """Return how many requests wait for the end of their answer."""
        return self._requests.count

    @property
    def connections(self) -> int:
        """Return how many connections are open."""
        return len(self._live)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the app's lifespan until cancelled; started once the app is ready for requests."""
        async with trio.open_nursery() as nursery:
            lifespan = Lifespan(self._app, self._config, self._state)
            await nursery.start(lifespan.handle_lifespan)
            await lifespan.wait_for_startup()
            task_status.started()
            await trio.sleep_forever()

    async def serve_connection(self, stream: FaceStream) -> None:
        """Speak HTTP/1.1, or HTTP/2 if ALPN chose it, until either side closes; closes `stream`.

        A stream whose `is_tls` is true counts as https, also where a proxy ended TLS.
        Cancellation:  safe anywhere; the answer being sent is finished within `STALLED_S`.
        """
        wrapped = _TlsFacade(stream) if stream.is_tls else _HypercornStream(stream)
        self._live.add(wrapped)
        try:
            state = ConnectionState(LifespanState({**self._state, CONNECTION: wrapped}))
            # Any, since Hypercorn declares Trio's own stream classes but uses six names of them.
            hypercorn_stream: Any = wrapped
            await TCPServer(
                self._app,
                self._config,
                self._context,
                state,
                hypercorn_stream,
            ).run()
        except* (LookupError, ValueError, UnboundLocalError) as broken:
            # Seen in Hypercorn's HTTP/2: DATA for a stream that was answered early is a KeyError,
            # a path that is not ASCII a UnicodeDecodeError. The peer's doing, so nobody is woken.
            kind = type(broken.exceptions[0]).__name__
            self._log.debug("http_connection_broken", error=Public(kind))
        finally:
            await wrapped.aclose()
            self._live.discard(wrapped)
            self._left.set()

    async def drain(self, grace_s: float) -> None:
        """Answer what is in flight, then close every connection.

        New requests are still answered meanwhile, with `Connection: close`. After `grace_s`
        whatever still sends is cut off, since Hypercorn shields its sends from cancellation.
        Accepting has to be stopped before. Takes `CLOSE_S` longer than `grace_s` at the most.
        """
        self._requests.is_draining = True
        with trio.move_on_after(grace_s):
            await self._requests.wait_idle()
            # An HTTP/2 answer counts as finished when its last octets are queued: let them go out.
            await trio.sleep(SETTLE_S)
        await self._context.terminated.set()
        for stream in self._live.copy():
            stream.end()
        with trio.move_on_after(CLOSE_S):
            while self._live:
                self._left = trio.Event()
                await self._left.wait()


class _HypercornStream:
    """The stream as Hypercorn wants it: six names, bounded sends, errors it knows."""

    def __init__(self, stream: FaceStream) -> None:
        self._stream = stream
        self._transport = stream.transport
        self._receiving: trio.CancelScope | None = None
        self._receive_deadline = trio.current_time() + KEEP_ALIVE_S
        self._sending: trio.CancelScope | None = None
        self._send_over = trio.Event()
        self._is_ended = False
        self._requests = 0
        self.socket = _PeerSocket(stream.peer_host, stream.peer_port)

    async def receive_some(self, max_bytes: int) -> bytes:
        """Return octets, `b""` also when the connection was idle too long or is to end."""
        if self._is_ended:
            return b""
        with trio.CancelScope(deadline=self._receive_deadline) as self._receiving:
            return bytes(await self._transport.receive_some(max_bytes))
        return b""

    def request_begins(self) -> None:
        """Stop the idle clock: from here on the handler's own limits count."""
        self._requests += 1
        self._set_receive_deadline(math.inf)

    def request_ends(self) -> None:
        """Restart the idle clock after the last answer."""
        self._requests -= 1
        if not self._requests:
            self._set_receive_deadline(trio.current_time() + KEEP_ALIVE_S)

    def end(self) -> None:
        """End the connection: what still sends is cut off, what waits for a request is let go."""
        self._is_ended = True
        for scope in (self._sending, self._receiving):
            if scope:
                scope.cancel()

    async def send_all(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        self._send_over = trio.Event()
        try:
            for start in range(0, len(view), _SLICE):
                await self._send_slice(view[start : start + _SLICE])
        finally:
            self._send_over.set()

    async def aclose(self) -> None:
        # HTTP/2 closes from the idle task while the sending task may be in its last octets.
        if self._sending is not None:
            with trio.move_on_after(CLOSE_S):
                await self._send_over.wait()
        await self._stream.aclose()

    def _set_receive_deadline(self, deadline: float) -> None:
        self._receive_deadline = deadline
        if self._receiving:
            self._receiving.deadline = deadline

    async def _send_slice(self, octets: memoryview) -> None:
        with trio.move_on_after(STALLED_S) as self._sending:
            await self._transport.send_all(octets)
        was_stopped, self._sending = self._sending.cancelled_caught, None
        if not was_stopped:
            return
        # Hypercorn notes a broken send and goes on reading: closing is what ends that too.
        await self._stream.aclose()
        raise trio.BrokenResourceError("the peer does not read")


class _TlsFacade(_HypercornStream):
    """The same with the two names by which Hypercorn tells https from http."""

    @property
    def transport_stream(self) -> _TlsFacade:
        return self

    async def do_handshake(self) -> None:
        """The handshake was over before this face saw the stream."""

    def selected_alpn_protocol(self) -> str | None:
        return self._stream.alpn


@attrs.frozen
class _PeerSocket:
    """The peer's address as the accept loop knows it (PROXY protocol included)."""

    peer_host: str
    peer_port: int

    @property
    def family(self) -> int:
        return socket.AF_INET6 if ":" in self.peer_host else socket.AF_INET

    def getpeername(self) -> tuple[str, int]:
        return self.peer_host, self.peer_port

    def getsockname(self) -> tuple[str, int]:
        return "", 0


class _HypercornLog:
    """Hypercorn's log without access lines, tracebacks and addresses."""

    def __init__(self, log: Log, _config: Config) -> None:
        self._log = log

    async def access(self, *_args: object) -> None:
        """Leave no trace of a request."""

    async def exception(self, _message: str, *_args: object) -> None:
        error = sys.exc_info()[0]
        self._log.warning("http_app_failed", error=Public(error.__name__ if error else "unknown"))

    async def error(self, _message: str, *_args: object) -> None:
        self._log.warning("http_server_error")

    async def warning(self, _message: str, *_args: object) -> None:
        self._log.warning("http_server_warning")

    async def info(self, _message: str, *_args: object) -> None:
        """Say nothing."""

    async def debug(self, _message: str, *_args: object) -> None:
        """Say nothing."""


def _config(log: Log) -> Config:
    config = Config()
    # Any, since the class is only ever called with the Config and the seven methods awaited.
    logger: Any = partial(_HypercornLog, log)
    config.logger_class = logger
    config.include_server_header = False
    config.h11_max_incomplete_size = MAX_HEAD_OCTETS
    config.h2_max_header_list_size = MAX_HEAD_OCTETS
    config.h2_max_concurrent_streams = MAX_STREAMS
    config.keep_alive_timeout = math.inf
    config.keep_alive_max_requests = MAX_REQUESTS_PER_CONNECTION
    config.websocket_max_message_size = MAX_WEBSOCKET_OCTETS
    return config
