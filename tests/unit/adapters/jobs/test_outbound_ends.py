"""The end of messages, attempts, leases, the process; and starts after it."""

from __future__ import annotations

import trio

from chatmail.adapters.jobs.expiry import EXPIRY_S
from chatmail.adapters.jobs.outbound import LEASE_S
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.federation import HopFault, PeerHealth
from chatmail.domain.model.outbound import QueueFilter
from tests.unit.adapters.jobs.runner import SLOW, make, running
from tests.unit.domain.usecases.abroad import BOB, PEER
from tests.unit.fakes.remote import breaks, refuses


async def test_old_messages_are_given_up_with_one_report_each(
    autojump_clock: trio.abc.Clock,
) -> None:
    relay, runner = make()
    relay.transport.on(None, PEER, breaks(HopFault.CONNECT, "451 4.4.1 No answer"))
    relay.enqueue(BOB, f"erin@{PEER}", age_s=48 * 3600 - 30)
    relay.enqueue(f"frank@{PEER}", age_s=24 * 3600, sender=None, is_report=True)
    relay.enqueue(f"grace@{PEER}")
    async with running(relay, runner):
        await trio.sleep(EXPIRY_S + 40)
    assert set(relay.waiting()) == {f"grace@{PEER}"}
    (report,) = relay.reported()
    assert [address for address, _ in report] == [BOB, f"erin@{PEER}"]
    assert all(reply.startswith("550 5.4.7 Delivery time expired") for _, reply in report)


async def test_attempts_under_way_may_finish_when_the_relay_stops(
    autojump_clock: trio.abc.Clock,
) -> None:
    relay, runner = make()
    relay.transport.pauses[PEER] = 2.0
    relay.transport.pauses[SLOW] = 60.0
    relay.enqueue(BOB, f"bob@{SLOW}")
    async with running(relay, runner) as live:
        await trio.sleep(0.5)
        started = trio.current_time()
        live.stop()
    assert trio.current_time() - started == 3.0
    assert relay.waiting() == {f"bob@{SLOW}": ""}
    assert len(await relay.claimed(SLOW)) == 1


async def test_a_backlog_that_drains_hides_no_newcomer(autojump_clock: trio.abc.Clock) -> None:
    relay, runner = make()
    relay.schedule(parallelism=4, per_destination=4)
    relay.transport.pauses[PEER] = 0.01
    for number in range(1000):
        relay.enqueue(f"u{number}@{PEER}")
    async with running(relay, runner):
        await trio.sleep(0.5)
        relay.enqueue("bob@other.test")
        await trio.sleep(0.3)
        assert "bob@other.test" not in relay.waiting()
        assert relay.waiting()


async def test_stopping_hands_back_what_is_in_hand(autojump_clock: trio.abc.Clock) -> None:
    relay, runner = make()
    relay.transport.pauses[PEER] = 60.0
    for number in range(10):
        relay.enqueue(f"u{number}@{PEER}")
    async with running(relay, runner) as live:
        await trio.sleep(1)
        assert len(await relay.claimed()) == 0
        live.stop()
    assert live.stopped.is_set()
    claimed = await relay.claimed()
    assert len(claimed) == 10
    assert all(entry.attempts == 0 and entry.last is None for entry in claimed)
    assert relay.memory.saves > 0
    assert relay.ledger.saves > 0


async def test_a_killed_process_loses_nothing_the_lease_runs_out(
    autojump_clock: trio.abc.Clock,
) -> None:
    relay, runner = make()
    relay.enqueue(BOB)
    assert len(await relay.claimed()) == 1  # and then it is killed
    async with running(relay, runner):
        await trio.sleep(LEASE_S - 10)
        assert relay.transport.attempts == []
        await trio.sleep(80)
        assert relay.waiting() == {}


async def test_an_attempt_without_end_is_cut_off(autojump_clock: trio.abc.Clock) -> None:
    relay, runner = make()
    relay.transport.pauses[PEER] = 10**6
    relay.enqueue(BOB)
    async with running(relay, runner):
        await trio.sleep(LEASE_S)
        assert relay.waiting() == {BOB: "451 4.4.2 The attempt took too long"}


async def test_a_lost_store_pauses_and_heals(autojump_clock: trio.abc.Clock) -> None:
    relay, runner = make()
    relay.enqueue(BOB)
    backlogs, claim, lost = relay.queue.backlogs, relay.queue.claim, True

    async def maybe_backlogs():  # type: ignore[no-untyped-def]
        if lost:
            raise TransientFailure("lost")
        return await backlogs()

    async def maybe_claim(*args):  # type: ignore[no-untyped-def]
        if lost:
            raise TransientFailure("lost")
        return await claim(*args)

    relay.queue.backlogs = maybe_backlogs  # type: ignore[method-assign]
    relay.queue.claim = maybe_claim  # type: ignore[method-assign]
    async with running(relay, runner):
        await trio.sleep(30)
        assert relay.log.events() == ["outbound_paused"]
        lost = False
        await trio.sleep(31)
        assert relay.waiting() == {}


async def test_a_delivery_that_could_not_be_noted_is_not_made_twice(
    autojump_clock: trio.abc.Clock,
) -> None:
    relay, runner = make()
    relay.enqueue(BOB)
    settle, is_full = relay.queue.settle, True

    async def full_disk(settled: object) -> None:
        await trio.lowlevel.checkpoint()
        if is_full:
            raise TransientFailure("full")
        await settle(settled)  # type: ignore[arg-type]

    relay.queue.settle = full_disk  # type: ignore[method-assign,assignment]
    async with running(relay, runner):
        await trio.sleep(300)
        is_full = False
        await trio.sleep(60)
    assert relay.waiting() == {}
    assert len(relay.transport.attempts) == 1


async def test_a_start_does_not_storm_all_peers_at_once(autojump_clock: trio.abc.Clock) -> None:
    relay, runner = make()
    relay.schedule(start_delay_s=10.0)
    for number in range(50):
        relay.enqueue(f"bob@peer{number}.test")
    async with running(relay, runner) as live:
        await trio.sleep(1)
        assert len(relay.transport.attempts) < 15
        assert runner.start(await live.letter("bob@fresh.test"))
        await trio.sleep(0.1)
        assert relay.transport.attempts[-1].hop.host == "fresh.test"
        await trio.sleep(10)
        assert relay.waiting() == {}


async def test_held_entries_are_left_alone(autojump_clock: trio.abc.Clock) -> None:
    relay, runner = make()
    number = relay.enqueue(BOB)
    await relay.queue.hold(QueueFilter(message=number), True)
    async with running(relay, runner):
        await trio.sleep(3600)
        assert relay.transport.attempts == []
        await relay.queue.hold(QueueFilter(message=number), False)
        await trio.sleep(1)
        assert relay.waiting() == {}


async def test_an_operators_retry_is_followed_at_once(autojump_clock: trio.abc.Clock) -> None:
    relay, runner = make()
    relay.transport.on(None, PEER, refuses("450 4.2.0 Later"))
    relay.enqueue(BOB)
    async with running(relay, runner):
        await trio.sleep(1000)
        tried = len(relay.transport.attempts)
        await relay.queue.retry(QueueFilter(domain=PEER), relay.clock.now_s())
        await trio.sleep(1)
        assert len(relay.transport.attempts) == tried + 1


async def test_what_is_put_off_during_a_look_is_not_forgotten(
    autojump_clock: trio.abc.Clock,
) -> None:
    relay, runner = make()
    relay.transport.on(None, PEER, refuses("450 4.2.0 Later"))
    relay.schedule(start_delay_s=0.0, schedule_s=(3.0,))
    backlogs, is_slow = relay.queue.backlogs, False

    async def read_long_ago():  # type: ignore[no-untyped-def]
        found = await backlogs()
        await trio.sleep(1 if is_slow else 0)
        return found

    relay.queue.backlogs = read_long_ago  # type: ignore[method-assign]
    async with running(relay, runner) as live:
        await trio.sleep(1)
        is_slow = True
        letter = await live.letter()
        relay.enqueue("carol@other.test")  # has the runner look, while the letter is leased
        await trio.sleep(0.5)
        assert await runner.try_now(letter, 1.0) is None
        assert len(relay.transport.attempts) == 1
        is_slow = False
        await trio.sleep(6)
        assert [a.hop.host for a in relay.transport.attempts].count(PEER) >= 2


async def test_a_process_that_was_stopped_in_a_look_looks_again_soon(
    autojump_clock: trio.abc.Clock,
) -> None:
    relay, runner = make()
    backlogs, looks = relay.queue.backlogs, 0

    async def slow_once():  # type: ignore[no-untyped-def]
        nonlocal looks
        looks += 1
        if looks == 2:
            await trio.sleep(2)
        return await backlogs()

    relay.queue.backlogs = slow_once  # type: ignore[method-assign]
    async with running(relay, runner):
        await trio.sleep(1)
        relay.enqueue(BOB)
        await trio.sleep(2.5)
        relay.enqueue("carol@other.test")
        await trio.sleep(1)
        assert relay.waiting() == {}


async def test_whoever_may_be_taken_for_dead_takes_its_hands_off(
    autojump_clock: trio.abc.Clock,
) -> None:
    relay, runner = make()
    relay.schedule(per_destination=1)
    relay.transport.pauses[PEER] = 1000.0
    for number in range(3):
        relay.enqueue(f"u{number}@{PEER}")
    keep_alive, is_away = relay.queue.keep_alive, False

    async def maybe_keep_alive() -> int:
        if is_away:
            await trio.sleep(20)
            raise TransientFailure("away")
        return await keep_alive()

    relay.queue.keep_alive = maybe_keep_alive  # type: ignore[method-assign]
    async with running(relay, runner):
        await trio.sleep(300)
        assert relay.queue.beats >= 30
        assert relay.transport.running[PEER] == 1
        is_away = True
        now_s = relay.clock.now_s()
        relay.memory.remember(
            PeerHealth(domain=PEER, not_before_s=now_s + 500, updated_s=int(now_s))
        )
        await trio.sleep(20)
        assert relay.transport.running[PEER] == 1
        await trio.sleep(20)
        assert relay.transport.running[PEER] == 0
        assert len(relay.transport.attempts) == 1
    assert len(await relay.claimed()) == 2  # the third was under way: it waits for its retry


async def test_an_idle_runner_sleeps(autojump_clock: trio.abc.Clock) -> None:
    relay, runner = make()
    looks = 0
    backlogs = relay.queue.backlogs

    async def counted():  # type: ignore[no-untyped-def]
        nonlocal looks
        looks += 1
        return await backlogs()

    relay.queue.backlogs = counted  # type: ignore[method-assign]
    async with running(relay, runner):
        await trio.sleep(3600)
    assert looks <= 62
