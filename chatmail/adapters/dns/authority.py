"""DNS answers from a zone's own servers: the walk over NS records, past all caches.

A change an operator has just made is seen at once; a resolver would go on with what it has.
Source:  spec federation-web C2.1; RFC 1034 §4.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

import attrs
import dns.asyncbackend
import dns.asyncquery
import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.nameserver
import dns.rcode
import dns.rdatatype
import dns.resolver
import trio

from chatmail.domain.formats.zone import RecordType
from chatmail.domain.ports.remote import DnsFault

Show: TypeAlias = Callable[[Any], str]

DNS_PORT: Final = 53
QUERY_S: Final = 3.0
ANSWER_S: Final = 5.0
REMEMBER_S: Final = 60.0
MUTE_S: Final = 10.0
"""After a silence the resolver is not asked again for so long: a check has dozens of questions."""
MAX_ZONES: Final = 64
MAX_SERVERS: Final = 6
MAX_RECORDS: Final = 50


@attrs.frozen
class _Zone:
    """A zone's servers, and until when they are asked without looking again."""

    origin: dns.name.Name
    servers: tuple[str, ...]
    until: float


class AuthoritativeReader:
    """`ZoneReader` on dnspython.

    Cost: up to a dozen queries for the first name of a zone, one for each further record.
    """

    def __init__(self, servers: Sequence[tuple[str, int]] = (), port: int = DNS_PORT) -> None:
        """Args:  servers: resolvers to ask; empty: the system's. port: of authoritative servers."""
        self._port = port
        self._backend = dns.asyncbackend.get_backend("trio")
        self.ask_at(servers)

    def ask_at(self, servers: Sequence[tuple[str, int]]) -> None:
        """Ask these from now on, and forget what others said. Sync."""
        self._resolver = _resolver(servers)
        self._zones: list[_Zone] = []
        self._mute_until = float("-inf")

    async def read(self, name: str, type: RecordType) -> tuple[str, ...] | DnsFault:
        """Return the records of one type at a name; CNAMEs are not followed."""
        try:
            wanted = dns.name.from_text(name)
        except (dns.exception.DNSException, ValueError):
            return ()
        kind = dns.rdatatype.from_text(type)
        answer: dns.message.Message | None = None
        with trio.move_on_after(2 * ANSWER_S):
            zone = await self._zone(wanted)
            servers = () if zone is None else zone.servers
            answer = await self._ask_servers(servers, wanted, kind)
        if answer is None:
            found = await self._ask_resolver(wanted, kind)
            if isinstance(found, DnsFault):
                return found
            answer = found
        return _texts(answer, wanted, kind)

    async def _zone(self, name: dns.name.Name) -> _Zone | None:
        now = trio.current_time()
        self._zones = [zone for zone in self._zones if zone.until > now][-MAX_ZONES:]
        for zone in self._zones:
            if name.is_subdomain(zone.origin):
                return zone
        if now < self._mute_until:
            return None
        try:
            origin = await dns.asyncresolver.zone_for_name(
                name, resolver=self._resolver, backend=self._backend
            )
            servers = await self._servers(origin)
        except (dns.exception.DNSException, OSError) as error:
            self._note(error)
            return None
        # A zone high up says nothing about what is delegated below it.
        if len(origin.labels) < 3:
            return None
        found = _Zone(origin, servers, now + REMEMBER_S)
        self._zones.append(found)
        return found

    async def _servers(self, origin: dns.name.Name) -> tuple[str, ...]:
        answer = await self._resolve(origin, dns.rdatatype.NS)
        found: list[str] = []
        for server in answer:
            for kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
                try:
                    found += [one.address for one in await self._resolve(server.target, kind)]
                except dns.exception.DNSException:
                    continue
            if len(found) >= MAX_SERVERS:
                break
        return tuple(found[:MAX_SERVERS])

    async def _resolve(
        self, name: dns.name.Name, kind: dns.rdatatype.RdataType
    ) -> dns.resolver.Answer:
        return await self._resolver.resolve(
            name, kind, lifetime=ANSWER_S, raise_on_no_answer=False, backend=self._backend
        )

    async def _ask_servers(
        self, servers: Iterable[str], name: dns.name.Name, kind: dns.rdatatype.RdataType
    ) -> dns.message.Message | None:
        """Return the first authoritative answer; None: nobody has one."""
        for server in servers:
            query = dns.message.make_query(name, kind)
            query.flags &= ~dns.flags.RD
            try:
                answer, _ = await dns.asyncquery.udp_with_fallback(
                    query, server, timeout=QUERY_S, port=self._port, backend=self._backend
                )
            except (dns.exception.DNSException, OSError, EOFError):
                continue
            is_word = answer.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)
            if is_word and answer.flags & dns.flags.AA:
                return answer
        return None

    async def _ask_resolver(
        self, name: dns.name.Name, kind: dns.rdatatype.RdataType
    ) -> dns.message.Message | DnsFault:
        if trio.current_time() < self._mute_until:
            return DnsFault.TIMEOUT
        try:
            answer = await self._resolve(name, kind)
        except dns.resolver.NXDOMAIN:
            return dns.message.Message()
        except dns.exception.Timeout as error:
            self._note(error)
            return DnsFault.TIMEOUT
        except (dns.exception.DNSException, OSError):
            return DnsFault.SERVFAIL
        return answer.response

    def _note(self, error: Exception) -> None:
        if isinstance(error, dns.exception.Timeout):
            self._mute_until = trio.current_time() + MUTE_S


def _resolver(servers: Sequence[tuple[str, int]]) -> dns.asyncresolver.Resolver:
    if not servers:
        try:
            return dns.asyncresolver.Resolver()
        except dns.resolver.NoResolverConfiguration:
            pass
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = [
        dns.nameserver.Do53Nameserver(host.strip("[]"), port) for host, port in servers
    ]
    return resolver


def _texts(
    answer: dns.message.Message, name: dns.name.Name, kind: dns.rdatatype.RdataType
) -> tuple[str, ...]:
    show = _SHOWN[RecordType(dns.rdatatype.to_text(kind))]
    rrsets = [one for one in answer.answer if one.name == name and one.rdtype == kind]
    return tuple(show(rdata) for rrset in rrsets for rdata in list(rrset)[:MAX_RECORDS])


def _name(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()


_SHOWN: Final[dict[RecordType, Show]] = {
    RecordType.A: lambda rdata: str(rdata.address),
    RecordType.AAAA: lambda rdata: str(rdata.address),
    RecordType.CNAME: lambda rdata: _name(rdata.target),
    RecordType.PTR: lambda rdata: _name(rdata.target),
    RecordType.MX: lambda rdata: f"{rdata.preference} {_name(rdata.exchange)}",
    RecordType.TXT: lambda rdata: b"".join(rdata.strings).decode("latin-1"),
    RecordType.SRV: lambda rdata: (
        f"{rdata.priority} {rdata.weight} {rdata.port} {_name(rdata.target)}"
    ),
    RecordType.CAA: lambda rdata: (
        f'{rdata.flags} {rdata.tag.decode("latin-1")} "{rdata.value.decode("latin-1")}"'
    ),
}
