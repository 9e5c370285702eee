"""Two processes that empty one queue, and hear of each other's words on peers."""

from __future__ import annotations

import attrs
import pytest
import trio

from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.federation import (
    Dismissal,
    LedgerEvent,
    PeerAction,
    PeerHealth,
    PeerOverride,
    PeerRule,
    StsPolicy,
)
from chatmail.domain.model.message import Body
from chatmail.domain.model.outbound import (
    OutboundEntry,
    OutboundMessageId,
    QueueFilter,
    SettlementKind,
)
from chatmail.domain.ports.intake import Delivery, IntakeBatch
from tests.patience import PATIENCE_S
from tests.unit.adapters.storage.invariants import check_index_equals_database
from tests.unit.adapters.storage.postgresql.conftest import Database, Pair, until, write_beside
from tests.unit.ports.world import DAY_S, HEADER, NOW_S, Stores, make_outbound, settled_as

EVERYTHING = QueueFilter()
DELIVERED = SettlementKind.DELIVERED


async def claim(stores: Stores, limit: int = 100, lease_s: float = 60) -> list[OutboundEntry]:
    return await stores.outbound.claim("peer.test", NOW_S, lease_s, limit)


def keys(entries: list[OutboundEntry]) -> list[tuple[int, str]]:
    return [(int(one.message.id), str(one.recipient)) for one in entries]


async def test_claims_of_two_processes_never_overlap(pair: Pair) -> None:
    one, other = pair
    for number in range(1, 11):
        recipients = [f"user{place:02}@peer.test" for place in range(20)]
        await one.deliver(outbound=make_outbound(number, *recipients))
    claimed: list[tuple[int, str]] = []

    async def work(stores: Stores) -> None:
        while found := await claim(stores, 7):
            claimed.extend(keys(found))
            await stores.outbound.settle(settled_as(*((entry, DELIVERED) for entry in found)))

    async with trio.open_nursery() as nursery:
        for stores in pair * 2:
            nursery.start_soon(work, stores)
    # A claim that met only what the other was taking comes back empty; the rest is still there.
    await work(other)
    assert len(claimed) == 200
    assert len(set(claimed)) == 200
    assert await one.outbound.backlogs() == []
    await check_index_equals_database(one)


async def test_the_last_two_entries_end_a_message_whoever_settles_them(pair: Pair) -> None:
    one, other = pair
    for number in range(1, 21):
        await one.deliver(outbound=make_outbound(number, "a@peer.test", "b@peer.test"))
    found = await claim(one)

    async def settle(stores: Stores, name: str, entries: list[OutboundEntry]) -> None:
        for entry in entries:
            if entry.recipient.local == name:
                await stores.outbound.settle(settled_as((entry, DELIVERED)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(settle, one, "a", found)
        nursery.start_soon(settle, other, "b", found)
    await check_index_equals_database(one)
    for _ in range(2):
        await one.store.sweep()
    with pytest.raises(TransientFailure):
        await one.outbound.read(OutboundMessageId(1), 0, 1)


async def test_what_one_queues_wakes_the_other(pair: Pair) -> None:
    one, other = pair
    with trio.fail_after(60):
        await other.outbound.wait_for_more()  # the first look of the listener
        await one.deliver(outbound=make_outbound())
        await other.outbound.wait_for_more()
    assert keys(await claim(other)) == [(1, "bob@peer.test")]
    assert await other.outbound.read(OutboundMessageId(1), 0, 9999) == HEADER + b"hello\r\n"


async def test_a_copy_is_delivered_once_by_two_processes(pair: Pair) -> None:
    account = await pair[0].account()
    landed: list[bool] = []

    async def deliver(stores: Stores) -> None:
        batch = IntakeBatch(
            body=Body(HEADER, (b"x\r\n",), 3),
            internal_date_s=NOW_S,
            deliveries=(Delivery(account.inbox, once=b"key"),),
        )
        landed.extend(one is not None for one in await stores.intake.commit(batch))

    async with trio.open_nursery() as nursery:
        for stores in pair * 3:
            nursery.start_soon(deliver, stores)
    assert sorted(landed) == [False] * 5 + [True]
    await check_index_equals_database(pair[0])


async def test_a_process_that_starts_again_gets_its_own_leases_back(database: Database) -> None:
    async with database.store() as one:
        await one.deliver(outbound=make_outbound(1))
        await one.deliver(outbound=make_outbound(2))
        assert len(await claim(one, 1)) == 1
        database.count = 10
        async with database.store() as other:
            assert len(await claim(other, 1)) == 1
            await other.deliver(outbound=make_outbound(3, leased_until_s=NOW_S + 60))
        assert await claim(one) == []
        database.count = 10
        async with database.store() as again:
            assert keys(await claim(again)) == [(2, "bob@peer.test"), (3, "bob@peer.test")]


def fall_silent(stores: Stores, seconds: int) -> None:
    """As if a process had committed nothing for so long."""
    process = int(stores.store.listener._process)
    statement = "UPDATE writers SET seen_s = seen_s - %s WHERE id = %s"
    write_beside(stores, statement, seconds, process)


async def test_a_dead_processs_mail_is_taken_over_and_a_living_ones_is_not(pair: Pair) -> None:
    one, other = pair
    await one.deliver(outbound=make_outbound(1))
    await other.deliver(outbound=make_outbound(2, leased_until_s=NOW_S + 1800))
    assert len(await claim(one, lease_s=1800)) == 1
    assert await other.outbound.keep_alive() == 0
    fall_silent(one, 30)
    assert await other.outbound.keep_alive() == 0
    await one.outbound.keep_alive()
    fall_silent(one, 30)
    assert await other.outbound.keep_alive() == 0
    fall_silent(one, 15)
    with trio.fail_after(PATIENCE_S):
        await other.outbound.wait_for_more()
        assert await other.outbound.keep_alive() == 1
        await other.outbound.wait_for_more()
    assert keys(await claim(other)) == [(1, "bob@peer.test")]
    assert "queue_taken_over" in other.log.events
    assert await claim(one) == []


async def test_a_process_that_was_taken_for_dead_cannot_give_away_what_another_has(
    pair: Pair,
) -> None:
    one, other = pair
    for number in (1, 2, 3):
        await one.deliver(outbound=make_outbound(number))
    retried, returned, delivered = await claim(one, lease_s=1800)
    fall_silent(one, 60)
    assert await other.outbound.keep_alive() == 3
    assert len(await claim(other, lease_s=1800)) == 3
    ends = ((retried, SettlementKind.RETRY), (returned, None), (delivered, DELIVERED))
    await one.outbound.settle(settled_as(*ends, due_s=NOW_S))
    assert await claim(one) == []
    left = await other.outbound.page(EVERYTHING, None, 9)
    assert [(int(entry.message.id), entry.attempts) for entry in left] == [(1, 0), (2, 0)]


async def test_what_one_process_learned_the_other_knows(pair: Pair) -> None:
    one, other = pair
    known = PeerHealth(domain="a.test", updated_s=NOW_S, not_before_s=NOW_S + 60.0)
    one.peer_memory.remember(known)
    await one.peer_memory.save(NOW_S)
    await until(lambda: other.peer_memory.health("a.test") == known)
    # What is here and newer stays until it is stored.
    newer = attrs.evolve(known, updated_s=NOW_S + 2, not_before_s=0.0)
    other.peer_memory.remember(newer)
    one.peer_memory.remember(attrs.evolve(known, updated_s=NOW_S + 1, smtp_fail_streak=1))
    await one.peer_memory.save(NOW_S)
    await other.peer_memory.reload(["a.test"])
    assert other.peer_memory.health("a.test") == newer
    await other.peer_memory.save(NOW_S)
    await until(lambda: one.peer_memory.health("a.test") == newer)


async def test_what_one_process_forgets_the_other_forgets(pair: Pair) -> None:
    one, other = pair
    known = PeerHealth(domain="a.test", updated_s=NOW_S, not_before_s=NOW_S + 60.0)
    policy = StsPolicy(
        domain="a.test", id="1", mode="enforce", mx=("x.test",), expires_s=NOW_S, fetched_s=1
    )
    other.peer_memory.remember(known)
    other.peer_memory.remember_sts(policy)
    await other.peer_memory.save(NOW_S)
    await until(lambda: one.peer_memory.health("a.test") == known)
    assert one.peer_memory.forget("a.test")
    await one.peer_memory.save(NOW_S)
    await until(lambda: other.peer_memory.health("a.test") == PeerHealth(domain="a.test"))
    assert other.peer_memory.sts("a.test") is None


async def test_what_was_learned_meanwhile_is_read_after_a_lost_connection(pair: Pair) -> None:
    one, other = pair
    one.store.listener.heed = _deaf  # type: ignore[method-assign]
    known = PeerHealth(domain="a.test", updated_s=NOW_S)
    other.peer_memory.remember(known)
    await other.peer_memory.save(NOW_S)
    await one.store.listener.look_at_everything()
    assert one.peer_memory.health("a.test") == known


async def _deaf(news: object) -> None:
    await trio.lowlevel.checkpoint()


async def test_an_operators_word_to_one_process_counts_for_all(pair: Pair) -> None:
    one, other = pair
    rule = PeerRule("a.test", PeerAction.BLOCK, 1)
    override = PeerOverride(domain="b.test", target="c.test")
    await one.peers.put_rule(rule)
    await one.peers.put_dismissal(Dismissal("d.test", 2))
    await one.peers.put_override(override)
    await until(lambda: other.peers.override("b.test") == override)
    assert list(other.peers.rules()) == [rule]
    assert list(other.peers.dismissals()) == [Dismissal("d.test", 2)]
    await other.peers.flush_rules()
    await until(lambda: not one.peers.rules())


async def test_words_that_were_missed_are_read_after_a_lost_connection(pair: Pair) -> None:
    one, other = pair
    await other.store.listener.look_at_everything()
    statement = "INSERT INTO peer_rules VALUES ('quiet.test', 'block', 5)"
    write_beside(one, statement)
    assert list(other.peers.rules()) == []
    await other.store.listener.look_at_everything()
    assert list(other.peers.rules()) == [PeerRule("quiet.test", PeerAction.BLOCK, 5)]


async def test_counters_of_all_processes_add_up(pair: Pair) -> None:
    one, other = pair
    for stores in pair:
        stores.peer_ledger.delivered("a.test", LedgerEvent.OK_SMTP, NOW_S, 10)
        stores.peer_ledger.count("a.test", LedgerEvent.FAIL_SMTP, NOW_S, "450 later")
        await stores.peer_ledger.save()
    other.peer_ledger.count("a.test", LedgerEvent.FAIL_SMTP, NOW_S)
    await other.peer_ledger.save()
    one.peer_ledger.count("b.test", LedgerEvent.BOUNCED, NOW_S + 1)
    await one.peer_ledger.save()
    newest, (found) = one.peer_ledger.records()
    assert newest.domain == "b.test"
    assert found.counts == {LedgerEvent.OK_SMTP: 2, LedgerEvent.FAIL_SMTP: 3}
    assert (found.latency_sum_ms, found.latency_count) == (20, 2)
    assert found.last_error == "450 later"


async def test_what_one_process_does_not_use_another_may(database: Database) -> None:
    old = PeerHealth(domain="a.test", updated_s=NOW_S, connect_fail_streak=1)
    async with database.store() as one:
        one.peer_memory.remember(old)
        await one.peer_memory.save(NOW_S)
        async with database.store() as other:
            later = NOW_S + 29 * DAY_S
            one.peer_memory.remember(attrs.evolve(old, updated_s=later))
            one.peer_memory.remember(attrs.evolve(old, domain="b.test"))
            await one.peer_memory.save(later)
            await other.peer_memory.save(NOW_S + 31 * DAY_S)
            assert list(other.peer_memory.all_health()) == []
    async with database.store() as again:
        assert [one.domain for one in again.peer_memory.all_health()] == ["a.test"]


async def test_entries_go_with_their_account_whoever_deletes_it(pair: Pair) -> None:
    one, other = pair
    ann = await one.account()
    recipients = [f"user{place:04}@peer.test" for place in range(700)]
    await one.deliver(ann.inbox, outbound=make_outbound(1, *recipients))
    assert len(await claim(one, 10)) == 10
    await other.accounts.delete(ann.id, None)
    assert await one.outbound.page(EVERYTHING, None, 9) == []
    await check_index_equals_database(other)
