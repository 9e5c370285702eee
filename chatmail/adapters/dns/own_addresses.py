"""Which public addresses this machine has."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import Final

_SOMEWHERE: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Addresses of documentation (RFC 5737, RFC 3849): nothing is ever sent to them."""

Source = Callable[[socket.AddressFamily, str], str | None]


def source_address(family: socket.AddressFamily, target: str) -> str | None:
    """Return the address this machine would send from; no packet leaves it."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((target, 9))
            return str(sock.getsockname()[0])
    except OSError:
        return None


def public_addresses(
    configured: Sequence[str], *, with_ipv6: bool = True, source: Source = source_address
) -> tuple[str, ...]:
    """Return the addresses the operator named, else the public ones found here.

    Behind address translation none is found: the operator has to name them then.
    """
    if configured:
        found = [text for text in configured]
    else:
        found = [text for family, target in _SOMEWHERE if (text := source(family, target))]
        found = [text for text in found if ipaddress.ip_address(text).is_global]
    kept = [text for text in found if with_ipv6 or ipaddress.ip_address(text).version == 4]
    return tuple(dict.fromkeys(kept))


def machine_addresses(source: Source = source_address) -> tuple[str, ...]:
    """Return the addresses this machine sends from, public or not."""
    return tuple(text for family, target in _SOMEWHERE if (text := source(family, target)))
