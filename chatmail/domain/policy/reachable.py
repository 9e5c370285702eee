"""Which addresses this relay may connect to for the sake of a message.

Whoever writes a recipient's domain, or its DNS, chooses where we connect: that must not lead into
this machine, its network, or the metadata service of its cloud (server-side request forgery).
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable
from typing import Final, TypeAlias

import attrs

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class AddressClass(enum.Enum):
    """What kind of place an address is."""

    PUBLIC = "public"
    LOOPBACK = "loopback"
    PRIVATE = "private"  # RFC 1918, ULA, shared address space, benchmarks
    NEVER = "never"  # link-local, multicast, reserved, cloud metadata


@attrs.frozen(kw_only=True)
class AddressScope:
    """What is allowed beyond public addresses, and where we listen ourselves.

    Attributes:
        own_listeners: (IP address, port) as bound; a wildcard stands for every own address.
        own_addresses: IP addresses of this machine, and those it is known by outside.
    """

    allows_loopback: bool = False
    allows_private: bool = False
    own_listeners: frozenset[tuple[str, int]] = frozenset()
    own_addresses: frozenset[str] = frozenset()


def address_scope(
    mode: str,
    listeners: Iterable[tuple[str, int]],
    *,
    mail_domain: str,
    public_ips: Iterable[str] = (),
    own_addresses: Iterable[str] = (),
) -> AddressScope:
    """Return the scope that a setting means on this relay.

    Args:  mode: `federation.private_peers`: allow, refuse, or auto, which allows what we are
        ourselves: loopback for a relay on loopback, private networks for a relay in one.
        mail_domain: normalised.
    """
    listeners = frozenset(listeners)
    public_ips = tuple(public_ips)
    literal = mail_domain.removeprefix("[").removesuffix("]").removeprefix("IPv6:")
    own = {address_class(ip) for ip in (*public_ips, literal) if _parse(ip) is not None}
    listens = {_listens_on(host) for host, _ in listeners}
    is_local = listens == {AddressClass.LOOPBACK} or AddressClass.LOOPBACK in own
    return AddressScope(
        allows_loopback=mode == "allow" or (mode == "auto" and is_local),
        allows_private=mode == "allow" or (mode == "auto" and AddressClass.PRIVATE in own),
        own_listeners=listeners,
        own_addresses=frozenset((*own_addresses, *public_ips)),
    )


def may_connect(scope: AddressScope, host: str, port: int, is_operators_word: bool = False) -> bool:
    """Say whether a connection to an IP address may be made.

    Args:  host: an IP address, IPv6 without brackets; anything else is refused.
        is_operators_word: the operator named the target: every address but our own listeners.
    """
    address = _parse(host)
    if address is None or _is_own_listener(scope, address, port):
        return False
    if is_operators_word:
        return True
    match address_class(host):
        case AddressClass.PUBLIC:
            return True
        case AddressClass.LOOPBACK:
            return scope.allows_loopback
        case AddressClass.PRIVATE:
            return scope.allows_private
        case AddressClass.NEVER:
            return False


def address_class(host: str) -> AddressClass:
    """Say what kind of place an IP address is; what is no address may never be connected to.

    IPv6 addresses that carry an IPv4 address are what that one is. Ranges for documentation count
    as public: nothing is there, and examples stay usable.
    """
    address = _parse(host)
    if address is None:
        return AddressClass.NEVER
    if address.is_loopback:
        return AddressClass.LOOPBACK
    if _is_in(address, _NEVER):
        return AddressClass.NEVER
    if _is_in(address, _PRIVATE):
        return AddressClass.PRIVATE
    return AddressClass.PUBLIC


_NEVER: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",
            "169.254.0.0/16",  # link-local, and the metadata service of most clouds
            "192.0.0.0/24",  # RFC 6890; 192.0.0.192 is a metadata service
            "100.100.100.200/32",  # metadata service
            "168.63.129.16/32",  # the host of a virtual machine, in one cloud
            "192.88.99.0/24",  # 6to4 relays
            "224.0.0.0/4",
            "240.0.0.0/4",
            "::/128",
            "64:ff9b:1::/48",  # RFC 8215: what it leads to only the network knows
            "100::/64",
            "2001::/32",  # Teredo
            "fd00:ec2::/32",  # metadata services
            "fe80::/10",
            "ff00::/8",
        ),
    )
)
_PRIVATE: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            "10.0.0.0/8",
            "100.64.0.0/10",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "fc00::/7",
            "fec0::/10",
        ),
    )
)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052 §2.1
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")  # RFC 4291 §2.5.5.1
_FIRST_COMPATIBLE: Final = 0x10000
"""Below are `::` and `::1`, which are no IPv4 addresses."""


def _is_in(address: _Address, networks: Iterable[_Network]) -> bool:
    return any(address in network for network in networks)


def _parse(host: str) -> _Address | None:
    """Return an address, freed of what it is wrapped in."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return address if isinstance(address, ipaddress.IPv4Address) else _unwrap(address)


def _unwrap(address: ipaddress.IPv6Address) -> _Address:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    is_compatible = address in _COMPATIBLE and int(address) >= _FIRST_COMPATIBLE
    if address in _NAT64 or is_compatible:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _listens_on(host: str) -> AddressClass:
    address = _parse(host)
    if address is None or address.is_unspecified:
        return AddressClass.PUBLIC
    return address_class(host)


def _is_own_listener(scope: AddressScope, address: _Address, port: int) -> bool:
    # A connection to `0.0.0.0` or `::` arrives on this machine.
    is_here = (
        address.is_loopback
        or address.is_unspecified
        or address in {_parse(own) for own in scope.own_addresses}
    )
    for host, own_port in scope.own_listeners:
        if port != own_port:
            continue
        listening = _parse(host)
        if listening is None or listening == address:
            return True
        if is_here and (listening.is_unspecified or address.is_unspecified):
            return True
    return False
