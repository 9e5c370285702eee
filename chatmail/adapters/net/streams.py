"""The stream every face reads: plain or TLS, deflated or not, one error when it is over."""

from __future__ import annotations

import contextlib

import trio

from chatmail.adapters.net.deflate import Deflation
from chatmail.adapters.net.errors import TRANSPORT_ERRORS, PeerGone
from chatmail.adapters.net.handshakes import Handshaker
from chatmail.adapters.net.socket_stream import SocketStream
from chatmail.adapters.net.tls_stream import TlsStream
from chatmail.domain.model.errors import LocalProtocolError

CLOSE_S = 3.0


class Stream:
    """One connection.

    `transport` is the Trio stream below. `octets_in` and `octets_out` count what went through it:
    after compression, before encryption. `is_tls` is also true where a trusted proxy ended TLS.
    """

    __slots__ = (
        "_deflation",
        "_handshaker",
        "alpn",
        "is_tls",
        "octets_in",
        "octets_out",
        "peer_host",
        "peer_port",
        "transport",
    )

    def __init__(
        self,
        transport: SocketStream,
        peer_host: str,
        peer_port: int,
        handshaker: Handshaker | None = None,
        *,
        is_tls: bool = False,
    ) -> None:
        """Args:  handshaker: how `start_tls` is done; None where there is no TLS."""
        self.transport = transport
        self.peer_host = peer_host
        self.peer_port = peer_port
        self.is_tls = is_tls
        self.alpn: str | None = None
        self.octets_in = 0
        self.octets_out = 0
        self._handshaker = handshaker
        self._deflation: Deflation | None = None

    @property
    def write_timeout_s(self) -> float:
        """How long a write may stay without progress, s."""
        return self.transport.send_timeout_s

    @write_timeout_s.setter
    def write_timeout_s(self, seconds: float) -> None:
        self.transport.send_timeout_s = seconds

    async def receive_some(self) -> bytes:
        """Return what the peer sent, at most 64 KiB; `b""` at the end.

        Raises:  PeerGone: reset, or a damaged or abusive deflate stream.
        Cancellation:  loses nothing.
        """
        deflation = self._deflation
        if deflation is None:
            # As `_receive`; every frame between a task and its wait is passed twice per wake-up.
            try:
                octets = await self.transport.receive_some()
            except TRANSPORT_ERRORS as error:
                raise PeerGone("receiving failed") from error
            self.octets_in += len(octets)
            return octets
        inflater = deflation.inflater
        if inflater.has_more:
            await trio.lowlevel.checkpoint()
            if plaintext := inflater.feed(b""):
                return plaintext
        while octets := await self._receive():
            deflation.may_send = True
            if plaintext := inflater.feed(octets):
                return plaintext
        return b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`; up to 16 KiB leave as one TLS record.

        Raises:  PeerGone: reset, or no progress within `write_timeout_s`.
        Cancellation:  the connection cannot be used any more, only closed.
        Cost:  no checkpoint when the kernel takes all of it at once.
        """
        if self._deflation is not None:
            data = self._deflation.pack(data)
        try:
            await self.transport.send_all(data)
        except TRANSPORT_ERRORS as error:
            raise PeerGone("sending failed") from error
        self.octets_out += len(data)

    def send_now(self, data: bytes) -> bool:
        """Send without waiting, from whatever task, while no other one sends.

        Returns:  False: `send_all` has to be called, with nothing if there is nothing more to send;
            it sends what is left, or raises.
        """
        if self._deflation is not None:
            try:
                data = self._deflation.pack(data)
            except PeerGone:
                self.transport.abort()
                return False
        self.octets_out += len(data)
        return not data or self.transport.send_now(data)

    async def start_tls(self) -> None:
        """Do the server's side of a TLS handshake, now.

        The caller has made sure that it holds no cleartext octet behind STARTTLS (RFC 3207 §6).
        Raises:  PeerGone: the handshake failed.
        """
        if self._handshaker is None or self.is_tls:
            raise LocalProtocolError("no TLS to be started here")
        handshaker, self._handshaker = self._handshaker, None
        send_timeout_s = self.transport.send_timeout_s
        tls: TlsStream = handshaker.wrap(self.transport.detach())
        tls.send_timeout_s = send_timeout_s
        self.transport = tls
        await handshaker.handshake(tls, self.peer_host)
        self.is_tls = True
        self.alpn = tls.selected_alpn_protocol()

    def start_deflate(self) -> None:
        """Compress both directions from here on (RFC 4978); idempotent."""
        if self._deflation is None:
            self._deflation = Deflation()

    async def aclose(self) -> None:
        """Close in order, within 3 s even if cancelled. Never raises."""
        # suppress: somebody else may abort the stream meanwhile.
        with contextlib.suppress(*TRANSPORT_ERRORS), trio.move_on_after(CLOSE_S, shield=True):
            await self.transport.aclose()

    def abort(self) -> None:
        """Close at once; a task that waits on this stream gets PeerGone."""
        self.transport.abort()

    async def _receive(self) -> bytes:
        try:
            octets = await self.transport.receive_some()
        except TRANSPORT_ERRORS as error:
            raise PeerGone("receiving failed") from error
        self.octets_in += len(octets)
        return octets
