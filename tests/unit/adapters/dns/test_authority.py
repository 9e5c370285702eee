"""Answers from a zone's own servers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import dns.rcode
import pytest

from chatmail.adapters.dns import authority
from chatmail.adapters.dns.authority import AuthoritativeReader
from chatmail.domain.formats.zone import RecordType
from chatmail.domain.ports.remote import DnsFault
from tests.unit.adapters.dns.servers import NameServer, name_server

DELEGATION = {
    ("chat.example.", "SOA"): ["ns.chat.example. root.chat.example. 1 2 3 4 5"],
    ("chat.example.", "NS"): ["ns.chat.example."],
    ("ns.chat.example.", "A"): ["127.0.0.1"],
}


@pytest.fixture
async def server() -> AsyncIterator[NameServer]:
    async with name_server() as server:
        server.remembered.update(DELEGATION)
        yield server


def reader(server: NameServer) -> AuthoritativeReader:
    return AuthoritativeReader((("127.0.0.1", server.port),), port=server.port)


async def test_the_zone_is_asked_and_not_the_resolvers_memory(server: NameServer) -> None:
    server.remembered["chat.example.", "MX"] = ["10 old.example."]
    server.zone["chat.example.", "MX"] = ["10 Chat.example."]
    assert await reader(server).read("chat.example", RecordType.MX) == ("10 chat.example",)


@pytest.mark.parametrize(
    ("kind", "data", "shown"),
    [
        (RecordType.A, "192.0.2.1", "192.0.2.1"),
        (RecordType.AAAA, "2001:db8:0::1", "2001:db8::1"),
        (RecordType.CNAME, "Mx.chat.example.", "mx.chat.example"),
        (RecordType.TXT, '"v=DKIM1;" "p=AA"', "v=DKIM1;p=AA"),
        (RecordType.SRV, "0 1 993 Mx.chat.example.", "0 1 993 mx.chat.example"),
        (RecordType.CAA, '0 issue "letsencrypt.org"', '0 issue "letsencrypt.org"'),
        (RecordType.PTR, "Mx.chat.example.", "mx.chat.example"),
    ],
)
async def test_records_are_shown_in_one_form(
    server: NameServer, kind: RecordType, data: str, shown: str
) -> None:
    server.zone["x.chat.example.", str(kind)] = [data]
    assert await reader(server).read("x.chat.example", kind) == (shown,)


async def test_the_servers_are_looked_up_once_a_minute(server: NameServer) -> None:
    found = reader(server)
    await found.read("a.chat.example", RecordType.A)
    before = len(server.asked)
    await found.read("b.chat.example", RecordType.A)
    assert server.asked[before:] == [("b.chat.example.", "A", False)]


async def test_nothing_is_there_is_an_answer(server: NameServer) -> None:
    assert await reader(server).read("chat.example", RecordType.TXT) == ()
    assert await reader(server).read("bad..name", RecordType.TXT) == ()
    assert await reader(server).read("x" * 64 + ".example", RecordType.TXT) == ()


async def test_a_lame_or_mute_server_makes_the_resolver_speak(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authority, "QUERY_S", 0.05)
    server.remembered["chat.example.", "A"] = ["192.0.2.5"]
    server.zone["chat.example.", "A"] = ["192.0.2.6"]
    server.is_lame = True
    assert await reader(server).read("chat.example", RecordType.A) == ("192.0.2.5",)
    server.is_lame, server.is_authority_mute = False, True
    assert await reader(server).read("chat.example", RecordType.A) == ("192.0.2.5",)


async def test_an_undelegated_name_is_asked_of_the_resolver(server: NameServer) -> None:
    server.remembered.clear()
    server.remembered["lone.example.", "A"] = ["192.0.2.5"]
    assert await reader(server).read("lone.example", RecordType.A) == ("192.0.2.5",)


async def test_broken_servers_are_a_fault(server: NameServer) -> None:
    server.remembered.clear()
    server.rcode = dns.rcode.SERVFAIL
    assert await reader(server).read("chat.example", RecordType.A) is DnsFault.SERVFAIL
    server.rcode = dns.rcode.NXDOMAIN
    assert await reader(server).read("chat.example", RecordType.A) == ()


async def test_silence_is_a_timeout(server: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authority, "ANSWER_S", 0.1)
    monkeypatch.setattr(server, "answer", lambda octets: None)
    assert await reader(server).read("chat.example", RecordType.A) is DnsFault.TIMEOUT


async def test_a_mute_resolver_is_asked_once_and_not_for_each_name(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authority, "ANSWER_S", 0.1)
    monkeypatch.setattr(server, "answer", lambda octets: server.asked.append(("", "", True)))
    found = reader(server)
    await found.read("chat.example", RecordType.A)
    before = len(server.asked)
    for number in range(20):
        name = f"n{number}.chat.example"
        assert await found.read(name, RecordType.A) is DnsFault.TIMEOUT
    assert len(server.asked) == before
