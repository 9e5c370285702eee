"""Contracts of `PeerDirectory`, `PeerMemory` and `PeerLedger`."""

from __future__ import annotations

from pathlib import Path

import attrs

from chatmail.domain.model.federation import (
    Dismissal,
    LedgerEvent,
    PeerAction,
    PeerHealth,
    PeerOverride,
    PeerRecord,
    PeerRule,
    StsPolicy,
)
from tests.unit.ports.world import DAY_S, NOW_S, Stores, sqlite_stores

BLOCK, ALLOW, LISTED = PeerAction.BLOCK, PeerAction.ALLOW, PeerAction.LISTED
OVERRIDE = PeerOverride(
    domain="peer.test", target="https://10.0.0.1/x", comment="ü", smtp_fallback=False, created_s=7
)
HEALTH = PeerHealth(
    domain="peer.test",
    last_ok_https_s=1,
    last_ok_http_s=2,
    last_ok_smtp_s=3,
    https_block_until_s=4,
    https_fail_streak=5,
    smtp_fail_streak=6,
    connect_fail_since_s=7,
    connect_fail_streak=8,
    not_before_s=NOW_S + 9.5,
    learned_host="mx.peer.test",
    updated_s=NOW_S,
)
POLICY = StsPolicy(
    domain="peer.test",
    id="20260101",
    mode="enforce",
    mx=("mx.peer.test", "*.peer.test"),
    expires_s=NOW_S + DAY_S,
    fetched_s=NOW_S,
)


# Rules


async def test_rules_are_listed_oldest_first(stores: Stores) -> None:
    assert list(stores.peers.rules()) == []
    newer, older = PeerRule("b.test", BLOCK, 9), PeerRule("a.test", LISTED, 5)
    await stores.peers.put_rule(newer)
    await stores.peers.put_rule(older)
    assert list(stores.peers.rules()) == [older, newer]


async def test_a_rule_put_again_changes_its_action_and_keeps_its_place(stores: Stores) -> None:
    await stores.peers.put_rule(PeerRule("a.test", BLOCK, 5))
    await stores.peers.put_rule(PeerRule("b.test", BLOCK, 6))
    await stores.peers.put_rule(PeerRule("a.test", ALLOW, 9))
    assert list(stores.peers.rules()) == [
        PeerRule("a.test", ALLOW, 5),
        PeerRule("b.test", BLOCK, 6),
    ]


async def test_rules_are_the_same_object_until_one_changes(stores: Stores) -> None:
    await stores.peers.put_rule(PeerRule("a.test", BLOCK, 5))
    rules = stores.peers.rules()
    await stores.peers.put_dismissal(Dismissal("x.test", 1))
    await stores.peers.put_override(OVERRIDE)
    assert stores.peers.rules() is rules
    await stores.peers.remove_rule("a.test")
    assert stores.peers.rules() is not rules


async def test_removing_a_rule_tells_whether_there_was_one(stores: Stores) -> None:
    await stores.peers.put_rule(PeerRule("a.test", BLOCK, 5))
    assert not await stores.peers.remove_rule("b.test")
    assert await stores.peers.remove_rule("a.test")
    assert not await stores.peers.remove_rule("a.test")
    assert list(stores.peers.rules()) == []


async def test_flushing_rules_counts_them(stores: Stores) -> None:
    for number in range(3):
        await stores.peers.put_rule(PeerRule(f"{number}.test", BLOCK, 5))
    assert await stores.peers.flush_rules() == 3
    assert await stores.peers.flush_rules() == 0
    assert list(stores.peers.rules()) == []


async def test_dismissals_are_kept_apart_from_rules(stores: Stores) -> None:
    await stores.peers.put_rule(PeerRule("a.test", BLOCK, 5))
    await stores.peers.put_dismissal(Dismissal("b.test", 6))
    await stores.peers.put_dismissal(Dismissal("a.test", 5))
    await stores.peers.put_dismissal(Dismissal("a.test", 9))
    found = stores.peers.dismissals()
    assert list(found) == [Dismissal("a.test", 5), Dismissal("b.test", 6)]
    assert stores.peers.dismissals() is found
    assert await stores.peers.remove_dismissal("b.test")
    assert not await stores.peers.remove_dismissal("b.test")
    assert await stores.peers.flush_dismissals() == 1
    assert list(stores.peers.dismissals()) == []
    assert len(stores.peers.rules()) == 1


async def test_an_override_is_found_by_domain(stores: Stores) -> None:
    assert stores.peers.override("peer.test") is None
    await stores.peers.put_override(OVERRIDE)
    literal = PeerOverride(domain="[10.0.0.2]", target="h")
    await stores.peers.put_override(literal)
    assert stores.peers.override("peer.test") == OVERRIDE
    assert list(stores.peers.overrides()) == [literal, OVERRIDE]
    other = PeerOverride(domain="peer.test", target="other.test", created_s=8)
    await stores.peers.put_override(other)
    assert stores.peers.override("peer.test") == other
    assert await stores.peers.remove_override("peer.test")
    assert not await stores.peers.remove_override("peer.test")
    assert stores.peers.override("peer.test") is None


# What attempts taught


async def test_an_unknown_destination_is_a_blank_page(stores: Stores) -> None:
    assert stores.peer_memory.health("peer.test") == PeerHealth(domain="peer.test")
    assert stores.peer_memory.sts("peer.test") is None
    assert list(stores.peer_memory.all_health()) == []
    assert not stores.peer_memory.forget("peer.test")


async def test_what_is_remembered_is_there_until_it_is_forgotten(stores: Stores) -> None:
    memory = stores.peer_memory
    memory.remember(HEALTH)
    memory.remember_sts(POLICY)
    await memory.save(NOW_S)
    assert memory.health("peer.test") == HEALTH
    assert memory.sts("peer.test") == POLICY
    assert list(memory.all_health()) == [HEALTH]
    assert memory.forget("peer.test")
    await memory.save(NOW_S)
    assert memory.health("peer.test") == PeerHealth(domain="peer.test")
    assert memory.sts("peer.test") is None


async def test_what_was_not_used_for_30_days_is_dropped(stores: Stores) -> None:
    memory = stores.peer_memory
    memory.remember(HEALTH)
    memory.remember(attrs.evolve(HEALTH, domain="old.test", updated_s=NOW_S - 1))
    memory.remember_sts(POLICY)
    memory.remember_sts(attrs.evolve(POLICY, domain="old.test", expires_s=NOW_S - 1, fetched_s=1))
    await memory.save(NOW_S + 30 * DAY_S)
    assert [one.domain for one in memory.all_health()] == ["peer.test"]
    assert memory.sts("peer.test") == POLICY
    assert memory.sts("old.test") is None


# Counters


async def test_events_are_counted_per_peer(stores: Stores) -> None:
    ledger = stores.peer_ledger
    ledger.count("a.test", LedgerEvent.FAIL_HTTPS, NOW_S, "450 4.4.1 no connection")
    ledger.delivered("a.test", LedgerEvent.OK_SMTP, NOW_S + 1, 120)
    ledger.delivered("a.test", LedgerEvent.OK_SMTP, NOW_S + 2, 80)
    ledger.count("b.test", LedgerEvent.INBOUND_HTTP, NOW_S + 3)
    await ledger.save()
    assert list(ledger.records()) == [
        PeerRecord(domain="b.test", counts={LedgerEvent.INBOUND_HTTP: 1}),
        PeerRecord(
            domain="a.test",
            counts={LedgerEvent.FAIL_HTTPS: 1, LedgerEvent.OK_SMTP: 2},
            latency_sum_ms=200,
            latency_count=2,
            last_ok_s=NOW_S + 2,
            last_fail_s=NOW_S,
            last_error="450 4.4.1 no connection",
        ),
    ]


async def test_at_most_5000_peers_are_counted(stores: Stores) -> None:
    for number in range(5001):
        stores.peer_ledger.count(f"{number}.test", LedgerEvent.BOUNCED, NOW_S + number)
        stores.peer_ledger.count("0.test", LedgerEvent.BOUNCED, NOW_S + number)
    await stores.peer_ledger.save()
    domains = {record.domain for record in stores.peer_ledger.records()}
    assert len(domains) == 5000
    assert "0.test" in domains
    assert "1.test" not in domains


async def test_counters_can_be_forgotten(stores: Stores) -> None:
    stores.peer_ledger.count("a.test", LedgerEvent.BOUNCED, NOW_S)
    await stores.peer_ledger.save()
    stores.peer_ledger.forget_all()
    assert list(stores.peer_ledger.records()) == []
    await stores.peer_ledger.save()
    assert list(stores.peer_ledger.records()) == []


# Over a restart


async def test_everything_outlives_the_process(tmp_path: Path) -> None:
    async with sqlite_stores(tmp_path) as stores:
        await stores.peers.put_rule(PeerRule("a.test", BLOCK, 5))
        await stores.peers.put_dismissal(Dismissal("b.test", 6))
        await stores.peers.put_override(OVERRIDE)
        stores.peer_memory.remember(HEALTH)
        stores.peer_memory.remember_sts(POLICY)
        await stores.peer_memory.save(NOW_S)
        for _ in range(2):
            stores.peer_ledger.delivered("a.test", LedgerEvent.OK_HTTPS, NOW_S, 10)
            await stores.peer_ledger.save()
        stores.peer_ledger.count("b.test", LedgerEvent.BOUNCED, NOW_S + 1, "550 no")
        await stores.peer_ledger.save()
        records = stores.peer_ledger.records()
    async with sqlite_stores(tmp_path) as stores:
        assert list(stores.peers.rules()) == [PeerRule("a.test", BLOCK, 5)]
        assert list(stores.peers.dismissals()) == [Dismissal("b.test", 6)]
        assert stores.peers.override("peer.test") == OVERRIDE
        assert stores.peer_memory.health("peer.test") == HEALTH
        assert stores.peer_memory.sts("peer.test") == POLICY
        assert stores.peer_ledger.records() == records
        assert records[1].counts == {LedgerEvent.OK_HTTPS: 2}
        assert stores.peer_memory.forget("peer.test")
        await stores.peer_memory.save(NOW_S)
        stores.peer_ledger.forget_all()
        await stores.peer_ledger.save()
    async with sqlite_stores(tmp_path) as stores:
        assert list(stores.peer_memory.all_health()) == []
        assert stores.peer_memory.sts("peer.test") is None
        assert list(stores.peer_ledger.records()) == []
