"""What DNS has to say, from what the relay is."""

from __future__ import annotations

import attrs

from chatmail.domain.formats.zone import RecordType
from chatmail.domain.ports.remote import DnsFault
from tests.unit.fakes.operator import Operator

STS = ("_mta-sts.chat.example", RecordType.TXT)


async def test_the_facts_are_those_of_the_relay() -> None:
    world = Operator("chat.example", "b.example", "a.example")
    facts = await world.describe_zone()()
    assert facts.domains == ("chat.example", "a.example", "b.example")
    assert (facts.hostname, facts.addresses) == ("chat.example", ("192.0.2.1",))
    assert facts.dkim == ((world.keys.active.name, world.keys.active.text),)
    assert facts.sts_id == "202506151200"  # the fake clock's noon


async def test_the_policy_keeps_its_id_until_it_changes() -> None:
    world = Operator()
    first = await world.describe_zone()()
    world.clock.advance(86400)
    assert (await world.describe_zone()()).sts_id == first.sts_id
    world.change(identity=attrs.evolve(world.settings().identity, hostname="mx.chat.example"))
    assert (await world.describe_zone()()).sts_id == "202506161200"


async def test_an_id_that_is_published_already_is_taken_over() -> None:
    world = Operator()
    world.zone.found[STS] = ("v=TLSRPTv1", "v=STSv1; id=202401010000;")
    assert (await world.describe_zone()()).sts_id == "202401010000"
    world.zone.found[STS] = ()
    assert (await world.describe_zone()()).sts_id == "202401010000"


async def test_an_odd_published_id_is_replaced() -> None:
    for found in (("v=STSv1; id=abc",), ("v=STSv1; id=007",), DnsFault.TIMEOUT):
        world = Operator()
        world.zone.found[STS] = found
        assert (await world.describe_zone()()).sts_id == "202506151200"


async def test_without_a_cas_certificate_no_policy_is_announced() -> None:
    world = Operator()
    world.has_ca_certificate = False
    assert (await world.describe_zone()()).sts_id == ""
    assert world.notebook.numbers == {}


async def test_a_literal_relay_asks_nobody_anything() -> None:
    world = Operator("[192.0.2.1]")
    facts = await world.describe_zone()()
    assert (facts.named_domains, facts.addresses, world.zone.asked) == ((), (), [])


async def test_services_that_are_off_are_not_announced() -> None:
    describe = attrs.evolve(Operator().describe_zone(), services=lambda: (("imaps", 993),))
    assert (await describe()).services == (("imaps", 993),)
