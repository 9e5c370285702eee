"""What a configuration value may look like: sizes, durations, addresses, switches.

Every function takes the raw value (what TOML gave, or `Text` from the environment) and returns
the typed one, or raises ValueError with a sentence for the operator.
"""

from __future__ import annotations

import ipaddress
import json
import re
from pathlib import Path
from typing import NewType

import attrs

from chatmail.domain.formats.amounts import read_boolean, read_duration, read_size

Size = NewType("Size", int)
"""Octets."""
Seconds = NewType("Seconds", float)
"""A duration; 0 is off."""
Percent = NewType("Percent", int)
Port = NewType("Port", int)
Targets = NewType("Targets", tuple[str, ...])


class Text(str):
    """A value that came as text whatever its key wants: environment, or expanded `${…}`."""

    __slots__ = ()


def quoted(raw: object) -> str:
    """Return a value the way the file would spell it."""
    return json.dumps(raw, ensure_ascii=False, default=str)


def boolean(raw: object) -> bool:
    """Read a switch."""
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, Text):
        return read_boolean(raw)
    raise ValueError("is not true or false")


def integer(raw: object) -> int:
    """Read a whole number, 0 or more."""
    if isinstance(raw, Text) and re.fullmatch(r"\d{1,15}", raw.strip()):
        return int(raw)
    if isinstance(raw, bool) or not isinstance(raw, int):
        raise ValueError("is not a whole number")
    if raw < 0:
        raise ValueError("is negative")
    return raw


def number(raw: object) -> float:
    """Read a number, 0 or more; `off` is 0."""
    if isinstance(raw, str) and raw.strip().lower() == "off":
        return 0.0
    if isinstance(raw, Text):
        try:
            raw = float(raw)
        except ValueError:
            raise ValueError("is not a number") from None
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise ValueError("is not a number")
    if not 0 <= raw < float("inf"):
        raise ValueError("is negative or infinite")
    return float(raw)


def string(raw: object) -> str:
    """Read a text."""
    if not isinstance(raw, str):
        raise ValueError("is not a text in quotes")
    return str(raw)


def size(raw: object) -> Size:
    """Read a size: `30M`, `1G 512M`, or a bare number of octets (spec admin 1.6).

    A trailing `/s` of a rate is allowed; `off` is 0.
    """
    if not isinstance(raw, str):
        return Size(integer(raw))
    text = raw.strip().removesuffix("/s")
    if text.lower() == "off":
        return Size(0)
    return Size(read_size(text))


def duration(raw: object) -> Seconds:
    """Read a duration: `90d`, `1d12h`, or bare seconds; `off` and 0 are off (spec admin 1.6)."""
    if not isinstance(raw, str):
        return Seconds(number(raw))
    text = raw.strip().replace(" ", "")
    if text.lower() in ("off", "-"):
        return Seconds(0.0)
    return Seconds(float(read_duration(text)))


def percent(raw: object) -> Percent:
    """Read a percentage: 75 or `75%`."""
    value = integer(Text(raw.strip().removesuffix("%")) if isinstance(raw, str) else raw)
    if value > 100:
        raise ValueError("is above 100 percent")
    return Percent(value)


def port(raw: object) -> Port:
    """Read a port number."""
    value = integer(raw)
    if value > 65535:
        raise ValueError("is above 65535, the last port")
    return Port(value)


def items(raw: object) -> list[object]:
    """Read a list; text from the environment is comma separated."""
    if isinstance(raw, Text):
        return [Text(item.strip()) for item in raw.split(",") if item.strip()]
    if not isinstance(raw, list):
        raise ValueError("is not a list")
    return list(raw)


def strings(raw: object) -> tuple[str, ...]:
    """Read a list of texts."""
    return tuple(string(item) for item in items(raw))


def durations(raw: object) -> tuple[Seconds, ...]:
    """Read a list of durations; one text with blanks between them will do."""
    parts = raw.replace(",", " ").split() if isinstance(raw, str) else items(raw)
    return tuple(duration(part) for part in parts)


def targets(raw: object) -> Targets:
    """Read log targets: one text or a list."""
    if isinstance(raw, str) and not isinstance(raw, Text):
        raw = [raw]
    return Targets(tuple(target for target in strings(raw) if target))


@attrs.frozen
class ListenAddress:
    """Where a face listens; `*` is every address of both families, `unix:PATH` has port 0."""

    host: str
    port: int

    @property
    def is_unix(self) -> bool:
        """Say whether this is a unix socket; its path is `host` behind `unix:`."""
        return self.host.startswith("unix:")

    @property
    def is_loopback(self) -> bool:
        """Say whether only this machine can reach it."""
        if self.is_unix or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        if self.is_unix:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listen_address(raw: object) -> ListenAddress:
    """Read `host:port`, `[v6]:port`, `*:port` or `unix:PATH`."""
    text = string(raw).strip()
    if text.startswith("unix:") and len(text) > len("unix:"):
        return ListenAddress(text, 0)
    text = re.sub(r"^(?:tcp|tls|udp)://", "", text)
    host, colon, port_text = text.rpartition(":")
    host = host or "*" if colon else host
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{quoted(text)}: write IPv6 as [address]:port")
    if not colon or not port_text.isdecimal() or int(port_text) > 65535:
        raise ValueError(f"{quoted(text)} is not host:port")
    return ListenAddress(host, int(port_text))


def listen_addresses(raw: object) -> tuple[ListenAddress, ...]:
    """Read the addresses of one face."""
    return tuple(listen_address(item) for item in items(raw))


IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def ip(raw: object) -> IpAddress | None:
    """Read an IP address, brackets allowed; empty is none."""
    text = string(raw).strip().removeprefix("[").removesuffix("]").removeprefix("IPv6:")
    if not text:
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise ValueError("is not an IP address") from None


def ips(raw: object) -> tuple[IpAddress, ...]:
    """Read a list of IP addresses; one text will do."""
    found = (ip(item) for item in ([raw] if type(raw) is str else items(raw)))
    return tuple(address for address in found if address is not None)


def networks(raw: object) -> tuple[IpNetwork, ...]:
    """Read a list of CIDR networks; a lone address is a network of one."""
    return tuple(_network(string(item)) for item in items(raw))


def _network(text: str) -> IpNetwork:
    try:
        return ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError(f"{quoted(text)} is not an address or CIDR network") from None


def path(raw: object) -> Path | None:
    """Read a path; empty is none."""
    text = string(raw)
    return Path(text) if text else None
