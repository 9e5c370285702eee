"""What a session has said and not yet written: whole replies, sent in one write."""

from __future__ import annotations

import trio

from chatmail.adapters.imap.services import ByteStream


class Output:
    """Octets that wait for the next flush, and the stream they go to."""

    __slots__ = ("_out", "_out_octets", "flushed_s", "stream")

    def __init__(self, stream: ByteStream, now_s: float) -> None:
        self.stream = stream
        self.flushed_s = now_s
        self._out: list[bytes] = []
        self._out_octets = 0

    def send(self, octets: bytes) -> None:
        """Queue octets for the next flush."""
        if octets:
            self._out.append(octets)
            self._out_octets += len(octets)

    async def flush(self) -> None:
        """Write what is queued, in one write."""
        if self._out:
            await self.stream.send_all(self.take_output())
            self.flushed_s = trio.current_time()

    @property
    def queued_octets(self) -> int:
        """How much is queued."""
        return self._out_octets

    def take_output(self) -> bytes:
        """Return what is queued and queue nothing."""
        out = self._out
        octets = out[0] if len(out) == 1 else b"".join(out)
        self._out = []
        self._out_octets = 0
        return octets
