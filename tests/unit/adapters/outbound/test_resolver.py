"""The resolver: mail hosts, faults, what is kept of answers."""

from __future__ import annotations

from typing import Any

import dns.message
import dns.rcode
import dns.rdata
import dns.rdatatype
import pytest
import trio

from chatmail.adapters.outbound import resolver as module
from chatmail.domain.ports.remote import DnsFault, MxAnswer, MxHost
from tests.unit.adapters.outbound.asking import ask, mx_hosts, rcode, resolver_on
from tests.unit.adapters.outbound.dns_peer import Answerer, Zone, dns_server
from tests.unit.fakes.system import FakeClock

# --- MX ------------------------------------------------------------------------------------------


async def test_hosts_come_by_preference() -> None:
    """A2.4."""
    zone = Zone(
        "a.example 300 IN MX 20 Second.example.",
        "a.example 300 IN MX 10 first.example.",
        "a.example 300 IN MX 30 third.example.",
    )
    answer = await ask(zone, lambda resolver: resolver.mx("a.example"))
    assert answer == MxAnswer(
        hosts=(
            MxHost(10, "first.example"),
            MxHost(20, "second.example"),
            MxHost(30, "third.example"),
        )
    )


async def test_equal_preferences_take_turns() -> None:
    zone = Zone(*(f"a.example 300 IN MX 10 m{number}.example." for number in range(6)))
    async with dns_server(zone) as address:
        resolver = resolver_on(address)
        orders = {tuple(mx_hosts(await resolver.mx("a.example"))) for _ in range(20)}
    assert len(orders) > 1
    assert len(zone.asked) == 1


async def test_the_null_record() -> None:
    answer = await ask(Zone("a.example 300 IN MX 0 ."), lambda resolver: resolver.mx("a.example"))
    assert answer == MxAnswer(hosts=(), is_null=True)


async def test_the_null_record_beside_others_means_nothing() -> None:
    zone = Zone("a.example 300 IN MX 0 .", "a.example 300 IN MX 10 m.example.")
    answer = await ask(zone, lambda resolver: resolver.mx("a.example"))
    assert answer == MxAnswer(hosts=(MxHost(10, "m.example"),))


async def test_aliases_are_followed() -> None:
    zone = Zone(
        "a.example 300 IN CNAME b.example.",
        "b.example 300 IN CNAME c.example.",
        "c.example 300 IN MX 10 m.example.",
    )
    assert mx_hosts(await ask(zone, lambda resolver: resolver.mx("a.example"))) == ["m.example"]


async def test_aliases_that_the_server_leaves_to_us_are_followed() -> None:
    zone = Zone(
        "a.example 300 IN CNAME b.example.",
        "b.example 300 IN CNAME c.example.",
        "c.example 300 IN MX 10 m.example.",
    )
    zone.chases = False
    assert mx_hosts(await ask(zone, lambda resolver: resolver.mx("a.example"))) == ["m.example"]


async def test_a_ring_of_aliases_ends() -> None:
    zone = Zone("a.example 300 IN CNAME b.example.", "b.example 300 IN CNAME a.example.")
    zone.chases = False
    answer = await ask(zone, lambda resolver: resolver.mx("a.example"))
    assert answer is DnsFault.SERVFAIL
    assert len(zone.asked) <= 8


async def test_a_thousand_records_are_looked_at_as_far_as_they_are_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Parsing all of them would hold up everybody for a good part of a second."""
    zone = Zone(
        *(f"a.example 300 IN MX {number % 30} m{number}.example." for number in range(1000))
    )
    parsed: list[int] = []
    from_wire = dns.rdata.from_wire_parser

    def counting(*arguments: Any) -> Any:
        parsed.append(1)
        return from_wire(*arguments)

    async with dns_server(zone) as address:
        resolver = resolver_on(address)
        answers = zone(dns.message.make_query("a.example", "MX"))
        assert answers is not None
        monkeypatch.setattr(dns.rdata, "from_wire_parser", counting)
        answer = await resolver.mx("a.example")
    assert isinstance(answer, MxAnswer)
    assert len(answer.hosts) == 20
    preferences = [host.preference for host in answer.hosts]
    assert preferences == sorted(preferences)
    assert max(preferences) < 20
    assert len(parsed) < 100


async def test_names_that_no_host_can_have_are_left_out() -> None:
    zone = Zone(
        r"a.example 300 IN MX 10 a\032b.example.",
        r"a.example 300 IN MX 10 127.0.0.1.",
        r"a.example 300 IN MX 10 \000\255.example.",
        r"a.example 300 IN MX 10 _mail.example.",
    )
    assert mx_hosts(await ask(zone, lambda resolver: resolver.mx("a.example"))) == ["_mail.example"]


async def test_records_without_a_usable_host_are_no_missing_records() -> None:
    """Else the domain itself would be tried in their place."""
    zone = Zone("a.example 300 IN MX 10 127.0.0.1.")
    assert await ask(zone, lambda resolver: resolver.mx("a.example")) == MxAnswer(hosts=())


async def test_what_the_server_validated_is_told() -> None:
    zone = Zone("a.example 300 IN MX 10 m.example.", is_validated=True)
    answer = await ask(zone, lambda resolver: resolver.mx("a.example"))
    assert isinstance(answer, MxAnswer)
    assert answer.is_validated


# --- faults --------------------------------------------------------------------------------------


def garbage(query: dns.message.Message) -> bytes:
    return query.id.to_bytes(2, "big") + b"\xff" * 40


def other_question(query: dns.message.Message) -> bytes:
    other = dns.message.make_query("evil.example", "MX", id=query.id)
    return Zone("evil.example 300 IN MX 10 evil.example.")(other) or b""


def torn(query: dns.message.Message) -> bytes:
    return (Zone("a.example 300 IN MX 10 m.example.")(query) or b"")[:-15]


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        pytest.param(rcode(dns.rcode.NXDOMAIN), DnsFault.NXDOMAIN, id="nxdomain"),
        pytest.param(rcode(dns.rcode.NOERROR), DnsFault.NO_DATA, id="no-data"),
        pytest.param(rcode(dns.rcode.SERVFAIL), DnsFault.SERVFAIL, id="servfail"),
        pytest.param(rcode(dns.rcode.REFUSED), DnsFault.SERVFAIL, id="refused"),
        pytest.param(rcode(dns.rcode.FORMERR), DnsFault.SERVFAIL, id="formerr"),
        pytest.param(rcode(dns.rcode.YXDOMAIN), DnsFault.SERVFAIL, id="yxdomain"),
        pytest.param(lambda query: None, DnsFault.TIMEOUT, id="silence"),
        pytest.param(garbage, DnsFault.TIMEOUT, id="garbage"),
        pytest.param(other_question, DnsFault.TIMEOUT, id="other-question"),
        pytest.param(torn, DnsFault.TIMEOUT, id="torn"),
    ],
)
async def test_faults(answer: Answerer, fault: DnsFault, monkeypatch: pytest.MonkeyPatch) -> None:
    """A2.5: the classes decide between retry and refusal."""
    if fault is DnsFault.TIMEOUT:
        monkeypatch.setattr(module, "QUERY_S", 0.1)
        monkeypatch.setattr(module, "TOTAL_S", 0.3)
    async with dns_server(answer) as address:
        resolver = resolver_on(address)
        assert await resolver.mx("a.example") is fault
        assert await resolver.addresses("a.example") is fault
        assert await resolver.txt("a.example") is fault


async def test_no_server_is_a_fault_that_is_told_at_once() -> None:
    async with dns_server(Zone()) as address:
        pass
    with trio.fail_after(module.QUERY_S - 1):
        assert await resolver_on(address).mx("a.example") is DnsFault.SERVFAIL


async def test_the_next_server_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUERY_S", 0.1)
    zone = Zone("a.example 300 IN A 192.0.2.1")
    async with dns_server(lambda query: None) as silent, dns_server(zone) as good:
        found = await resolver_on(silent, good).addresses("a.example")
    assert found == ("192.0.2.1",)


@pytest.mark.parametrize("name", ["a..example", "a" * 64 + ".example", "", ("a" * 50 + ".") * 6])
async def test_names_that_cannot_be_do_not_exist(name: str) -> None:
    zone = Zone("example 300 IN A 192.0.2.1")
    fault = await ask(zone, lambda resolver: resolver.txt(name))
    assert fault in (DnsFault.NXDOMAIN, DnsFault.NO_DATA)


# --- the cache -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ttl", "kept_s"),
    [(0, 30.0), (10, 30.0), (300, 300.0), (86400, 3600.0)],
)
async def test_answers_are_kept_between_half_a_minute_and_an_hour(ttl: int, kept_s: float) -> None:
    """A2.8."""
    clock = FakeClock()
    zone = Zone(f"k.example {ttl} IN TXT x")
    async with dns_server(zone) as address:
        resolver = resolver_on(address, clock=clock)
        await resolver.txt("k.example")
        clock.advance(kept_s - 1)
        await resolver.txt("k.example")
        assert len(zone.asked) == 1
        clock.advance(2)
        await resolver.txt("k.example")
        assert len(zone.asked) == 2


@pytest.mark.parametrize("code", [dns.rcode.NXDOMAIN, dns.rcode.NOERROR])
async def test_absence_is_kept_for_half_a_minute(code: dns.rcode.Rcode) -> None:
    clock = FakeClock()
    zone = Zone()
    zone.rcodes["k.example"] = code
    async with dns_server(zone) as address:
        resolver = resolver_on(address, clock=clock)
        for step_s in (0.0, 29.0, 2.0):
            clock.advance(step_s)
            assert isinstance(await resolver.txt("k.example"), DnsFault)
    assert len(zone.asked) == 2


async def test_other_servers_are_asked_from_one_moment_to_the_next() -> None:
    zones = [Zone(f"mx.example 300 IN A 192.0.2.{n}") for n in (1, 2)]
    async with dns_server(zones[0]) as first, dns_server(zones[1]) as second:
        resolver = resolver_on(first, ipv6=False)
        assert await resolver.addresses("mx.example") == ("192.0.2.1",)
        resolver.ask_at([second])
        assert await resolver.addresses("mx.example") == ("192.0.2.2",)


async def test_trouble_is_not_kept() -> None:
    zone = Zone("k.example 300 IN TXT x")
    zone.rcodes["k.example"] = dns.rcode.SERVFAIL
    async with dns_server(zone) as address:
        resolver = resolver_on(address)
        assert await resolver.txt("k.example") is DnsFault.SERVFAIL
        zone.rcodes.clear()
        assert await resolver.txt("k.example") == (b"x",)


async def test_cancellation_is_not_an_answer() -> None:
    async with dns_server(lambda query: None) as address:
        with trio.move_on_after(0.1) as scope:
            await resolver_on(address).mx("a.example")
        assert scope.cancelled_caught
