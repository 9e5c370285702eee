"""Who the client is, behind proxies the operator trusts."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, TypeAlias

from quart import request

Network: TypeAlias = IPv4Network | IPv6Network

MAX_HOPS: Final = 20
"""More entries than any chain of proxies writes; the rest of a longer header is not looked at."""

_IPV6_SITE_BITS: Final = 64


def client_address(peer: str, forwarded_for: str | None, trusted: Sequence[Network]) -> str:
    """Return the client's address: the peer, or what a trusted proxy says of it.

    Args:  peer: the connection's other end. forwarded_for: the X-Forwarded-For field.
    Returns:  the rightmost hop that is no trusted proxy; the peer when the field is none of its
        business or cannot be read.
    Source:  spec admin 1.5.
    """
    if not forwarded_for or not _is_within(peer, trusted):
        return peer
    hops = forwarded_for.rsplit(",", MAX_HOPS)[-MAX_HOPS:]
    for hop in reversed(hops):
        address = _parse(hop.strip())
        if address is None:
            return peer
        if not _is_within(str(address), trusted):
            return str(address)
    return peer


def peer_address() -> str:
    """Return the other end of the current request's connection."""
    client = request.scope.get("client")
    return client[0] if client else ""


def is_loopback(address: str) -> bool:
    """Say whether the address is this machine's own; such peers are exempt from limits."""
    parsed = _parse(address)
    return parsed is not None and parsed.is_loopback


def budget_key(address: str) -> str:
    """Return what a limit per source counts by: the IPv4 address, the IPv6 /64."""
    parsed = _parse(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, _IPV6_SITE_BITS), strict=False))
    return address if parsed is None else str(parsed)


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _is_within(text: str, networks: Sequence[Network]) -> bool:
    address = _parse(text)
    return address is not None and any(address in network for network in networks)
