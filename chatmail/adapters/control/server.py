"""The control face: JSON-RPC over a unix socket, one message per line, for this machine's operator.

Only the server's own user and root get an answer.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from pathlib import Path
from typing import Final, NoReturn, Protocol

import trio

from chatmail.adapters.control.binding import ControlSocketError, control_socket
from chatmail.adapters.control.methods import SLOW_METHODS, call
from chatmail.adapters.control.services import ControlServices
from chatmail.adapters.system.redaction import Public
from chatmail.domain.wire.jsonrpc import (
    Call,
    ErrorCode,
    Fault,
    RpcError,
    answer,
    encode,
    parse,
    refusal,
)

MAX_LINE_OCTETS: Final = 64 * 1024
MAX_CONNECTIONS: Final = 16
PATIENCE_S: Final = 30.0
"""For one whole request to arrive, and for one answer to be taken."""
CALL_S: Final = 60.0
SLOW_CALL_S: Final = 3600.0
RETRY_S: Final = 30.0

_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid: unix(7), SO_PEERCRED
_PASSING: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


class Log(Protocol):
    """Where events go."""

    def warning(self, event: str, **fields: object) -> None: ...


async def serve_control(
    directory: Path,
    services: ControlServices,
    log: Log,
    started: trio.Event,
) -> NoReturn:
    """Answer on `directory`/control.sock until cancelled.

    A socket that cannot be opened is told once and tried again: mail does not wait for it.
    Args:  started: set once clients can connect, or are told that they cannot.
    """
    was_told = False
    while True:
        try:
            with control_socket(directory) as sock:
                was_told = False
                started.set()
                await _accept(trio.socket.from_stdlib_socket(sock), services)
        except ControlSocketError as problem:
            if not was_told:
                log.warning("control_unavailable", problem=Public(str(problem)))
                was_told = True
            started.set()
            await trio.sleep(RETRY_S)


async def _accept(listener: trio.socket.SocketType, services: ControlServices) -> NoReturn:
    room = trio.Semaphore(MAX_CONNECTIONS)
    async with trio.open_nursery() as nursery:
        while True:
            await room.acquire()
            try:
                peer, _ = await listener.accept()
            except OSError as error:
                room.release()
                if error.errno not in (*_PASSING, errno.ECONNABORTED):
                    raise
                await trio.sleep(0.1)
            else:
                nursery.start_soon(_guard, peer, services, room)


async def _guard(
    peer: trio.socket.SocketType, services: ControlServices, room: trio.Semaphore
) -> None:
    try:
        async with trio.SocketStream(peer) as stream:
            await _converse(stream, services)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the command was interrupted
    finally:
        room.release()


async def _converse(stream: trio.SocketStream, services: ControlServices) -> None:
    if _user(stream.socket) not in (0, os.geteuid()):
        await _send(stream, _lone(RpcError(ErrorCode.UNAUTHORIZED, "not the server's user")))
        return
    lines = _Lines(stream)
    while True:
        with trio.move_on_after(PATIENCE_S) as waiting:
            line = await lines.next()
        if waiting.cancelled_caught or line is None:
            return
        if len(line) > MAX_LINE_OCTETS:
            await _send(stream, _lone(RpcError(ErrorCode.TOO_LARGE, "the request is too long")))
            return
        if line.strip():
            await _send(stream, await respond(line, services))


async def respond(line: bytes, services: ControlServices) -> bytes:
    """Answer one message; the answer is one line, or nothing for notifications."""
    request = parse(line)
    answers = []
    for part in request.parts:
        shown = (
            refusal(part.id, part.error) if isinstance(part, Fault) else await _run(part, services)
        )
        if isinstance(part, Fault) or not part.is_notification:
            answers.append(shown)
    return encode(answers, is_batch=request.is_batch)


async def _run(part: Call, services: ControlServices) -> dict[str, object]:
    limit_s = SLOW_CALL_S if part.method in SLOW_METHODS else CALL_S
    error = RpcError(ErrorCode.TIMED_OUT, "it took too long")
    with trio.move_on_after(limit_s):
        try:
            return answer(part.id, await call(services, part.method, part.params))
        except RpcError as refused:
            error = refused
    return refusal(part.id, error)


def _lone(error: RpcError) -> bytes:
    return encode([refusal(None, error)], is_batch=False)


async def _send(stream: trio.SocketStream, octets: bytes) -> None:
    with trio.move_on_after(PATIENCE_S) as patience:
        await stream.send_all(octets)
    if patience.cancelled_caught:
        raise trio.BrokenResourceError  # part of an answer may have left


def _user(sock: trio.socket.SocketType) -> int:
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(raw)
    return int(uid)


class _Lines:
    """Splits a stream into lines; holds at most one too long line."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = b""

    async def next(self) -> bytes | None:
        """Return the next line without its end, or more than is allowed; None: input ended."""
        while (end := self._buffer.find(b"\n")) < 0 and len(self._buffer) <= MAX_LINE_OCTETS:
            octets = await self._stream.receive_some(MAX_LINE_OCTETS)
            if not octets:
                return None
            self._buffer += octets
        if end < 0:
            return self._buffer
        line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
        return line
