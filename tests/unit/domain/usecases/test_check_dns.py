"""Does DNS say what it has to?"""

from __future__ import annotations

from itertools import pairwise

import pytest

from chatmail.domain.formats.zone import RecordType, needed_records
from chatmail.domain.formats.zone_compare import Standing
from chatmail.domain.ports.remote import DnsFault
from chatmail.domain.ports.zone import ProbeResult
from chatmail.domain.usecases.check_dns import MAX_POLICIES, ZoneReport
from tests.unit.fakes.operator import Operator


async def published(*domains: str) -> Operator:
    world = Operator(*(domains or ("chat.example",)))
    world.zone.publish(needed_records(await world.describe_zone()()))
    return world


def wrong(report: ZoneReport) -> list[tuple[str, str, Standing]]:
    return [
        (one.record.name, str(one.record.type), one.standing)
        for one in report.records
        if one.standing is not Standing.OK
    ]


async def test_the_zone_we_print_passes_our_own_check() -> None:
    world = await published("chat.example", "more.example")
    report = await world.check_dns()()
    assert wrong(report) == []
    assert (report.has_required, report.is_perfect, report.is_needed) == (True, True, True)
    assert [probe.name for probe in report.probes] == ["https"]


async def test_every_record_is_missed_by_name() -> None:
    complete = await published()
    for name, type in complete.zone.found:
        world = await published()
        world.zone.found[name, type] = ()
        assert (name, str(type), Standing.MISSING) in wrong(await world.check_dns()())


async def test_a_missing_recommendation_only_warns() -> None:
    world = await published()
    world.zone.found["_dmarc.chat.example", RecordType.TXT] = ()
    report = await world.check_dns()()
    assert (report.has_required, report.is_perfect) == (True, False)


async def test_a_wrong_key_is_required_to_be_right() -> None:
    world = await published()
    world.zone.found["opendkim._domainkey.chat.example", RecordType.TXT] = ("v=DKIM1;p=OTHER",)
    report = await world.check_dns()()
    assert report.has_required is False
    dkim = await world.check_dns().dkim()
    assert [one.standing for one in dkim.records] == [Standing.DIFFERS]


async def test_servers_that_do_not_answer_are_no_proof() -> None:
    world = await published()
    world.zone.found["chat.example", RecordType.MX] = DnsFault.TIMEOUT
    report = await world.check_dns()()
    assert wrong(report) == [("chat.example", "MX", Standing.UNKNOWN)]
    assert report.has_required is False


async def test_a_name_may_have_our_address_instead_of_an_alias() -> None:
    world = await published()
    alias = ("www.chat.example", RecordType.CNAME)
    world.zone.found[alias] = ()
    world.zone.found["www.chat.example", RecordType.A] = ("192.0.2.1",)
    assert wrong(await world.check_dns()()) == []
    world.zone.found["www.chat.example", RecordType.A] = ("192.0.2.200",)
    assert wrong(await world.check_dns()()) == [("www.chat.example", "CNAME", Standing.DIFFERS)]


async def test_policies_of_others_are_looked_up_and_bounded() -> None:
    world = await published()
    spf = ("chat.example", RecordType.TXT)
    world.zone.found[spf] = ("v=spf1 include:a.example -all",)
    world.zone.found["a.example", RecordType.TXT] = ("x", "v=spf1 include:b.example -all")
    world.zone.found["b.example", RecordType.TXT] = ("v=spf1 ip4:192.0.2.1 -all",)
    assert wrong(await world.check_dns()()) == []
    chain = [f"{n}.loop.example" for n in range(30)]
    world.zone.found[spf] = (f"v=spf1 include:{chain[0]}",)
    for one, following in pairwise(chain):
        world.zone.found[one, RecordType.TXT] = (f"v=spf1 include:{following}",)
    world.zone.asked.clear()
    assert wrong(await world.check_dns()()) == [("chat.example", "TXT", Standing.DIFFERS)]
    assert sum(name.endswith("loop.example") for name, _ in world.zone.asked) == MAX_POLICIES


async def test_foreign_addresses_beside_ours_are_told() -> None:
    world = await published()
    world.zone.found["chat.example", RecordType.AAAA] = ("2001:db8::bad",)
    report = await world.check_dns()()
    (stray,) = [one for one in report.records if one.standing is not Standing.OK]
    assert (stray.record.data, stray.found) == ("", ("2001:db8::bad",))
    assert (report.has_required, report.is_perfect) == (True, False)


async def test_a_caa_record_that_shuts_our_ca_out_is_told() -> None:
    world = await published()
    world.zone.found["chat.example", RecordType.CAA] = ('0 issue "other.example"',)
    assert wrong(await world.check_dns()()) == [("chat.example", "CAA", Standing.DIFFERS)]
    world.zone.found["chat.example", RecordType.CAA] = ('0 issue "letsencrypt.org"',)
    assert wrong(await world.check_dns()()) == []


@pytest.mark.parametrize("domain", ["[192.0.2.1]", "[IPv6:2001:db8::1]"])
async def test_a_literal_relay_needs_nothing(domain: str) -> None:
    world = Operator(domain)
    report = await world.check_dns()()
    assert (report.is_needed, report.records, report.probes) == (False, (), ())
    assert world.zone.asked == []


async def test_a_failed_probe_warns_and_information_does_not() -> None:
    world = await published()
    world.probes.results = (ProbeResult(name="PTR", is_ok=None),)
    assert (await world.check_dns()(outbound_host="mx.far.example")).is_perfect is True
    assert world.probes.outbound == ["mx.far.example"]
    world.probes.results = (ProbeResult(name="25", is_ok=False),)
    report = await world.check_dns()()
    assert (report.has_required, report.is_perfect) == (True, False)
    assert (await world.check_dns()(with_probes=False)).probes == ()


async def test_one_domain_can_be_looked_at_alone() -> None:
    world = await published("chat.example", "more.example")
    world.zone.found["chat.example", RecordType.MX] = ()
    report = await world.check_dns()(domain="more.example")
    assert wrong(report) == []
    assert {one.record.name.removesuffix("more.example") for one in report.records} >= {
        "",
        "_dmarc.",
    }
    assert all(one.record.name.endswith("more.example") for one in report.records)


async def test_policies_that_refer_to_each_other_are_read_once() -> None:
    world = await published()
    names = ("a.example", "b.example")
    world.zone.found["chat.example", RecordType.TXT] = ("v=spf1 include:a.example -all",)
    for one, other in (names, names[::-1]):
        text = f"v=spf1 include:{other} ip4:192.0.2.1 -all"
        world.zone.found[one, RecordType.TXT] = (text,)
    world.zone.asked.clear()
    await world.check_dns()()
    assert [name for name, _ in world.zone.asked if name in names] == list(names)


async def test_without_known_addresses_none_is_called_foreign() -> None:
    world = await published()
    world.addresses = ()
    world.zone.found["chat.example", RecordType.A] = ("192.0.2.77",)
    assert wrong(await world.check_dns()()) == []


async def test_whom_a_caa_record_allows_is_no_matter_without_a_cas_certificate() -> None:
    world = await published()
    world.has_ca_certificate = False
    world.zone.found["chat.example", RecordType.CAA] = ('0 issue "other.example"',)
    assert wrong(await world.check_dns()()) == []
