"""What is known of peers when saving fails, when there is too much of it, and in odd rows."""

from __future__ import annotations

import attrs
import pytest

from chatmail.adapters.storage import schema
from chatmail.adapters.storage.federation import memory as memory_module
from chatmail.adapters.storage.federation.directory import Listing
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.federation import (
    LedgerEvent,
    PeerAction,
    PeerHealth,
    PeerOverride,
    PeerRecord,
    PeerRule,
    StsPolicy,
)
from tests.unit.adapters.storage.conftest import Opener
from tests.unit.ports.world import DAY_S, NOW_S, Stores

HEALTH = PeerHealth(domain="a.test", connect_fail_streak=3, updated_s=NOW_S)
POLICY = StsPolicy(
    domain="a.test", id="1", mode="enforce", mx=("mx.a.test",), expires_s=NOW_S, fetched_s=NOW_S
)


class Refusing:
    """A writer that refuses jobs while it is told to."""

    def __init__(self, stores: Stores) -> None:
        self._writer = stores.store._writer
        self.is_full = True
        self.jobs = 0

    async def do(self, job):
        if self.is_full:
            raise TransientFailure("full")
        self.jobs += 1
        return await self._writer.do(job)


def refusing(stores: Stores) -> Refusing:
    writer = Refusing(stores)
    for port in (stores.peer_memory, stores.peer_ledger, stores.peers):
        port._writer = writer
    return writer


async def test_what_could_not_be_saved_is_saved_with_the_next_call(opener: Opener) -> None:
    async with opener() as stores:
        stores.peer_memory.remember(attrs.evolve(HEALTH, domain="gone.test"))
        await stores.peer_memory.save(NOW_S)
        writer = refusing(stores)
        stores.peer_memory.remember(HEALTH)
        stores.peer_memory.remember_sts(POLICY)
        stores.peer_memory.forget("gone.test")
        stores.peer_ledger.count("a.test", LedgerEvent.BOUNCED, NOW_S)
        for port in (lambda: stores.peer_memory.save(NOW_S), stores.peer_ledger.save):
            with pytest.raises(TransientFailure):
                await port()
        stores.peer_ledger.count("a.test", LedgerEvent.BOUNCED, NOW_S)
        writer.is_full = False
        await stores.peer_memory.save(NOW_S)
        await stores.peer_ledger.save()
        assert writer.jobs == 2
    async with opener() as stores:
        assert list(stores.peer_memory.all_health()) == [HEALTH]
        assert stores.peer_memory.sts("a.test") == POLICY
        (record,) = stores.peer_ledger.records()
        assert record.counts == {LedgerEvent.BOUNCED: 2}


async def test_counters_forgotten_while_saving_fails_stay_forgotten(opener: Opener) -> None:
    async with opener() as stores:
        stores.peer_ledger.count("a.test", LedgerEvent.BOUNCED, NOW_S)
        await stores.peer_ledger.save()
        writer = refusing(stores)
        stores.peer_ledger.count("b.test", LedgerEvent.BOUNCED, NOW_S)
        stores.peer_ledger.forget_all()
        with pytest.raises(TransientFailure):
            await stores.peer_ledger.save()
        stores.peer_ledger.count("c.test", LedgerEvent.BOUNCED, NOW_S)
        writer.is_full = False
        await stores.peer_ledger.save()
    async with opener() as stores:
        assert [record.domain for record in stores.peer_ledger.records()] == ["c.test"]


async def test_a_refused_word_of_the_operator_changes_nothing(opener: Opener) -> None:
    async with opener() as stores:
        refusing(stores)
        rules = stores.peers.rules()
        with pytest.raises(TransientFailure):
            await stores.peers.put_rule(PeerRule("a.test", PeerAction.BLOCK, 1))
        with pytest.raises(TransientFailure):
            await stores.peers.put_override(PeerOverride(domain="a.test", target="b.test"))
        assert stores.peers.rules() is rules
        assert stores.peers.override("a.test") is None


async def test_nothing_new_costs_no_transaction(opener: Opener) -> None:
    async with opener() as stores:
        writer = refusing(stores)
        writer.is_full = False
        stores.peer_memory.remember(HEALTH)
        await stores.peer_memory.save(NOW_S)
        stores.peer_memory.remember(HEALTH)
        await stores.peer_memory.save(NOW_S)
        await stores.peer_ledger.save()
        assert writer.jobs == 1


async def test_memory_of_peers_is_bounded(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_module, "MAX_PEERS", 3)
    async with opener() as stores:
        for name in ("a", "b", "c", "a", "d"):
            stores.peer_memory.remember(
                attrs.evolve(HEALTH, domain=name, updated_s=NOW_S + ord(name))
            )
            stores.peer_memory.remember_sts(
                attrs.evolve(POLICY, domain=name, fetched_s=NOW_S + ord(name))
            )
            await stores.peer_memory.save(NOW_S)
        known = sorted(one.domain for one in stores.peer_memory.all_health())
        assert known == ["b", "c", "d"]  # the second word on `a` said nothing new
        assert stores.peer_memory.sts("a") is None
    async with opener() as stores:
        assert sorted(one.domain for one in stores.peer_memory.all_health()) == known


async def test_the_least_recently_active_peer_is_forgotten_first_over_a_restart(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatmail.adapters.storage.federation.ledger.MAX_PEERS", 2)
    async with opener() as stores:
        stores.peer_ledger.count("b.test", LedgerEvent.INBOUND_SMTP, NOW_S)
        stores.peer_ledger.count("a.test", LedgerEvent.INBOUND_SMTP, NOW_S + 1)
        await stores.peer_ledger.save()
    async with opener() as stores:
        stores.peer_ledger.count("c.test", LedgerEvent.INBOUND_SMTP, NOW_S + 2)
        await stores.peer_ledger.save()
    async with opener() as stores:
        found = [record.domain for record in stores.peer_ledger.records()]
        assert found == ["c.test", "a.test"]


async def test_an_action_of_a_newer_version_is_left_alone(opener: Opener) -> None:
    async with opener() as stores:
        await stores.peers.put_rule(PeerRule("a.test", PeerAction.BLOCK, 1))
        connection = stores.store._writer._committer._database.writer
        connection.exec_driver_sql("INSERT INTO peer_rules VALUES ('b.test', 'shun', 2)").close()
    async with opener() as stores:
        assert [rule.pattern for rule in stores.peers.rules()] == ["a.test"]
        assert await stores.peers.flush_rules() == 2


def test_a_list_is_sorted_when_it_is_read_and_not_before() -> None:
    sorts: list[str] = []

    def order(rule: PeerRule) -> str:
        sorts.append(rule.pattern)
        return rule.pattern

    listing = Listing([PeerRule("b", PeerAction.BLOCK, 1)], "pattern", order)
    listing.put(PeerRule("a", PeerAction.BLOCK, 1))
    assert sorts == []
    found = listing.all()
    assert [rule.pattern for rule in found] == ["a", "b"]
    listing.put(PeerRule("a", PeerAction.BLOCK, 1))
    listing.drop("c")
    listing.replace(list(found))
    assert listing.all() is found
    assert len(sorts) == 2


async def test_a_policy_that_binds_still_outlives_thirty_idle_days(opener: Opener) -> None:
    async with opener() as stores:
        stores.peer_memory.remember_sts(attrs.evolve(POLICY, expires_s=NOW_S + 60 * DAY_S))
        await stores.peer_memory.save(NOW_S + 59 * DAY_S)
        assert stores.peer_memory.sts("a.test") is not None
        await stores.peer_memory.save(NOW_S + 91 * DAY_S)
        assert stores.peer_memory.sts("a.test") is None


def test_the_tables_have_what_the_values_have() -> None:
    columns = [column.name for column in schema.peer_counters.c]
    assert columns[1:] == [event.value for event in LedgerEvent] + [
        field for field in attrs.fields_dict(PeerRecord) if field not in ("domain", "counts")
    ] + ["active_s"]
    for table, value in ((schema.peer_health, PeerHealth), (schema.sts_policies, StsPolicy)):
        assert [column.name for column in table.c] == list(attrs.fields_dict(value))
