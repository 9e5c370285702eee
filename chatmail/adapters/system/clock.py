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
        # One system call for the lot: secrets.choice makes one per character, which was 3 % of
        # the cost of a message (its queue id). Octets beyond a multiple of the alphabet's size
        # are rejected, so there is no modulo bias.
        size = len(alphabet)
        if not 0 < size <= 256:
            raise ValueError("the alphabet needs 1 to 256 characters")
        limit = 256 - 256 % size
        drawn = ""
        while len(drawn) < length:
            wanted = (length - len(drawn)) * 2
            drawn += "".join(
                [alphabet[octet % size] for octet in secrets.token_bytes(wanted) if octet < limit]
            )
        return drawn[:length]
