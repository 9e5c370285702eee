"""A Trio stream over a non-blocking SSLSocket on the accepted file descriptor.

No memory BIO: OpenSSL reads and writes the socket itself, which costs about half the CPU and two
thirds of the memory of a BIO stream. OpenSSL reads one record at a time and never ahead, so
`pending()` tells all that readability does not.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any

import trio

from chatmail.adapters.net.socket_stream import SCRATCH, WRITE_BYTES, SocketStream


class TlsStream(SocketStream):
    """The server side of one TLS connection; also what Hypercorn's TCPServer asks of a stream."""

    __slots__ = ("_is_shaken", "_tls", "_waits_to_write")

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        """Take over a connected non-blocking socket.

        Raises:  OSError: the peer is already gone; the socket is closed.
        """
        try:
            sock.getpeername()  # for a peer that left, wrap_socket would leak what it made
            tls = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        except OSError:
            sock.close()
            raise
        super().__init__(tls)
        self._tls = tls
        self._is_shaken = False
        self._waits_to_write = False

    @property
    def transport_stream(self) -> TlsStream:
        """The stream whose `socket` knows the addresses: this one."""
        return self

    @property
    def tls_version(self) -> str | None:
        """`TLSv1.3`, `TLSv1.2`; None before the handshake."""
        return self._tls.version()

    def selected_alpn_protocol(self) -> str | None:
        """Return the protocol agreed on in the handshake (RFC 7301)."""
        return self._tls.selected_alpn_protocol()

    async def do_handshake(self) -> None:
        """Finish the handshake; nothing when it is finished.

        Raises:  trio.BrokenResourceError: the peer left or speaks no TLS that we accept.
        Cancellation:  may be called again and goes on.
        """
        while not self.shake_once():
            await self.wait_to_shake()

    def shake_once(self) -> bool:
        """Go on with the handshake as far as it goes without waiting; True: it is finished.

        Raises:  trio.BrokenResourceError: the peer left or speaks no TLS that we accept.
        """
        if self._is_shaken:
            return True
        self._check_open()
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._waits_to_write = False
        except ssl.SSLWantWriteError:
            self._waits_to_write = True
        except OSError as error:
            self._is_broken = True
            raise trio.BrokenResourceError from error
        else:
            self._is_shaken = True
        return self._is_shaken

    async def wait_to_shake(self) -> None:
        """Wait for what the next `shake_once` needs; at first for the peer to begin.

        Raises:  trio.BrokenResourceError; trio.ClosedResourceError.
        """
        self._check_open()
        try:
            if self._waits_to_write:
                await trio.lowlevel.wait_writable(self.socket)
            else:
                await trio.lowlevel.wait_readable(self.socket)
        except OSError as error:
            self._is_broken = True
            raise trio.BrokenResourceError from error

    def _has_pending(self) -> bool:
        return self._tls.pending() > 0

    def _read(self, limit: int) -> bytes | None:
        # What `recv_into` calls; its declared type knows no memoryview and no count.
        read: Any = self._tls.read
        filled = 0
        while filled < limit:
            try:
                count = read(limit - filled, SCRATCH[filled:] if filled else SCRATCH)
            except ssl.SSLWantReadError:
                if not filled:
                    return None
                break
            filled += count
            # Bulk senders fill records: after a full one look for the next, after a short one the
            # attempt would only cost a system call.
            if count < WRITE_BYTES:
                break
        # A read that got less than it asked for has emptied its record.
        self._may_pend = filled == limit
        return bytes(SCRATCH[:filled])

    def _write(self, data: bytes | bytearray | memoryview) -> int:
        # Without partial writes OpenSSL wants the same octets again after a full kernel buffer;
        # the callers' steps of one record keep that promise.
        try:
            return self._tls.send(data)
        except ssl.SSLWantWriteError:
            return 0

    async def _say_goodbye(self) -> None:
        """Send close_notify (RFC 8446 §6.1) and free the TLS state, 10 kB, before lingering.

        Delta Chat core takes an HTTP answer without it for an error.
        """
        while self._is_shaken:
            try:
                self._tls.unwrap()
                break
            except ssl.SSLWantWriteError:
                await trio.lowlevel.wait_writable(self.socket)
            except ssl.SSLError:
                break  # ours is out; the peer's, or data in its place, is not waited for
