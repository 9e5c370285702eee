"""The resolver: addresses of both families, texts, answers too long for UDP."""

from __future__ import annotations

import dns.message
import dns.rcode
import dns.rdata
import dns.rdatatype
import pytest

from chatmail.domain.ports.remote import DnsFault
from tests.unit.adapters.outbound.asking import ask, rcode
from tests.unit.adapters.outbound.dns_peer import Zone

# --- addresses -----------------------------------------------------------------------------------

BOTH = (
    "h.example 300 IN A 192.0.2.1",
    "h.example 300 IN A 192.0.2.2",
    "h.example 300 IN AAAA 2001:db8::1",
)


@pytest.mark.parametrize(
    ("ipv6", "prefers_ipv6", "expected"),
    [
        (True, False, ["4", "6", "4"]),
        (True, True, ["6", "4", "4"]),
        (False, False, ["4", "4"]),
        (False, True, ["4", "4"]),
    ],
)
async def test_families_take_turns(ipv6: bool, prefers_ipv6: bool, expected: list[str]) -> None:
    """A2.7."""
    zone = Zone(*BOTH)
    found = await ask(
        zone,
        lambda resolver: resolver.addresses("h.example"),
        ipv6=ipv6,
        prefers_ipv6=prefers_ipv6,
    )
    assert isinstance(found, tuple)
    assert ["6" if ":" in ip else "4" for ip in found] == expected
    assert {kind for _, kind in zone.asked} == ({"A", "AAAA"} if ipv6 else {"A"})


async def test_an_alias_of_a_host_is_followed() -> None:
    """A2.4: seen in the wild for MX targets."""
    zone = Zone("m.example 300 IN CNAME h.example.", *BOTH)
    found = await ask(zone, lambda resolver: resolver.addresses("m.example"))
    assert set(found if isinstance(found, tuple) else ()) == {
        "192.0.2.1",
        "192.0.2.2",
        "2001:db8::1",
    }


async def test_one_family_is_enough() -> None:
    zone = Zone("h.example 300 IN AAAA 2001:db8::1")
    found = await ask(zone, lambda resolver: resolver.addresses("h.example"))
    assert found == ("2001:db8::1",)


async def test_addresses_are_bounded() -> None:
    zone = Zone(*(f"h.example 300 IN A 192.0.2.{number}" for number in range(200)))
    found = await ask(zone, lambda resolver: resolver.addresses("h.example"))
    assert isinstance(found, tuple)
    assert len(found) == 16


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("192.0.2.9", ("192.0.2.9",)),
        ("2001:db8::9", ("2001:db8::9",)),
        ("localhost", ("127.0.0.1", "::1")),
        ("a.localhost", ("127.0.0.1", "::1")),
    ],
)
async def test_some_hosts_need_no_question(host: str, expected: tuple[str, ...]) -> None:
    zone = Zone()
    assert await ask(zone, lambda resolver: resolver.addresses(host)) == expected
    assert zone.asked == []


async def test_a_literal_of_a_family_that_is_off_has_no_address() -> None:
    found = await ask(Zone(), lambda resolver: resolver.addresses("::1"), ipv6=False)
    assert found is DnsFault.NO_DATA


async def test_trouble_with_one_family_is_trouble() -> None:
    """An AAAA question that fails hides whether the host has an address."""

    def answer(query: dns.message.Message) -> bytes | None:
        kind = dns.rdatatype.to_text(query.question[0].rdtype)
        return rcode(dns.rcode.SERVFAIL if kind == "AAAA" else dns.rcode.NOERROR)(query)

    assert await ask(answer, lambda resolver: resolver.addresses("h.example")) is DnsFault.SERVFAIL


# --- TXT -----------------------------------------------------------------------------------------


async def test_strings_of_a_record_are_joined() -> None:
    zone = Zone('k.example 300 IN TXT "v=DKIM1; " "k=rsa; " "p=\\195\\164"')
    found = await ask(zone, lambda resolver: resolver.txt("k.example"))
    assert found == (b"v=DKIM1; k=rsa; p=\xc3\xa4",)


async def test_texts_are_bounded() -> None:
    long = " ".join(['"' + "x" * 250 + '"'] * 40)
    zone = Zone(
        f"k.example 300 IN TXT {long}",
        *(f'k.example 300 IN TXT "{number}"' for number in range(30)),
    )
    found = await ask(zone, lambda resolver: resolver.txt("k.example"))
    assert isinstance(found, tuple)
    assert len(found) == 16
    assert max(map(len, found)) < 10


async def test_an_answer_too_long_for_udp_comes_over_tcp() -> None:
    zone = Zone(*(f'k.example 300 IN TXT "{"x" * 200}{number}"' for number in range(12)))
    found = await ask(zone, lambda resolver: resolver.txt("k.example"))
    assert isinstance(found, tuple)
    assert len(found) == 12
