"""TLS handshakes in an orderly queue.

A restart makes every client come at once: a handshake costs about 1 ms, so one takes a step when
everybody else has been looked at, and the others wait their turn. A turn is one step without
waiting: whoever has sent nothing, or stops in the middle, holds no turn and keeps nobody waiting.
Who has begun goes before who has not, and of one source they alternate: otherwise all of a thousand
clients are half done for the whole time, and each waits as long as the last one.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from typing import Final

import trio

from chatmail.adapters.net.crowds import source_of
from chatmail.adapters.net.errors import TRANSPORT_ERRORS, PeerGone
from chatmail.adapters.net.tls import TlsKeeper, TlsPurpose
from chatmail.adapters.net.tls_stream import TlsStream
from chatmail.adapters.net.turns import Turns

HANDSHAKE_S: Final = 10.0

_BY_ALPN: Final = {"imap": TlsPurpose.IMAP, "smtp": TlsPurpose.SUBMISSION}


class Handshaker:
    """How one listener's connections become TLS."""

    __slots__ = ("_keeper", "_purpose", "_spoken", "_turns")

    def __init__(
        self,
        keeper: TlsKeeper,
        purpose: TlsPurpose,
        turns: Turns,
        spoken: Collection[str],
    ) -> None:
        """Args:  spoken: the ALPN protocols served here; others of ours are refused."""
        self._keeper = keeper
        self._purpose = purpose
        self._turns = turns
        self._spoken = frozenset(spoken)

    def wrap(self, sock: socket.socket) -> TlsStream:
        """Put TLS on a socket. Raises:  PeerGone: the peer left already; the socket is closed."""
        try:
            return TlsStream(sock, self._keeper.context(self._purpose))
        except OSError as error:
            raise PeerGone("gone before the handshake") from error

    async def handshake(self, stream: TlsStream, peer_host: str = "") -> None:
        """Finish the handshake.

        Args:  peer_host: the peer's numeric address; sources take turns.
        Waits at most 10 s for the peer, not counting the wait for a turn.
        Raises:  PeerGone: it failed, took too long, or agreed on something not served here.
        """
        try:
            await self._take_turns(stream, source_of(peer_host))
        except (*TRANSPORT_ERRORS, trio.TooSlowError, OSError) as error:
            raise PeerGone("handshake failed") from error
        self._judge(stream)

    async def _take_turns(self, stream: TlsStream, source: str) -> None:
        left = HANDSHAKE_S
        has_begun = False
        while True:
            began = trio.current_time()
            with trio.fail_after(max(left, 0)):
                await stream.wait_to_shake()
            left -= trio.current_time() - began
            # A worker of its own each, so that a source in a hurry ends one for each it begins.
            await self._turns.take(("handshake", has_begun, source), goes_first=has_begun)
            if stream.shake_once():
                return
            has_begun = True

    def _judge(self, stream: TlsStream) -> None:
        alpn = stream.selected_alpn_protocol()
        if alpn is not None and alpn not in self._spoken:
            raise PeerGone("protocol of another face")
        # 443 lets TLS 1.2 in for HTTP; mail by ALPN there keeps the rule of its own ports.
        purpose = _BY_ALPN.get(alpn, self._purpose) if alpn else self._purpose
        if self._purpose is not TlsPurpose.RELAY and not self._keeper.policy.allows(
            purpose, stream.tls_version
        ):
            raise PeerGone("TLS version too low")
