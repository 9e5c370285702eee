"""DNS for the way out and for DKIM keys: dnspython on Trio, behind a bounded cache.

Invariant: an answer of any size and any nonsense becomes a few normalised values or a `DnsFault`;
no method raises.
Source:  spec federation-web.md A2.4, A2.5, A2.7, A2.8, A4.8.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address
from typing import Final, TypeAlias

import attrs
import dns.asyncresolver
import dns.exception
import dns.flags
import dns.name
import dns.rdata
import dns.resolver
import trio
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.ANY.TXT import TXT
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA

from chatmail.adapters.outbound.dns_cache import DnsCache
from chatmail.adapters.outbound.dns_exchange import BoundedNameserver
from chatmail.adapters.outbound.system_dns import SystemDns
from chatmail.domain.model.address import AddressError, is_literal, normalise_domain
from chatmail.domain.ports.remote import DnsFault, MxAnswer, MxHost
from chatmail.domain.ports.system import Clock

QUERY_S: Final = 5.0
TOTAL_S: Final = 10.0
MAX_MX: Final = 20
MAX_ADDRESSES: Final = 16
MAX_TXT: Final = 16
MAX_TXT_OCTETS: Final = 8192
MAX_ALIASES: Final = 8
MIN_TTL_S: Final = 30.0
MAX_TTL_S: Final = 3600.0
NEGATIVE_TTL_S: Final = 30.0
CONCURRENT: Final = 128

_EDNS_OCTETS: Final = 1232
_ENTRY_OCTETS: Final = 200
_CHANCE: Final = random.SystemRandom()
_LOCALHOST: Final = ("127.0.0.1", "::1")


@attrs.frozen
class _Records:
    """Values of one type: (preference, host), an IP address, or octets of a text."""

    values: tuple[tuple[int, str] | str | bytes, ...]
    is_validated: bool


_Said: TypeAlias = _Records | DnsFault


class TrioResolver:
    """`Resolver` on given servers, or on the system's."""

    def __init__(
        self,
        servers: Sequence[tuple[str, int]],
        clock: Clock,
        *,
        ipv6: bool,
        prefers_ipv6: Callable[[], bool],
    ) -> None:
        """Args:  servers: (IP address, port); empty: what resolv.conf and the hosts file say.
        ipv6: off: no address of that family is asked for or returned.
        """
        self._clock = clock
        self._has_ipv6 = ipv6
        self._prefers_ipv6 = prefers_ipv6
        self._turns = trio.Semaphore(CONCURRENT)
        self.ask_at(servers)

    def ask_at(self, servers: Sequence[tuple[str, int]]) -> None:
        """Ask these from now on, and forget what others said. Sync."""
        self._system = None if servers else SystemDns(self._clock)
        self._given = _resolver_on(servers) if servers else None
        self._cache: DnsCache[_Said] = DnsCache(self._clock)

    async def mx(self, domain: str) -> MxAnswer | DnsFault:
        """Return where mail of a domain goes (see `Resolver`).

        No hosts, and not `is_null`: there are records, and none of them is a host name.
        """
        said = await self._ask(domain, "MX")
        if isinstance(said, DnsFault):
            return said
        records = [value for value in said.values if isinstance(value, tuple)]
        if [host for _, host in records] == [""]:
            # RFC 7505: beside others the null record means nothing.
            return MxAnswer(hosts=(), is_null=True, is_validated=said.is_validated)
        hosts = [MxHost(preference, host) for preference, host in records if host]
        hosts.sort(key=lambda mx: (mx.preference, _CHANCE.random()))
        return MxAnswer(hosts=tuple(hosts[:MAX_MX]), is_validated=said.is_validated)

    async def addresses(self, host: str) -> tuple[str, ...] | DnsFault:
        """Return IP addresses in the order to try (see `Resolver`).

        Families take turns, the preferred one first, so that a host that is dead in one of them
        is reached in the other with the second attempt.
        """
        known = self._known_addresses(host)
        if known is not None:
            ipv4 = [ip for ip in known if ":" not in ip]
            ipv6 = [ip for ip in known if ":" in ip and self._has_ipv6]
            return self._in_order(ipv4, ipv6) or DnsFault.NO_DATA
        said: dict[str, _Said] = {}

        async def ask(kind: str) -> None:
            said[kind] = await self._ask(host, kind)

        kinds = ("A", "AAAA") if self._has_ipv6 else ("A",)
        for kind in kinds:
            if (cached := self._cache.get(host, kind)) is not None:
                said[kind] = cached
        if len(said) == len(kinds):
            pass  # as for every message but the first
        elif self._has_ipv6:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, "A")
                nursery.start_soon(ask, "AAAA")
        else:
            await ask("A")
        found = self._in_order(_texts(said.get("A")), _texts(said.get("AAAA")))
        return found or _fault_of(said.values())

    async def txt(self, name: str) -> tuple[bytes, ...] | DnsFault:
        """Return TXT records (see `Resolver`); longer ones than allowed are left out."""
        said = await self._ask(name, "TXT")
        if isinstance(said, DnsFault):
            return said
        return tuple(value for value in said.values if isinstance(value, bytes))

    def _known_addresses(self, host: str) -> tuple[str, ...] | None:
        """Return addresses that need no question; None: it has to be asked."""
        try:
            return (str(ip_address(host)),)
        except ValueError:
            pass
        if self._system is not None and (found := self._system.addresses(host)):
            return tuple(ip for ip in found if _is_address(ip))
        # RFC 6761 §6.3.
        return _LOCALHOST if host == "localhost" or host.endswith(".localhost") else None

    def _in_order(self, ipv4: Sequence[str], ipv6: Sequence[str]) -> tuple[str, ...]:
        first, second = (ipv6, ipv4) if self._prefers_ipv6() else (ipv4, ipv6)
        pairs = itertools.zip_longest(first, second)
        return tuple(ip for pair in pairs for ip in pair if ip is not None)[:MAX_ADDRESSES]

    async def _ask(self, name: str, kind: str) -> _Said:
        if (known := self._cache.get(name, kind)) is not None:
            return known
        said: _Said = DnsFault.TIMEOUT
        ttl_s = NEGATIVE_TTL_S
        with trio.move_on_after(TOTAL_S):
            async with self._turns:
                said, ttl_s = await self._follow(name, kind)
        if said not in (DnsFault.TIMEOUT, DnsFault.SERVFAIL):
            # Trouble is not remembered: the next attempt asks again, and attempts are rare.
            self._cache.put(name, kind, said, ttl_s=ttl_s, octets=_octets(name, said))
        return said

    async def _follow(self, name: str, kind: str) -> tuple[_Said, float]:
        """Ask, and ask again where a server leaves an alias to us."""
        resolver = self._given if self._system is None else self._system.resolver()
        if resolver is None:
            return DnsFault.SERVFAIL, 0.0
        _adjust(resolver)
        try:
            question = dns.name.from_text(name, dns.name.root)
        except (dns.exception.DNSException, ValueError):
            return DnsFault.NXDOMAIN, NEGATIVE_TTL_S  # no such name can be
        ttl_s = MAX_TTL_S
        for _ in range(MAX_ALIASES):
            try:
                answer = await resolver.resolve(question, kind, raise_on_no_answer=False)
            except dns.resolver.NXDOMAIN:
                return DnsFault.NXDOMAIN, NEGATIVE_TTL_S
            except dns.resolver.LifetimeTimeout:
                return DnsFault.TIMEOUT, 0.0
            except (dns.exception.DNSException, OSError, ValueError):
                return DnsFault.SERVFAIL, 0.0
            ttl_s = min(ttl_s, float(answer.chaining_result.minimum_ttl))
            if answer.rrset is not None:
                is_validated = bool(answer.response.flags & dns.flags.AD)
                values = _values(answer.rrset)
                return _Records(values, is_validated), max(MIN_TTL_S, ttl_s)
            if answer.canonical_name == question:
                return DnsFault.NO_DATA, NEGATIVE_TTL_S
            question = answer.canonical_name
        return DnsFault.SERVFAIL, 0.0


def _resolver_on(servers: Iterable[tuple[str, int]]) -> dns.asyncresolver.Resolver:
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = [BoundedNameserver(ip, port) for ip, port in servers]
    return resolver


def _adjust(resolver: dns.asyncresolver.Resolver) -> None:
    resolver.cache = None
    resolver.timeout = QUERY_S
    resolver.lifetime = TOTAL_S
    resolver.use_edns(0, 0, _EDNS_OCTETS)
    resolver.flags = dns.flags.RD | dns.flags.AD  # RFC 6840 §5.7: say what you validated


def _values(rrset: Iterable[dns.rdata.Rdata]) -> tuple[tuple[int, str] | str | bytes, ...]:
    """Return the usable values of an answer, bounded in number; MX records by preference."""
    hosts: list[tuple[int, str]] = []
    others: list[str | bytes] = []
    for rdata in rrset:
        match rdata:
            case MX():
                host = _host_name(rdata.exchange)
                if host is not None:
                    hosts.append((rdata.preference, host))
            case A() | AAAA() if len(others) < MAX_ADDRESSES:
                others.append(rdata.address)
            case TXT() if len(others) < MAX_TXT:
                text = b"".join(rdata.strings)
                if len(text) <= MAX_TXT_OCTETS:
                    others.append(text)
    # Of a thousand the best ones, and by chance among equal ones.
    _CHANCE.shuffle(hosts)
    hosts.sort(key=lambda record: record[0])
    return (*hosts[:MAX_MX], *others)


def _host_name(name: dns.name.Name) -> str | None:
    """Return a normalised name; "" is the root; None: no host can have this name."""
    if name == dns.name.root:
        return ""
    try:
        host = normalise_domain(name.to_text(omit_final_dot=True))
    except AddressError:
        return None
    # RFC 5321 §5.1: an MX record with an address in place of a name is none.
    return None if is_literal(host) else host


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _texts(said: _Said | None) -> list[str]:
    if said is None or isinstance(said, DnsFault):
        return []
    return [value for value in said.values if isinstance(value, str)]


def _fault_of(said: Iterable[_Said]) -> DnsFault:
    """Return the one fault of the questions for a host: trouble hides what might be there."""
    faults = {answer if isinstance(answer, DnsFault) else DnsFault.NO_DATA for answer in said}
    for fault in (DnsFault.TIMEOUT, DnsFault.SERVFAIL, DnsFault.NXDOMAIN):
        if fault in faults:
            return fault
    return DnsFault.NO_DATA


def _octets(name: str, said: _Said) -> int:
    values = () if isinstance(said, DnsFault) else said.values
    sizes = (len(value) if isinstance(value, str | bytes) else len(value[1]) for value in values)
    return _ENTRY_OCTETS + len(name) + sum(sizes)
