"""Rates around logins: which bucket has which numbers, how long a failure waits.

Buckets follow the generic cell rate algorithm: one number per bucket, the theoretical arrival
time, tells how far it is drained. Time is always an argument.
"""

from __future__ import annotations

import ipaddress
import math
from functools import lru_cache
from typing import Final

import attrs

FIRST_DELAY_S: Final = 2.0
LONGEST_DELAY_S: Final = 30.0
UNAVAILABLE_DELAY_S: Final = 2.0

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@attrs.frozen(kw_only=True)
class Rate:
    """One kind of bucket: refilled at `per_s`, holding at most `burst`."""

    kind: str
    per_s: float
    burst: float


# Spec policy 2.9: 10 per 10 minutes with a refill of 1 a minute; 60 per 10 minutes.
FAILURES_PER_PAIR: Final = Rate(kind="login_failure", per_s=1 / 60, burst=10)
FAILURES_PER_PREFIX: Final = Rate(kind="login_failure_prefix", per_s=60 / 600, burst=60)
CREATIONS: Final = Rate(kind="creation", per_s=20, burst=20)
# Spec federation-web D3.8.
NEW_REQUESTS: Final = Rate(kind="new_request", per_s=2, burst=5)
TOKEN_FAILURES: Final = Rate(kind="token_failure", per_s=10 / 60, burst=10)


def creations_per_prefix(per_hour: int) -> Rate | None:
    """Return the rate of new accounts from one client prefix; None: no limit."""
    if per_hour <= 0:
        return None
    return Rate(kind="creation_prefix", per_s=per_hour / 3600, burst=per_hour)


def drained(arrival_s: float, now_s: float, per_s: float) -> float:
    """Return how many tokens a bucket lacks at `now_s`; `arrival_s` is its stored state."""
    return max(0.0, arrival_s - now_s) * per_s


def take(
    arrival_s: float, now_s: float, *, per_s: float, burst: float, cost: float = 1.0
) -> float | None:
    """Return the bucket's next state after taking `cost` tokens; None: it holds too few.

    Args:  arrival_s: the stored state; anything at or before `now_s` is a full bucket.
    """
    after = max(arrival_s, now_s) + cost / per_s
    # One part in a million forgives the rounding of sums of 1/per_s, never a whole token.
    return after if (after - now_s) * per_s <= burst * (1 + 1e-6) else None


def failure_delay_s(failures: float) -> float:
    """Return how long the reply to a failed login waits: 2 s, doubling up to 30 s.

    Args:  failures: tokens missing in the bucket of this source and account, this one included.
    Source:  spec mail 2.5.
    """
    # The bucket refills while the client waits, so a second failure reads as 1.97.
    count = max(1, math.ceil(failures - 0.01))
    return min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(count - 1, 8))


@attrs.frozen
class ClientPrefix:
    """Where a client comes from, as far as limits look. `is_exempt`: no limit per prefix."""

    key: str = attrs.field(repr=False)
    is_exempt: bool


def client_prefix(source: str, trusted_proxies: tuple[str, ...] = ()) -> ClientPrefix:
    """Return the prefix of a peer: IPv4 /32, IPv6 /64.

    Loopback, unix sockets (an empty `source`) and trusted proxies are exempt.
    Nothing is cached: clients' addresses are not kept (spec policy 2.9).
    """
    try:
        address = ipaddress.ip_address(source.partition("%")[0])
    except ValueError:
        return ClientPrefix(source, is_exempt=not source)
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        if mapped is None:
            return ClientPrefix(
                f"{int(address) >> 64:x}::/64",
                is_exempt=address.is_loopback or _is_trusted(address, trusted_proxies),
            )
        address = mapped
    return ClientPrefix(
        str(address), is_exempt=address.is_loopback or _is_trusted(address, trusted_proxies)
    )


def _is_trusted(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, proxies: tuple[str, ...]
) -> bool:
    return bool(proxies) and any(address in network for network in _networks(proxies))


@lru_cache(maxsize=4)
def _networks(proxies: tuple[str, ...]) -> tuple[_Network, ...]:
    return tuple(ipaddress.ip_network(text, strict=False) for text in proxies)
