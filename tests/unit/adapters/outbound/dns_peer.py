"""A private DNS server on loopback, UDP and TCP, that says what a test wants."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import trio

Answerer = Callable[[dns.message.Message], bytes | None]
"""Query → octets of the response; None: silence."""


class Zone:
    """Records in zone-file form: `name ttl IN TYPE rdata`; names below are what exists."""

    def __init__(self, *lines: str, is_validated: bool = False) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.names: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.is_validated = is_validated
        self.rcodes: dict[str, dns.rcode.Rcode] = {}
        self.chases = True
        for line in lines:
            name, ttl, _, kind, rdata = line.split(" ", 4)
            self.records.setdefault((name, kind), []).append(f"{ttl} {rdata}")
            self.names.add(name)

    def __call__(self, query: dns.message.Message) -> bytes | None:
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        response = dns.message.make_response(query, recursion_available=True)
        if self.is_validated:
            response.flags |= dns.flags.AD
        if name in self.rcodes:
            response.set_rcode(self.rcodes[name])
            return response.to_wire()
        for _ in range(20):
            if self._add(response, name, kind) or not self._add(response, name, "CNAME"):
                break
            if not self.chases:
                break
            name = self.records[name, "CNAME"][0].partition(" ")[2].removesuffix(".")
        if not response.answer and name not in self.names:
            response.set_rcode(dns.rcode.NXDOMAIN)
        return response.to_wire(max_size=65535)

    def _add(self, response: dns.message.Message, name: str, kind: str) -> bool:
        found = self.records.get((name, kind))
        if not found:
            return False
        ttl = int(found[0].partition(" ")[0])
        texts = [text.partition(" ")[2] for text in found]
        response.answer.append(dns.rrset.from_text_list(name + ".", ttl, "IN", kind, texts))
        return True


def limited(answer: Answerer, *, udp_octets: int = 1232) -> Answerer:
    """Truncate what does not fit into UDP."""

    def over_udp(query: dns.message.Message) -> bytes | None:
        octets = answer(query)
        if octets is None or len(octets) <= udp_octets:
            return octets
        response = dns.message.make_response(query)
        response.flags |= dns.flags.TC
        return response.to_wire()

    return over_udp


async def _sockets() -> tuple[trio.socket.SocketType, list[trio.SocketListener]]:
    """Bind one port for both; where it is taken for TCP, another."""
    for _ in range(20):
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        udp = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
        try:
            await udp.bind(listeners[0].socket.getsockname())
        except OSError:
            udp.close()
            await listeners[0].aclose()
        else:
            return udp, listeners
    raise OSError("no port is free for both")


@asynccontextmanager
async def dns_server(answer: Answerer) -> AsyncIterator[tuple[str, int]]:
    """Serve both transports on one port; yield its address."""
    udp, listeners = await _sockets()
    address: tuple[str, int] = udp.getsockname()
    over_udp = limited(answer)

    async def serve_udp() -> None:
        while True:
            octets, source = await udp.recvfrom(65535)
            response = over_udp(dns.message.from_wire(octets))
            if response is not None:
                await udp.sendto(response, source)

    async def serve_tcp(stream: trio.SocketStream) -> None:
        octets = await stream.receive_some()
        response = answer(dns.message.from_wire(bytes(octets[2:])))
        if response is not None:
            await stream.send_all(len(response).to_bytes(2, "big") + response)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_udp)
        nursery.start_soon(trio.serve_listeners, serve_tcp, listeners)
        try:
            yield address
        finally:
            nursery.cancel_scope.cancel()
            udp.close()
