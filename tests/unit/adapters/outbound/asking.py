"""Questions to a resolver whose server says what a test wants."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import dns.message
import dns.rcode
import dns.rdata
import dns.rdatatype

from chatmail.adapters.outbound.resolver import TrioResolver
from chatmail.domain.ports.remote import DnsFault, MxAnswer
from tests.unit.adapters.outbound.dns_peer import Answerer, dns_server
from tests.unit.fakes.system import FakeClock

Value = TypeVar("Value")


def resolver_on(
    *servers: tuple[str, int],
    clock: FakeClock | None = None,
    ipv6: bool = True,
    prefers_ipv6: bool = False,
) -> TrioResolver:
    return TrioResolver(servers, clock or FakeClock(), ipv6=ipv6, prefers_ipv6=lambda: prefers_ipv6)


async def ask(
    answer: Answerer,
    question: Callable[[TrioResolver], Awaitable[Value]],
    *,
    ipv6: bool = True,
    prefers_ipv6: bool = False,
) -> Value:
    async with dns_server(answer) as address:
        return await question(resolver_on(address, ipv6=ipv6, prefers_ipv6=prefers_ipv6))


def mx_hosts(answer: MxAnswer | DnsFault) -> list[str]:
    assert isinstance(answer, MxAnswer)
    return [host.host for host in answer.hosts]


def rcode(code: dns.rcode.Rcode) -> Answerer:
    def answer(query: dns.message.Message) -> bytes:
        response = dns.message.make_response(query)
        response.set_rcode(code)
        return response.to_wire()

    return answer
