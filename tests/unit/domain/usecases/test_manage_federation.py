"""The operator's word on other relays."""

from __future__ import annotations

import attrs
import pytest

from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.federation import (
    Dismissal,
    LedgerEvent,
    PeerAction,
    PeerHealth,
    PeerOverride,
    PeerRule,
)
from chatmail.domain.usecases.manage_federation import BadWord
from tests.unit.fakes.operator import Operator


async def test_rules_are_normalised_changed_and_removed() -> None:
    world = Operator()
    manage = world.manage_federation()
    rule = await manage.put_rule(" Peer.Example. ", PeerAction.BLOCK)
    assert rule == PeerRule("peer.example", PeerAction.BLOCK, int(world.clock.now_s()))
    await manage.put_rule("203.0.113.5", PeerAction.LISTED)
    await manage.put_rule("*.Wide.example", PeerAction.ALLOW)
    await manage.put_rule("peer.example", PeerAction.ALLOW)
    assert {(one.pattern, one.action) for one in world.directory.rules()} == {
        ("peer.example", PeerAction.ALLOW),
        ("[203.0.113.5]", PeerAction.LISTED),
        ("*.wide.example", PeerAction.ALLOW),
    }
    assert await manage.remove_rule("203.0.113.5") is True
    assert await manage.remove_rule("203.0.113.5") is False
    assert await manage.flush_rules() == 2
    assert world.directory.rules() == ()


@pytest.mark.parametrize("text", ["", "a b", "x@y.example", "300.1.1.1", "1.2.3.4/99", "*.1.2.3.4"])
async def test_what_is_no_pattern_is_told_without_repeating_it(text: str) -> None:
    manage = Operator().manage_federation()
    for outcome in (
        await manage.put_rule(text, PeerAction.BLOCK),
        await manage.remove_rule(text),
        await manage.dismiss(text),
        await manage.undismiss(text),
    ):
        assert isinstance(outcome, BadWord)
        assert not text or text not in outcome.problem


@pytest.mark.parametrize("text", ["chat.example", ".chat.example", "*.example", "more.example"])
async def test_our_own_domains_cannot_be_blocked_or_dismissed(text: str) -> None:
    world = Operator("chat.example", "more.example")
    manage = world.manage_federation()
    assert isinstance(await manage.put_rule(text, PeerAction.BLOCK), BadWord)
    assert isinstance(await manage.dismiss(text), BadWord)
    assert isinstance(await manage.put_override("chat.example", "x.example"), BadWord)
    assert isinstance(await manage.forget("chat.example"), BadWord)


async def test_everybody_can_be_blocked_at_once() -> None:
    world = Operator()
    assert isinstance(await world.manage_federation().put_rule("*", PeerAction.BLOCK), PeerRule)


async def test_dismissals_are_kept_and_lifted() -> None:
    world = Operator()
    manage = world.manage_federation()
    found = await manage.dismiss("Spam.example")
    assert found == Dismissal("spam.example", int(world.clock.now_s()))
    assert await manage.undismiss("spam.example") is True
    assert await manage.undismiss("spam.example") is False
    await manage.dismiss("one.example")
    await manage.dismiss("two.example")
    assert await manage.flush_dismissals() == 2


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        ("Host.Example", "host.example"),
        ("192.0.2.7", "192.0.2.7"),
        ("[192.0.2.7]", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("https://x.example:8443/custom", "https://x.example:8443/custom"),
        ("http://192.0.2.7", "http://192.0.2.7"),
        ("x.example/custom", "https://x.example/custom"),
        (
            "https://chat.example:8443/other-relay-here",
            "https://chat.example:8443/other-relay-here",
        ),
    ],
)
async def test_overrides_take_hosts_addresses_and_urls(target: str, kept: str) -> None:
    world = Operator()
    override = await world.manage_federation().put_override("Peer.example", target, "why")
    assert isinstance(override, PeerOverride)
    assert (override.domain, override.target, override.comment) == ("peer.example", kept, "why")
    assert world.manage_federation().override("peer.example") == override


@pytest.mark.parametrize(
    "target",
    [
        "ftp://x.example",
        "https://user@x.example/",
        "https://x.example/?q",
        "https://x.example/#f",
        "https://x.example:99999/",
        "https:///mxdeliv",
        "two words",
        "chat.example",
        "https://chat.example/mxdeliv",
        "https://x.example/a\nb",
        "",
    ],
)
async def test_targets_that_make_no_sense_or_lead_back_here_are_refused(target: str) -> None:
    world = Operator()
    assert isinstance(await world.manage_federation().put_override("p.example", target), BadWord)
    assert world.directory.overrides() == []


async def test_an_override_counts_for_the_next_attempt() -> None:
    world = Operator()
    world.queue_mail("ann@chat.example", "b@peer.example")
    world.memory.remember(PeerHealth(domain="peer.example", not_before_s=10**10))
    manage = world.manage_federation()
    await manage.put_override("peer.example", "x.example")
    assert world.memory.all_health() == []
    now_s = world.clock.now_s()
    assert len(await world.outbound.claim("peer.example", now_s, 60, 9)) == 1
    assert await manage.remove_override("peer.example") is True
    assert await manage.remove_override("peer.example") is False


async def test_a_comment_is_one_short_line() -> None:
    manage = Operator().manage_federation()
    for comment in ("a\nb", "x" * 201):
        assert isinstance(await manage.put_override("p.example", "x.example", comment), BadWord)


async def test_forgetting_a_peer_tries_it_anew() -> None:
    world = Operator()
    world.queue_mail("ann@chat.example", "b@peer.example")
    world.memory.remember(PeerHealth(domain="peer.example", not_before_s=10**10, updated_s=10**10))
    manage = world.manage_federation()
    assert await manage.forget("Peer.example") is True
    assert (world.memory.all_health(), world.memory.saves) == ([], 1)
    assert len(await world.outbound.claim("peer.example", world.clock.now_s(), 60, 9)) == 1
    assert await manage.forget("peer.example") is False


async def test_peers_are_what_is_counted_remembered_or_waited_for() -> None:
    world = Operator()
    world.ledger.delivered("fast.example", LedgerEvent.OK_HTTPS, 5.0, 40)
    world.ledger.count("chat.example", LedgerEvent.INBOUND_SMTP, 5.0)
    world.memory.remember(PeerHealth(domain="known.example"))
    world.queue_mail("ann@chat.example", "b@waiting.example")
    peers = {one.domain: one for one in await world.manage_federation().peers()}
    assert set(peers) == {"fast.example", "known.example", "waiting.example"}
    assert peers["fast.example"].record is not None
    assert peers["waiting.example"].backlog is not None
    assert peers["known.example"].health is not None


async def test_trouble_of_the_store_is_passed_on() -> None:
    world = Operator()
    world.directory.fail = 1
    with pytest.raises(TransientFailure):
        await world.manage_federation().put_rule("peer.example", PeerAction.BLOCK)
    assert world.log.events() == []


@pytest.mark.parametrize("key", ["a b", "chat.example"])
async def test_overrides_are_for_foreign_domains(key: str) -> None:
    manage = Operator().manage_federation()
    assert isinstance(await manage.remove_override(key), BadWord)
    assert isinstance(manage.override(key), BadWord)


async def test_an_odd_host_name_of_ours_is_nobodys_target() -> None:
    world = Operator()
    identity = attrs.evolve(world.settings().identity, hostname="not a name")
    world.change(identity=identity)
    outcome = await world.manage_federation().put_override("p.example", "x.example")
    assert isinstance(outcome, PeerOverride)
