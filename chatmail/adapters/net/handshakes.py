"""TLS handshakes in an orderly queue.

A restart makes every client come at once: a handshake costs about 1 ms, so a few take a step
between two looks at everybody else, and the others wait their turn. A turn is one step without
waiting: whoever has sent nothing, or stops in the middle, holds no turn and keeps nobody waiting.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from typing import Final

import trio

from chatmail.adapters.net.errors import TRANSPORT_ERRORS, PeerGone
from chatmail.adapters.net.tls import TlsKeeper, TlsPurpose
from chatmail.adapters.net.tls_stream import TlsStream

HANDSHAKE_S: Final = 10.0
CONCURRENT: Final = 4
"""So many milliseconds a flood of connections takes of everybody else's time at once."""

_BY_ALPN: Final = {"imap": TlsPurpose.IMAP, "smtp": TlsPurpose.SUBMISSION}


def handshake_turns() -> trio.Semaphore:
    """Return the turns that all listeners of a process share."""
    return trio.Semaphore(CONCURRENT, max_value=CONCURRENT)


class Handshaker:
    """How one listener's connections become TLS."""

    __slots__ = ("_keeper", "_purpose", "_spoken", "_turns")

    def __init__(
        self,
        keeper: TlsKeeper,
        purpose: TlsPurpose,
        turns: trio.Semaphore,
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

    async def handshake(self, stream: TlsStream) -> None:
        """Finish the handshake.

        Waits at most 10 s for the peer, not counting the wait for a turn.
        Raises:  PeerGone: it failed, took too long, or agreed on something not served here.
        """
        try:
            await self._take_turns(stream)
        except (*TRANSPORT_ERRORS, trio.TooSlowError, OSError) as error:
            raise PeerGone("handshake failed") from error
        self._judge(stream)

    async def _take_turns(self, stream: TlsStream) -> None:
        left = HANDSHAKE_S
        while True:
            began = trio.current_time()
            with trio.fail_after(max(left, 0)):
                await stream.wait_to_shake()
            left -= trio.current_time() - began
            async with self._turns:
                if stream.shake_once():
                    return

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
