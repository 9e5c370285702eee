"""Routes from what DNS, the operator and MTA-STS say (A2, A12.1)."""

from __future__ import annotations

import attrs
import pytest

from chatmail.domain.model.federation import PeerOverride
from chatmail.domain.policy.routes import RoutePlan
from chatmail.domain.ports.remote import DnsFault, FetchFault
from chatmail.domain.usecases.lookup_route import NEVER_S, Unroutable
from tests.unit.domain.usecases.abroad import PEER, RelayAbroad

OWN = "198.51.100.1"
STS_URL = f"https://mta-sts.{PEER}/.well-known/mta-sts.txt"
HOUR, DAY = 3600, 86400


def sts(*mx: str, mode: str = "enforce", max_age: int = 604800) -> bytes:
    lines = ["version: STSv1", f"mode: {mode}", *(f"mx: {one}" for one in mx)]
    return "\n".join([*lines, f"max_age: {max_age}"]).encode()


def publish(relay: RelayAbroad, policy: bytes | FetchFault, id: str = "1") -> None:
    relay.resolver.txts[f"_mta-sts.{PEER}"] = (f"v=STSv1; id={id};".encode(),)
    relay.fetcher.documents[STS_URL] = policy


async def smtp_hosts(relay: RelayAbroad, domain: str = PEER) -> list[str]:
    plan = await relay.route(domain)
    assert isinstance(plan, RoutePlan), plan
    return [hop.host for hop in plan.hops if hop.transport.value == "smtp"]


async def refusal(relay: RelayAbroad, domain: str = PEER) -> Unroutable:
    found = await relay.route(domain)
    assert isinstance(found, Unroutable)
    return found


async def test_mail_hosts_in_order_of_preference() -> None:
    relay = RelayAbroad()
    relay.resolver.add_mx(PEER, (10, "a.test"), (20, "b.test"))
    assert await smtp_hosts(relay) == ["a.test", "b.test"]


async def test_a_domain_without_mx_is_its_own_mail_host() -> None:
    assert await smtp_hosts(RelayAbroad()) == [PEER]


async def test_hosts_without_address_are_passed_over() -> None:
    relay = RelayAbroad()
    relay.resolver.add_mx(PEER, "a.test", "b.test")
    relay.resolver.hosts["a.test"] = DnsFault.NXDOMAIN
    assert await smtp_hosts(relay) == ["b.test"]
    relay.resolver.hosts["b.test"] = DnsFault.NO_DATA
    assert (await refusal(relay)).final_after_s == DAY
    relay.resolver.hosts["b.test"] = DnsFault.TIMEOUT
    found = await refusal(relay)
    assert (found.reply[:9], found.final_after_s) == ("451 4.4.3", NEVER_S)


async def test_no_more_than_five_hosts_are_looked_up() -> None:
    relay = RelayAbroad()
    relay.resolver.add_mx(PEER, *(f"h{n}.test" for n in range(20)))
    assert len(await smtp_hosts(relay)) == 5
    assert sum(kind == "addresses" for kind, _ in relay.resolver.asked) == 5


# --- loops (A2.6) -----


async def test_a_host_at_our_own_address_ends_the_list() -> None:
    relay = RelayAbroad()
    relay.own = {(OWN, 25)}
    relay.resolver.add_mx(PEER, (10, "a.test"), (20, "ours.test"), (20, "b.test"), (30, "c.test"))
    relay.resolver.hosts["ours.test"] = (OWN,)
    assert await smtp_hosts(relay) == ["a.test"]


async def test_mail_that_would_come_back_is_refused_for_good() -> None:
    relay = RelayAbroad()
    relay.own = {(OWN, 25)}
    relay.resolver.hosts[PEER] = (OWN,)
    found = await refusal(relay)
    assert found == Unroutable(reply="554 5.4.6 Mail loops back to me", final_after_s=0.0)
    assert await refusal(relay, f"[{OWN}]") == found


async def test_a_literal_that_may_not_be_connected_to_is_refused_for_good() -> None:
    relay = RelayAbroad()
    relay.route = attrs.evolve(relay.route, may_connect=lambda host, port, by_order: False)
    assert await refusal(relay, "[10.0.0.1]") == Unroutable(
        reply="550 5.4.4 The host's address is not allowed", final_after_s=0.0
    )


async def test_our_own_name_is_a_loop_even_without_address() -> None:
    relay = RelayAbroad()
    relay.resolver.add_mx(PEER, relay.settings.identity.hostname)
    assert "5.4.6" in (await refusal(relay)).reply
    relay.resolver.hosts[relay.settings.identity.hostname] = DnsFault.NXDOMAIN
    assert "5.4.6" in (await refusal(relay)).reply


async def test_two_relays_on_one_address_differ_by_port() -> None:
    relay = RelayAbroad()
    relay.own = {("127.0.0.1", 2525)}
    relay.federate(smtp_port=3525)
    relay.resolver.hosts[PEER] = ("127.0.0.1",)
    assert await smtp_hosts(relay) == [PEER]
    relay.resolver.add_mx(PEER, relay.settings.identity.hostname)
    assert await smtp_hosts(relay) == [relay.settings.identity.hostname]


# --- overrides -----


async def test_an_override_is_asked_before_dns_and_at_each_attempt() -> None:
    relay = RelayAbroad()
    relay.resolver.mxs[PEER] = DnsFault.NXDOMAIN
    await relay.directory.put_override(PeerOverride(domain=PEER, target="203.0.113.5"))
    assert await smtp_hosts(relay) == ["203.0.113.5"]
    await relay.directory.remove_override(PEER)
    assert isinstance(await relay.route(PEER), Unroutable)


async def test_an_override_of_a_literal() -> None:
    relay = RelayAbroad()
    await relay.directory.put_override(PeerOverride(domain="[192.0.2.1]", target="relay.test"))
    assert await smtp_hosts(relay, "[192.0.2.1]") == ["relay.test"]


async def test_an_exchanger_takes_all_mail_but_what_has_an_override() -> None:
    relay = RelayAbroad()
    relay.federate(endpoint_rewrite="https://exchange.test/in")
    await relay.directory.put_override(PeerOverride(domain=PEER, target="other.test"))
    plan = await relay.route("any.test")
    assert isinstance(plan, RoutePlan)
    assert [(hop.host, hop.path) for hop in plan.hops] == [("exchange.test", "/in")]
    assert await smtp_hosts(relay) == ["other.test"]


async def test_an_override_that_means_nothing_waits_for_the_operator() -> None:
    relay = RelayAbroad()
    await relay.directory.put_override(PeerOverride(domain=PEER, target="ftp://x.test"))
    assert (await refusal(relay)).final_after_s == NEVER_S


async def test_overrides_bypass_mta_sts() -> None:
    relay = RelayAbroad()
    publish(relay, sts("only.test"))
    await relay.directory.put_override(PeerOverride(domain=PEER, target="other.test"))
    assert await smtp_hosts(relay) == ["other.test"]
    assert relay.fetcher.asked == []


# --- MTA-STS (A12.1) -----


async def test_enforced_policies_leave_out_the_hosts_they_do_not_name() -> None:
    relay = RelayAbroad()
    relay.resolver.add_mx(PEER, "evil.test", "mx.peer.test")
    publish(relay, sts("*.peer.test"))
    assert await smtp_hosts(relay) == ["mx.peer.test"]
    relay.resolver.add_mx(PEER, "evil.test")
    found = await refusal(relay)
    assert (found.reply[:9], found.final_after_s) == ("451 4.7.5", NEVER_S)


async def test_policies_in_test_mode_are_told_of_only() -> None:
    relay = RelayAbroad()
    relay.resolver.add_mx(PEER, "evil.test")
    publish(relay, sts("*.peer.test", mode="testing"))
    assert await smtp_hosts(relay) == ["evil.test"]
    assert relay.log.events() == ["mta_sts_mismatch"]
    publish(relay, sts(mode="none"), id="2")
    relay.clock.now += HOUR
    assert await smtp_hosts(relay) == ["evil.test"]


@pytest.mark.parametrize(
    "broken", [FetchFault.UNREACHABLE, FetchFault.ABSENT, FetchFault.TOO_LARGE, b"<html>"]
)
async def test_a_policy_that_cannot_be_refreshed_holds_until_it_expires(
    broken: bytes | FetchFault,
) -> None:
    relay = RelayAbroad()
    relay.resolver.add_mx(PEER, "mx.peer.test", "evil.test")
    publish(relay, sts("mx.peer.test", max_age=7 * DAY))
    assert await smtp_hosts(relay) == ["mx.peer.test"]
    publish(relay, broken, id="2")
    relay.clock.now += 6 * DAY
    assert await smtp_hosts(relay) == ["mx.peer.test"]
    relay.clock.now += DAY
    assert await smtp_hosts(relay) == ["mx.peer.test", "evil.test"]


async def test_a_policy_whose_record_is_gone_holds_too() -> None:
    relay = RelayAbroad()
    relay.resolver.add_mx(PEER, "mx.peer.test", "evil.test")
    publish(relay, sts("mx.peer.test"))
    await relay.route(PEER)
    relay.resolver.txts.clear()
    relay.clock.now += HOUR
    assert await smtp_hosts(relay) == ["mx.peer.test"]


async def test_a_policy_is_fetched_again_daily_and_when_its_id_changes() -> None:
    relay = RelayAbroad()
    relay.resolver.add_mx(PEER, "mx.peer.test")
    publish(relay, sts("mx.peer.test"))
    for pause_s, fetched in ((0, 1), (60, 1), (HOUR, 1), (DAY, 2)):
        relay.clock.now += pause_s
        await relay.route(PEER)
        assert len(relay.fetcher.asked) == fetched
    publish(relay, sts("mx.peer.test"), id="2")
    relay.clock.now += HOUR
    await relay.route(PEER)
    assert len(relay.fetcher.asked) == 3


async def test_dns_is_not_asked_for_every_message() -> None:
    relay = RelayAbroad()
    relay.resolver.add_mx(PEER, "mx.peer.test")
    for _ in range(5):
        await relay.route(PEER)
    assert relay.resolver.asked.count(("txt", f"_mta-sts.{PEER}")) == 1


async def test_literals_have_no_policy() -> None:
    relay = RelayAbroad()
    await relay.route("[203.0.113.7]")
    assert relay.resolver.asked == []


async def test_a_domain_that_is_its_own_mail_host_has_to_be_named_too() -> None:
    relay = RelayAbroad()
    publish(relay, sts(PEER))
    assert await smtp_hosts(relay) == [PEER]
    publish(relay, sts("mx.peer.test"), id="2")
    relay.clock.now += HOUR
    assert "4.7.5" in (await refusal(relay)).reply


async def test_policies_are_fetched_where_relays_serve_https() -> None:
    relay = RelayAbroad()
    relay.federate(https_port=8443)
    publish(relay, sts(PEER))
    await relay.route(PEER)
    assert relay.fetcher.asked == [f"https://mta-sts.{PEER}:8443/.well-known/mta-sts.txt"]


async def test_what_was_asked_is_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatmail.domain.usecases.lookup_sts.MAX_KNOWN", 3)
    relay = RelayAbroad()
    for number in range(5):
        await relay.sts(f"p{number}.test")
    assert len(relay.sts._asked_s) == 3
