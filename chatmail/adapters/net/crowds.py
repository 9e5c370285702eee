"""How many connections a protocol has, in all and from one source."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import attrs


@attrs.frozen
class ConnectionLimits:
    """`per_source` 0 means a fifth of `total` (spec mail 0, federation-web B1.7)."""

    total: int
    per_source: int = 0

    def of_one_source(self) -> int:
        """Return the limit for one source."""
        return self.per_source or max(self.total // 5, 1)


class Crowd:
    """The connections of one protocol over all its listeners (143, 993 and 443 are one crowd).

    Sources live in memory only, while they are connected.
    """

    __slots__ = ("_by_source", "_limits", "present", "refused")

    def __init__(self, limits: Callable[[], ConnectionLimits]) -> None:
        """Args:  limits: asked at each arrival, so a changed setting holds at once."""
        self.present = 0
        self.refused = 0
        self._limits = limits
        self._by_source: dict[str, int] = {}

    @property
    def sources(self) -> int:
        """How many sources are connected; loopback is none."""
        return len(self._by_source)

    def enter(self, host: str) -> bool:
        """Count an arrival; False: a limit is reached, and it is not counted.

        Loopback is exempt from the limit per source: local proxies and tests (spec admin 1.5).
        """
        limits = self._limits()
        source = source_of(host)
        here = self._by_source.get(source, 0)
        if self.present >= limits.total or (source and here >= limits.of_one_source()):
            self.refused += 1
            return False
        self.present += 1
        if source:
            self._by_source[source] = here + 1
        return True

    def leave(self, host: str) -> None:
        """Count a departure of one that entered."""
        self.present -= 1
        source = source_of(host)
        here = self._by_source.get(source, 0)
        if here > 1:
            self._by_source[source] = here - 1
        else:
            self._by_source.pop(source, None)


def source_of(host: str) -> str:
    """Return what counts as one source: an IPv4 address, an IPv6 /64; `""` for loopback.

    Args:  host: a numeric address as the kernel gives it.
    """
    if ":" not in host:
        return "" if host.startswith("127.") else host
    address = ipaddress.IPv6Address(host.partition("%")[0])
    if address.ipv4_mapped:
        return source_of(str(address.ipv4_mapped))
    # Whoever has one IPv6 address has its whole /64.
    return "" if address.is_loopback else f"{int(address) >> 64:x}"
