"""Who the client is, behind proxies the operator trusts."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, TypeAlias

from quart import request

Network: TypeAlias = IPv4Network | IPv6Network

MAX_HOPS: Final = 20
"""More entries than any chain of proxies writes; the rest of a longer header is not looked at."""


def client_address(peer: str, forwarded_for: str | None, trusted: tuple[str, ...]) -> str:
    """Return the client's address: the peer, or what a trusted proxy says of it.

    Args:  peer: the connection's other end. forwarded_for: the X-Forwarded-For field.
    Returns:  the rightmost hop that is no trusted proxy; the peer when the field is none of its
        business or cannot be read.
    Source:  spec admin 1.5.
    """
    networks = _networks(trusted)
    if not forwarded_for or not _is_within(peer, networks):
        return peer
    hops = forwarded_for.rsplit(",", MAX_HOPS)[-MAX_HOPS:]
    for hop in reversed(hops):
        address = _parse(hop.strip())
        if address is None:
            return peer
        if not _is_within(str(address), networks):
            return str(address)
    return peer


def peer_address() -> str:
    """Return the other end of the current request's connection."""
    client = request.scope.get("client")
    return client[0] if client else ""


def is_loopback(address: str) -> bool:
    """Say whether the address is this machine's own."""
    parsed = _parse(address)
    return parsed is not None and parsed.is_loopback


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _is_within(text: str, networks: tuple[Network, ...]) -> bool:
    address = _parse(text)
    return address is not None and any(address in network for network in networks)


@lru_cache(maxsize=4)
def _networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)
