"""TLS handshakes in an orderly queue.

A restart makes every client come at once: a handshake costs about 1 ms, so a few take a step
between two looks at everybody else, and the others wait their turn. A turn is one step without
waiting: whoever has sent nothing, or stops in the middle, holds no turn and keeps nobody waiting.
Who has begun goes before who has not: otherwise all of a thousand clients are half done for the
whole time, and each waits as long as the last one.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Final

import trio

from chatmail.adapters.net.errors import TRANSPORT_ERRORS, PeerGone
from chatmail.adapters.net.tls import TlsKeeper, TlsPurpose
from chatmail.adapters.net.tls_stream import TlsStream

HANDSHAKE_S: Final = 10.0
CONCURRENT: Final = 4
"""So many milliseconds a flood of connections takes of everybody else's time at once."""
NEWCOMERS_SHARE: Final = 4

_BY_ALPN: Final = {"imap": TlsPurpose.IMAP, "smtp": TlsPurpose.SUBMISSION}


class Turns:
    """Turns to take a step, in the order of asking; those who have begun come first.

    Of four turns given away one goes to a newcomer all the same: nobody keeps the others out by
    sending a handshake in crumbs.
    """

    __slots__ = ("_begun", "_free", "_given", "_new")

    def __init__(self, count: int) -> None:
        self._free = count
        self._given = 0
        self._begun = trio.lowlevel.ParkingLot()
        self._new = trio.lowlevel.ParkingLot()

    @property
    def free(self) -> int:
        """Return how many are not taken."""
        return self._free

    @asynccontextmanager
    async def one(self, *, has_begun: bool) -> AsyncIterator[None]:
        """Hold a turn; always a checkpoint."""
        if self._free:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._free -= 1
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            await (self._begun if has_begun else self._new).park()
        try:
            yield
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        self._given += 1
        first, second = self._begun, self._new
        if self._given % NEWCOMERS_SHARE == 0:
            first, second = second, first
        if not (first.unpark() or second.unpark()):
            self._free += 1


def handshake_turns() -> Turns:
    """Return the turns that all listeners of a process share."""
    return Turns(CONCURRENT)


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
        has_begun = False
        while True:
            began = trio.current_time()
            with trio.fail_after(max(left, 0)):
                await stream.wait_to_shake()
            left -= trio.current_time() - began
            async with self._turns.one(has_begun=has_begun):
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
