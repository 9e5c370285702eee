"""The system's own idea of name resolution: resolv.conf and the hosts file, as they are now."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

import dns.asyncresolver
import dns.resolver

from chatmail.adapters.outbound.dns_exchange import BoundedNameserver
from chatmail.domain.ports.system import Clock

RESOLV_CONF: Final = Path("/etc/resolv.conf")
HOSTS: Final = Path("/etc/hosts")
RECHECK_S: Final = 10.0
_MAX_HOSTS_OCTETS: Final = 1 << 20


class SystemDns:
    """Both files; each is looked at again after ten seconds at the earliest."""

    def __init__(self, clock: Clock, resolv_conf: Path = RESOLV_CONF, hosts: Path = HOSTS) -> None:
        self._clock = clock
        self._resolv_conf = resolv_conf
        self._hosts = hosts
        self._checked_s = -RECHECK_S
        self._seen: tuple[tuple[int, int], tuple[int, int]] | None = None
        self._resolver: dns.asyncresolver.Resolver | None = None
        self._addresses: dict[str, tuple[str, ...]] = {}

    def resolver(self) -> dns.asyncresolver.Resolver | None:
        """Return a resolver on the system's servers; None: there are none."""
        self._refresh()
        return self._resolver

    def addresses(self, host: str) -> tuple[str, ...]:
        """Return what the hosts file says of a normalised name."""
        self._refresh()
        return self._addresses.get(host, ())

    def _refresh(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._checked_s < RECHECK_S:
            return
        self._checked_s = now_s
        seen = _stamp(self._resolv_conf), _stamp(self._hosts)
        if seen == self._seen:
            return
        self._seen = seen
        self._resolver = None
        # ValueError: a line that is none; the next change of the file mends it.
        with contextlib.suppress(dns.resolver.NoResolverConfiguration, OSError, ValueError):
            resolver = dns.asyncresolver.Resolver(str(self._resolv_conf))
            resolver.nameservers = [BoundedNameserver(str(ip), 53) for ip in resolver.nameservers]
            self._resolver = resolver
        self._addresses = _read_hosts(self._hosts)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_ino


def _read_hosts(path: Path) -> dict[str, tuple[str, ...]]:
    """Read hosts(5): an address and its names on each line."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_HOSTS_OCTETS).decode("utf-8", "replace")
    except OSError:
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        for name in names:
            key = name.lower().removesuffix(".")
            found[key] = (*found.get(key, ()), address)
    return found
