"""Time and chance from the operating system: the only place that asks for either."""

from __future__ import annotations

import secrets
import time


class SystemClock:
    """The machine's clocks."""

    def now_s(self) -> float:
        """Return unix time, seconds, UTC."""
        return time.time()

    def monotonic_s(self) -> float:
        """Return seconds since some fixed point; never jumps."""
        return time.monotonic()


class SystemEntropy:
    """The operating system's random source."""

    def octets(self, count: int) -> bytes:
        """Return `count` random octets."""
        return secrets.token_bytes(count)

    def text(self, alphabet: str, length: int) -> str:
        """Return `length` characters, each drawn evenly from `alphabet`."""
        # secrets.choice rejects samples beyond a multiple of the alphabet: no modulo bias.
        return "".join(secrets.choice(alphabet) for _ in range(length))
