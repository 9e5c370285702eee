"""A name server on loopback that plays resolver and authority, told apart by the RD flag."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import trio


class NameServer:
    """Answers from two tables: what a resolver remembers, and what the zone says."""

    def __init__(self) -> None:
        self.remembered: dict[tuple[str, str], list[str]] = {}
        self.zone: dict[tuple[str, str], list[str]] = {}
        self.is_authority_mute = False
        self.is_lame = False
        self.rcode = dns.rcode.NOERROR
        self.asked: list[tuple[str, str, bool]] = []
        self.port = 0

    def answer(self, octets: bytes) -> bytes | None:
        query = dns.message.from_wire(octets)
        question = query.question[0]
        name, kind = question.name.to_text(), dns.rdatatype.to_text(question.rdtype)
        recursive = bool(query.flags & dns.flags.RD)
        self.asked.append((name, kind, recursive))
        if not recursive and self.is_authority_mute:
            return None
        response = dns.message.make_response(query)
        if recursive:
            response.flags |= dns.flags.RA
            response.set_rcode(self.rcode)
        elif not self.is_lame:
            response.flags |= dns.flags.AA
        table = self.remembered if recursive else self.zone
        found = table.get((name, kind))
        if found:
            response.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *found))
        return response.to_wire()


@asynccontextmanager
async def name_server() -> AsyncIterator[NameServer]:
    """Serve until the context is left."""
    server = NameServer()
    sock = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    await sock.bind(("127.0.0.1", 0))
    server.port = sock.getsockname()[1]

    async def serve() -> None:
        while True:
            octets, peer = await sock.recvfrom(4096)
            answer = server.answer(octets)
            if answer is not None:
                await sock.sendto(answer, peer)

    with sock:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            yield server
            nursery.cancel_scope.cancel()
