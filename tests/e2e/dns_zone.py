"""A private authoritative DNS server on loopback, UDP and TCP, whose zones change while it runs.

It answers for every name there is: what has no record does not exist. Names can be made to fail in
the ways real servers do. Every query is kept, so that a test can say who asked for what, and that
nobody asked.
"""

from __future__ import annotations

import contextlib
import enum
import random
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Self

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from tests.patience import PATIENCE_S
from tests.ports import draw_port

TTL_S = 60
UDP_OCTETS = 1232
_CHAIN = 16
"""CNAMEs followed in one answer; a longer chain, or a loop, is answered as far as it goes."""


class Trouble(enum.Enum):
    """How a name fails."""

    SERVFAIL = "servfail"
    REFUSED = "refused"
    SILENCE = "silence"  # no answer at all
    GARBAGE = "garbage"  # octets that are no message
    FORGED = "forged"  # an answer to another question
    CUT = "cut"  # truncated over UDP, closed over TCP


@dataclass(frozen=True)
class Query:
    """One question as it came in; `name` is in lower case without its final dot."""

    name: str
    type: str
    over_tcp: bool = False


@dataclass
class Zone:
    """Records by (name, type), in the text of a zone file.

    >>> zone.put("a.test", "MX", "10 a.test.")
    """

    records: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    troubles: dict[str, Trouble] = field(default_factory=dict)
    delays_s: dict[str, float] = field(default_factory=dict)
    lies: dict[str, dict[tuple[str, str], list[str]]] = field(default_factory=dict)
    queries: list[Query] = field(default_factory=list)
    _changing: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def put(self, name: str, kind: str, *texts: str) -> None:
        """Set the records of a name and type; none: there is no such record."""
        key = (_plain(name), kind)
        with self._changing:
            changed = {k: v for k, v in self.records.items() if k != key}
            if texts:
                changed[key] = list(texts)
            self.records = changed  # at once: who asks meanwhile gets the old or the new

    def put_txt(self, name: str, text: str) -> None:
        """Set one TXT record, cut into strings of at most 255 octets."""
        pieces = [text[at : at + 255] for at in range(0, len(text), 255)] or [""]
        self.put(name, "TXT", " ".join('"' + piece.replace('"', '\\"') + '"' for piece in pieces))

    def forget(self, name: str) -> None:
        """Remove a name with everything below it."""
        end = "." + _plain(name)
        with self._changing:
            kept = {k: v for k, v in self.records.items() if not ("." + k[0]).endswith(end)}
            self.records = kept

    @contextlib.contextmanager
    def trouble(self, trouble: Trouble, *names: str) -> Iterator[None]:
        """Have names fail for a while."""
        plain = [_plain(name) for name in names]
        self.troubles = {**self.troubles, **dict.fromkeys(plain, trouble)}
        try:
            yield
        finally:
            self.troubles = {k: v for k, v in self.troubles.items() if k not in plain}

    @contextlib.contextmanager
    def lying(self, name: str, records: dict[tuple[str, str], list[str]]) -> Iterator[None]:
        """Have answers about a name bring records of other names along."""
        self.lies = {**self.lies, _plain(name): records}
        try:
            yield
        finally:
            self.lies = {k: v for k, v in self.lies.items() if k != _plain(name)}

    def asked(self, name: str, kind: str | None = None) -> int:
        """Return how often a name was asked for, by one type or by any."""
        return sum(q.name == _plain(name) and kind in (None, q.type) for q in self.queries)

    def forget_queries(self) -> None:
        """Count from here on."""
        self.queries.clear()

    # --- answers ------------------------------------------------------------------------------

    def answer(self, octets: bytes, *, over_tcp: bool) -> bytes | None:
        """Return the answer to a query, None for silence."""
        try:
            query = dns.message.from_wire(octets)
            question = query.question[0]
        except (dns.exception.DNSException, IndexError):
            return None
        name = _plain(question.name.to_text())
        self.queries.append(Query(name, dns.rdatatype.to_text(question.rdtype), over_tcp))
        if delay_s := self.delays_s.get(name):
            time.sleep(delay_s)
        if (trouble := self.troubles.get(name)) is not None:
            return _troubled(trouble, query, over_tcp=over_tcp)
        response = dns.message.make_response(query, recursion_available=True)
        response.flags |= dns.flags.AA
        self._fill(response, name, question.rdtype)
        for (other, kind), texts in self.lies.get(name, {}).items():
            response.answer.append(_rrset(other, kind, texts))
            response.additional.append(_rrset(other, kind, texts))
        limit = 65535 if over_tcp else min(UDP_OCTETS, max(512, query.payload))
        try:
            return response.to_wire(max_size=limit)
        except dns.exception.TooBig:
            return _bare(query, dns.rcode.NOERROR, dns.flags.TC)

    def _fill(self, response: dns.message.Message, name: str, rdtype: int) -> None:
        kind = dns.rdatatype.to_text(dns.rdatatype.RdataType(rdtype))
        records = self.records
        for _ in range(_CHAIN):
            target = records.get((name, "CNAME"))
            if target is None or kind == "CNAME":
                break
            response.answer.append(_rrset(name, "CNAME", target))
            name = _plain(target[0])
        if texts := records.get((name, kind)):
            response.answer.append(_rrset(name, kind, texts))
        elif not any(known == name or known.endswith("." + name) for known, _ in records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        if not response.answer:
            apex = ".".join(name.split(".")[-2:])
            soa = f"ns.{apex}. hostmaster.{apex}. 1 60 60 60 1"
            response.authority.append(_rrset(apex, "SOA", [soa]))


def _plain(name: str) -> str:
    return name.rstrip(".").lower()


def _rrset(name: str, kind: str, texts: Iterable[str]) -> dns.rrset.RRset:
    return dns.rrset.from_text_list(name + ".", TTL_S, "IN", kind, list(texts))


def _bare(query: dns.message.Message, rcode: dns.rcode.Rcode, flags: int = 0) -> bytes:
    response = dns.message.make_response(query, recursion_available=True)
    response.set_rcode(rcode)
    response.flags |= flags
    return response.to_wire()


def _troubled(trouble: Trouble, query: dns.message.Message, *, over_tcp: bool) -> bytes | None:
    if trouble is Trouble.SERVFAIL:
        return _bare(query, dns.rcode.SERVFAIL)
    if trouble is Trouble.REFUSED:
        return _bare(query, dns.rcode.REFUSED)
    if trouble is Trouble.GARBAGE:
        return query.to_wire()[:2] + random.Random(7).randbytes(200)
    if trouble is Trouble.FORGED:
        other = dns.message.make_query("forged.test.", "A")
        other.id = query.id
        response = dns.message.make_response(other)
        response.answer.append(_rrset("forged.test", "A", ["127.0.0.1"]))
        return response.to_wire()
    if trouble is Trouble.CUT and not over_tcp:
        return _bare(query, dns.rcode.NOERROR, dns.flags.TC)
    return None


class DnsServer:
    """The server: a thread for UDP, one for TCP, and one for each delayed or TCP query."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.zone = Zone()
        self.udp, self.tcp = _sockets(address)
        self.address, self.port = self.udp.getsockname()
        self._threads = [
            threading.Thread(target=self._serve_udp, daemon=True),
            threading.Thread(target=self._serve_tcp, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def endpoint(self) -> str:
        """Address and port as configuration files write them."""
        return f"{self.address}:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop answering."""
        for listener in (self.udp, self.tcp):
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _serve_udp(self) -> None:
        while True:
            try:
                octets, peer = self.udp.recvfrom(65535)
            except OSError:
                return
            if not octets and not peer:  # what shutdown leaves
                return
            if self.zone.delays_s:
                threading.Thread(target=self._reply, args=(octets, peer), daemon=True).start()
            else:
                self._reply(octets, peer)

    def _reply(self, octets: bytes, peer: tuple[str, int]) -> None:
        answer = self.zone.answer(octets, over_tcp=False)
        if answer is not None:
            with contextlib.suppress(OSError):
                self.udp.sendto(answer, peer)

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(20)
            stream = connection.makefile("rb")
            while len(head := stream.read(2)) == 2:
                answer = self.zone.answer(stream.read(struct.unpack("!H", head)[0]), over_tcp=True)
                if answer is None:
                    return
                connection.sendall(struct.pack("!H", len(answer)) + answer)


def _sockets(address: str) -> tuple[socket.socket, socket.socket]:
    """Bind the same port for both, below the range that outgoing connections take theirs from."""
    while True:
        port = draw_port()
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp = socket.socket()
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            udp.bind((address, port))
            tcp.bind((address, port))
            tcp.listen(64)
        except OSError:
            udp.close()
            tcp.close()
            continue
        return udp, tcp
