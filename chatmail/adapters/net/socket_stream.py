"""A Trio stream over one non-blocking TCP socket, and what every transport shares.

Invariants: a read waits for readability first (one checkpoint, no octet lost when cancelled);
a write that fits is a system call and no checkpoint; a write that does not fit has to make
progress within `send_timeout_s`; no buffer is held while nothing is read or written.
"""

from __future__ import annotations

import socket
from typing import Final

import trio

READ_BYTES: Final = 65536
WRITE_BYTES: Final = 16384  # one TLS record (RFC 8446 §5.1), also the step of progress
SEND_TIMEOUT_S: Final = 120.0
LINGER_S: Final = 1.0
LINGER_BYTES: Final = 262144

# One process is one thread: reads go through one buffer and leave it before anything awaits, so
# an idle connection owns none.
SCRATCH: Final = memoryview(bytearray(READ_BYTES))


class SocketStream(trio.abc.Stream):
    """Plain TCP. Errors are Trio's: BrokenResourceError, ClosedResourceError, BusyResourceError.

    `socket` is the socket itself, for address look-ups.
    """

    __slots__ = (
        "_is_at_eof",
        "_is_broken",
        "_is_closed",
        "_is_sending",
        "_may_pend",
        "_rest",
        "send_timeout_s",
        "socket",
    )

    def __init__(self, sock: socket.socket, send_timeout_s: float = SEND_TIMEOUT_S) -> None:
        self.socket = sock
        self.send_timeout_s = send_timeout_s
        self._is_at_eof = False
        self._is_broken = False
        self._is_closed = False
        self._is_sending = False
        self._may_pend = False  # octets may wait where readability does not tell
        self._rest: bytes = b""  # what `send_now` could not send

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what has arrived, at most 64 KiB; `b""` at the end of the stream.

        Cancellation:  loses nothing.
        Raises:  trio.BrokenResourceError: the connection was reset. trio.ClosedResourceError: it
            was closed on this side.
        """
        limit = READ_BYTES
        if max_bytes is not None:
            limit = min(max_bytes, READ_BYTES)
            if limit < 1:
                raise ValueError("max_bytes must be positive")
        if self._is_closed or self._is_broken:
            self._check_open()
        try:
            if self._may_pend and self._has_pending():
                await trio.lowlevel.checkpoint()
            else:
                await trio.lowlevel.wait_readable(self.socket)
            while (octets := self._read(limit)) is None:
                await trio.lowlevel.wait_readable(self.socket)
        except OSError as error:
            self._is_broken = True
            raise trio.BrokenResourceError from error
        if not octets:
            self._is_at_eof = True
        return octets

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`.

        Raises:  trio.BrokenResourceError: reset, or no progress within `send_timeout_s`.
        Cancellation:  the stream is broken unless all was sent.
        Cost:  no checkpoint when the kernel takes all of it at once.
        """
        if self._is_closed or self._is_broken:
            self._check_open()
        if self._is_sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        if self._rest:
            data, self._rest = b"".join((self._rest, data)), b""
        size = len(data)
        try:
            if size <= WRITE_BYTES:
                sent = self._write(data) if size else 0
            else:
                sent = self._write_steps(memoryview(data))
        except OSError as error:
            self._is_broken = True
            raise trio.BrokenResourceError from error
        if sent < size:
            await self._send_slowly(memoryview(data)[sent:])

    def send_now(self, data: bytes) -> bool:
        """Send without waiting, while no other task sends.

        Returns:  False: something is left, and leaves with the next `send_all` before what that is
            given; or the connection is over, as every other call will say. Never raises.
        """
        if self._is_closed or self._is_broken:
            return False
        if self._rest or self._is_sending or len(data) > WRITE_BYTES:
            self._rest += data
            return False
        try:
            sent = self._write(data)
        except OSError:
            self._is_broken = True
            return False
        self._rest = data[sent:]
        return not self._rest

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the kernel takes more octets."""
        self._check_open()
        try:
            await trio.lowlevel.wait_writable(self.socket)
        except OSError as error:
            raise trio.BrokenResourceError from error

    async def aclose(self) -> None:
        """Say goodbye in order, then close. Idempotent.

        The write side is shut first and what the peer still sends is read for at most 1 s: closing
        a socket with unread octets makes the kernel send RST, which may destroy our last words
        (`221`, `* BYE`, close_notify) before the peer has read them.
        """
        if self._is_closed:
            await trio.lowlevel.checkpoint()
            return
        self._is_closed = True
        trio.lowlevel.notify_closing(self.socket)
        try:
            if not self._is_broken:
                await self._say_goodbye()
                if not self._is_at_eof:
                    self.socket.shutdown(socket.SHUT_WR)
                    await self._linger()
        except OSError:
            pass  # the peer was faster
        finally:
            trio.lowlevel.notify_closing(self.socket)
            self.socket.close()

    def abort(self) -> None:
        """Close at once, without goodbye; whoever waits on the stream gets ClosedResourceError."""
        if self.socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self.socket)
            self.socket.close()
        self._is_closed = True

    def detach(self) -> socket.socket:
        """Give the socket away; this stream is closed afterwards."""
        self._is_closed = True
        return self.socket

    # What TLS does otherwise.

    def _has_pending(self) -> bool:
        return False

    def _read(self, limit: int) -> bytes | None:
        """Read without waiting. None: nothing there."""
        try:
            count = self.socket.recv_into(SCRATCH, limit)
        except BlockingIOError:
            return None
        return bytes(SCRATCH[:count])

    def _write(self, data: bytes | bytearray | memoryview) -> int:
        """Write at most one step without waiting. 0: the kernel is full."""
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0

    async def _say_goodbye(self) -> None:
        """Send what the protocol wants sent before the end."""

    # Shared.

    def _check_open(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("this stream was closed")
        if self._is_broken:
            raise trio.BrokenResourceError("this stream broke earlier")

    def _write_steps(self, view: memoryview) -> int:
        sent = 0
        while sent < len(view):
            count = self._write(view[sent : sent + WRITE_BYTES])
            if not count:
                break
            sent += count
        return sent

    async def _send_slowly(self, view: memoryview) -> None:
        self._is_sending = True
        try:
            with trio.fail_after(self.send_timeout_s) as progress:
                while view:
                    await trio.lowlevel.wait_writable(self.socket)
                    if sent := self._write_steps(view):
                        view = view[sent:]
                        progress.deadline = trio.current_time() + self.send_timeout_s
        except (OSError, trio.TooSlowError) as error:
            raise trio.BrokenResourceError from error
        finally:
            self._is_sending = False
            # A torn message cannot be continued, with TLS not even ended (half a record is out).
            self._is_broken = self._is_broken or bool(view)

    async def _linger(self) -> None:
        left = LINGER_BYTES
        with trio.move_on_after(LINGER_S):
            while left > 0:
                await trio.lowlevel.wait_readable(self.socket)
                # The base class: what arrives now is thrown away, enciphered or not.
                count = socket.socket.recv_into(self.socket, SCRATCH)
                if not count:
                    break
                left -= count
