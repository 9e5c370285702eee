"""The runner: fairness, probes, wake-ups, first attempts, expiry, the end of the process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs
import trio
import trio.testing

from chatmail.adapters.jobs.expiry import EXPIRY_S
from chatmail.adapters.jobs.outbound import LEASE_S, OutboundRunner
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.federation import HopFault, PeerHealth
from chatmail.domain.model.outbound import QueueFilter
from chatmail.domain.ports.remote import QueuedLetter
from tests.unit.domain.usecases.abroad import ALICE, BOB, PEER, RelayAbroad
from tests.unit.domain.usecases.relay import NOW_S
from tests.unit.fakes.remote import breaks, refuses

DEAD = "dead.test"
SLOW = "slow.test"


class LoopClock:
    """Both times follow the loop's clock."""

    def __init__(self) -> None:
        self.wall_offset_s = NOW_S - trio.current_time()

    def now_s(self) -> float:
        return trio.current_time() + self.wall_offset_s

    def monotonic_s(self) -> float:
        return trio.current_time()


@attrs.define
class Running:
    """A relay whose runner runs."""

    relay: RelayAbroad
    runner: OutboundRunner
    stop: Callable[[], None]
    stopped: trio.Event

    async def letter(self, *recipients: str, sender: str = ALICE) -> QueuedLetter:
        """Commit a message under a lease, as a submission does."""
        number = self.relay.enqueue(*recipients, sender=sender, lease_s=LEASE_S)
        mine = tuple(await self.relay.queue.page(QueueFilter(message=number), None, 100))

        async def read(offset: int, length: int) -> bytes:
            return await self.relay.queue.read(number, offset, length)

        return QueuedLetter(entries=mine, read=read)


def make() -> tuple[RelayAbroad, OutboundRunner]:
    relay = RelayAbroad()
    relay.clock = LoopClock()  # type: ignore[assignment]
    relay.wire()
    relay.schedule(start_delay_s=0.0)
    runner = OutboundRunner(
        attempt=relay.attempt,
        queue=relay.queue,
        memory=relay.memory,
        ledger=relay.ledger,
        clock=relay.clock,
        entropy=relay.entropy,
        settings=lambda: relay.settings,
        log=relay.log,
    )
    return relay, runner


@asynccontextmanager
async def running(relay: RelayAbroad, runner: OutboundRunner) -> AsyncIterator[Running]:
    async with trio.open_nursery() as nursery:
        stopped = trio.Event()

        async def run() -> None:
            try:
                await runner.run()
            finally:
                stopped.set()

        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        yield Running(relay, runner, nursery.cancel_scope.cancel, stopped)
        nursery.cancel_scope.cancel()


async def test_what_is_queued_is_delivered_and_woken_for(autojump_clock: trio.abc.Clock) -> None:
    relay, runner = make()
    relay.enqueue(BOB)
    async with running(relay, runner):
        await trio.sleep(1)
        assert relay.waiting() == {}
        relay.enqueue("carol@other.test", f"erin@{PEER}", f"frank@{PEER}")
        await trio.sleep(0.5)
    assert relay.waiting() == {}
    letters = [[str(one) for one in a.letter.recipients] for a in relay.transport.attempts]
    assert sorted(letters) == [[BOB], ["carol@other.test"], [f"erin@{PEER}", f"frank@{PEER}"]]


async def test_a_dead_peer_with_ten_thousand_messages_holds_nobody_up(
    autojump_clock: trio.abc.Clock,
) -> None:
    relay, runner = make()
    relay.transport.on(None, DEAD, breaks(HopFault.CONNECT))
    relay.transport.pauses[DEAD] = 10.0
    for number in range(10_000):
        relay.enqueue(f"u{number}@{DEAD}", sender=f"s{number}@relay.test")
    async with running(relay, runner):
        await trio.sleep(5)
        for number in range(100):
            relay.enqueue(f"u{number}@peer{number % 10}.test")
        await trio.sleep(0.5)
        assert all(one.endswith(DEAD) for one in relay.waiting())
        await trio.sleep(600)
        # In ten minutes a handful of probes, one at a time, each of another message.
        probed = [a for a in relay.transport.attempts if a.hop.host == DEAD]
        assert relay.transport.busiest[DEAD] <= relay.settings.queue.per_destination
        assert 4 <= len({a.letter.recipients for a in probed}) <= 12
    assert len(relay.waiting()) == 10_000


async def test_a_slow_peer_gets_its_share_and_no_more(autojump_clock: trio.abc.Clock) -> None:
    relay, runner = make()
    relay.schedule(parallelism=8, per_destination=4)
    relay.transport.pauses[SLOW] = 60.0
    for number in range(50):
        relay.enqueue(f"u{number}@{SLOW}", sender=f"s{number}@relay.test")
    async with running(relay, runner):
        await trio.sleep(1)
        for number in range(20):
            relay.enqueue(f"u{number}@peer{number}.test")
        await trio.sleep(1)
        assert all(one.endswith(SLOW) for one in relay.waiting())
        assert relay.transport.busiest[SLOW] == 4


async def test_no_more_attempts_run_than_allowed(autojump_clock: trio.abc.Clock) -> None:
    relay, runner = make()
    relay.schedule(parallelism=6, per_destination=2)
    for number in range(40):
        relay.transport.pauses[f"peer{number}.test"] = 1.0
        for other in range(3):
            relay.enqueue(f"u{other}@peer{number}.test")
    async with running(relay, runner):
        await trio.sleep(60)
    assert relay.waiting() == {}
    assert relay.transport.busiest["*"] == 6
    assert max(relay.transport.busiest[f"peer{n}.test"] for n in range(40)) <= 2


async def test_domains_on_one_host_share_its_connections(
    autojump_clock: trio.abc.Clock,
) -> None:
    relay, runner = make()
    relay.schedule(parallelism=32, per_destination=3)
    relay.transport.pauses["mx.test"] = 1.0
    for number in range(12):
        relay.resolver.add_mx(f"peer{number}.test", "mx.test")
        relay.enqueue(f"bob@peer{number}.test")
    async with running(relay, runner):
        await trio.sleep(0.5)
        relay.enqueue("bob@other.test")
        await trio.sleep(0.3)
        assert "bob@other.test" not in relay.waiting()
        await trio.sleep(30)
    assert relay.waiting() == {}
    assert relay.transport.busiest["mx.test"] == 3
    assert len(relay.transport.attempts) == 13


async def test_a_client_does_not_wait_for_a_crowded_host(autojump_clock: trio.abc.Clock) -> None:
    relay, runner = make()
    relay.schedule(per_destination=1)
    relay.transport.pauses["mx.test"] = 5.0
    relay.transport.on(None, "mx.test", refuses())
    for domain in (PEER, "other.test"):
        relay.resolver.add_mx(domain, "mx.test")
    async with running(relay, runner) as live:
        assert runner.start(await live.letter("bob@other.test"))
        await trio.sleep(0.1)
        assert await runner.try_now(await live.letter(), 1.0) is None
        await trio.sleep(20)
    assert relay.waiting() == {}
    assert len(relay.state.reports) == 2


async def test_turns_go_round(autojump_clock: trio.abc.Clock) -> None:
    relay, runner = make()
    relay.schedule(parallelism=1, per_destination=1)
    for domain in ("a.test", "b.test", "c.test"):
        relay.transport.pauses[domain] = 1.0
        for number in range(20):
            relay.enqueue(f"u{number}@{domain}")
    async with running(relay, runner):
        await trio.sleep(12.5)
    hosts = [a.hop.host for a in relay.transport.attempts]
    assert {hosts[:12].count(domain) for domain in ("a.test", "b.test", "c.test")} == {4}


async def test_small_messages_go_before_large_ones(autojump_clock: trio.abc.Clock) -> None:
    relay, runner = make()
    relay.schedule(parallelism=1, per_destination=1)
    relay.enqueue(f"large@{PEER}", size=100_000, age_s=10)
    relay.enqueue(f"small@{PEER}")
    async with running(relay, runner):
        await trio.sleep(1)
    assert [a.letter.recipients[0].local for a in relay.transport.attempts] == ["small", "large"]


async def test_a_chat_arrives_in_its_order(autojump_clock: trio.abc.Clock) -> None:
    relay, runner = make()
    relay.transport.on(None, PEER, breaks(HopFault.CONNECT))
    for number in range(20):
        relay.enqueue(f"u{number}@{PEER}", age_s=100 - number)
    async with running(relay, runner):
        await trio.sleep(100)
        relay.transport.behaviours.clear()
        relay.transport.attempts.clear()
        relay.transport.pauses = {PEER: 0.5}
        await trio.sleep(600)
    assert relay.waiting() == {}
    order = [a.letter.recipients[0].local for a in relay.transport.attempts]
    assert order == [f"u{n}" for n in range(20)]


async def test_a_probe_that_succeeds_lets_everything_go(autojump_clock: trio.abc.Clock) -> None:
    relay, runner = make()
    relay.transport.on(None, PEER, breaks(HopFault.CONNECT))
    for number in range(40):
        relay.enqueue(f"u{number}@{PEER}")
    async with running(relay, runner):
        await trio.sleep(3600)
        assert len(relay.waiting()) == 40
        relay.transport.behaviours.clear()
        until_s = relay.memory.health(PEER).not_before_s
        await trio.sleep(until_s - relay.clock.now_s() + 2)
        assert relay.waiting() == {}


async def test_one_probe_at_a_time(autojump_clock: trio.abc.Clock) -> None:
    relay, runner = make()
    relay.memory.remember(PeerHealth(domain=DEAD, connect_fail_streak=3))
    relay.transport.on(None, DEAD, breaks(HopFault.CONNECT))
    relay.transport.pauses[DEAD] = 5.0
    for number in range(10):
        relay.enqueue(f"u{number}@{DEAD}", sender=f"s{number}@relay.test")
    async with running(relay, runner):
        await trio.sleep(8)
    assert relay.transport.busiest[DEAD] == 1
    assert len({a.letter.recipients for a in relay.transport.attempts}) == 1


async def test_news_of_a_peer_wake_it_once_in_half_a_minute(autojump_clock: trio.abc.Clock) -> None:
    relay, runner = make()
    relay.transport.on(None, PEER, breaks(HopFault.CONNECT))
    relay.enqueue(BOB)
    async with running(relay, runner):
        await trio.sleep(3600)
        tried = len(relay.transport.attempts)
        runner.note_contact(PEER)
        await trio.sleep(1)
        assert len(relay.transport.attempts) > tried
        tried = len(relay.transport.attempts)
        for _ in range(20):
            runner.note_contact(PEER)
            await trio.sleep(1)
        assert len(relay.transport.attempts) == tried
        await trio.sleep(15)
        relay.transport.behaviours.clear()
        runner.note_contact(PEER)
        await trio.sleep(1)
        assert relay.waiting() == {}


async def test_news_of_a_stranger_cost_nothing(autojump_clock: trio.abc.Clock) -> None:
    relay, runner = make()
    async with running(relay, runner):
        await trio.sleep(1)
        for number in range(5000):
            runner.note_contact(f"peer{number}.test")
        assert not runner._contacts


# --- first attempts -----


async def test_a_refusal_in_time_is_the_reply_and_no_report(autojump_clock: trio.abc.Clock) -> None:
    relay, runner = make()
    relay.transport.on(None, PEER, refuses("550 5.1.1 User unknown"))
    relay.transport.pauses[PEER] = 0.5
    async with running(relay, runner) as live:
        letter = await live.letter()
        assert await runner.try_now(letter, 1.0) == "550 5.1.1 User unknown"
        assert relay.waiting() == {}
    assert relay.state.reports == []


async def test_a_refusal_that_comes_late_is_reported(autojump_clock: trio.abc.Clock) -> None:
    relay, runner = make()
    relay.transport.on(None, PEER, refuses())
    relay.transport.pauses[PEER] = 1.5
    async with running(relay, runner) as live:
        letter = await live.letter()
        started = trio.current_time()
        assert await runner.try_now(letter, 1.0) is None
        assert trio.current_time() - started == 1.0
        assert relay.state.reports == []
        await trio.sleep(1)
    assert relay.reported() == [[(BOB, "550 5.1.1 User unknown")]]


async def test_a_refusal_is_told_only_when_it_is_settled(autojump_clock: trio.abc.Clock) -> None:
    relay, runner = make()
    relay.transport.on(None, PEER, refuses())
    settle = relay.queue.settle
    failures = 3

    async def fail_at_first(settled: object) -> None:
        nonlocal failures
        await trio.lowlevel.checkpoint()
        if failures:
            failures -= 1
            raise TransientFailure("full disk")
        await settle(settled)  # type: ignore[arg-type]

    relay.queue.settle = fail_at_first  # type: ignore[method-assign,assignment]
    async with running(relay, runner) as live:
        letter = await live.letter()
        assert await runner.try_now(letter, 1.0) == "550 5.1.1 User unknown"
        assert relay.waiting() == {}
        assert relay.state.reports == []


async def test_success_and_temporary_trouble_are_no_reply(autojump_clock: trio.abc.Clock) -> None:
    for behaviour in (refuses("450 4.2.0 Later"), refuses("250 2.0.0 OK")):
        relay, runner = make()
        relay.transport.on(None, PEER, behaviour)
        async with running(relay, runner) as live:
            started = trio.current_time()
            assert await runner.try_now(await live.letter(), 1.0) is None
            assert trio.current_time() == started


async def test_a_client_that_leaves_does_not_end_the_attempt(
    autojump_clock: trio.abc.Clock,
) -> None:
    relay, runner = make()
    relay.transport.on(None, PEER, refuses())
    relay.transport.pauses[PEER] = 0.5
    async with running(relay, runner) as live:
        letter = await live.letter()
        with trio.move_on_after(0.1):
            await runner.try_now(letter, 1.0)
        await trio.sleep(1)
    assert relay.waiting() == {}
    assert len(relay.state.reports) == 1


async def test_unwell_peers_and_those_with_a_backlog_are_not_worth_a_first_attempt(
    autojump_clock: trio.abc.Clock,
) -> None:
    relay, runner = make()
    assert not runner.is_worthwhile(PEER)  # nobody runs
    async with running(relay, runner):
        await trio.sleep(1)
        assert runner.is_worthwhile(PEER)
        relay.memory.remember(PeerHealth(domain=DEAD, connect_fail_streak=1))
        assert not runner.is_worthwhile(DEAD)
        relay.transport.on(None, SLOW, refuses("450 4.2.0 Later"))
        relay.enqueue(f"bob@{SLOW}")
        await trio.sleep(1)
        assert not runner.is_worthwhile(SLOW)
        relay.transport.behaviours.clear()
        await trio.sleep(60)
        assert runner.is_worthwhile(SLOW)


async def test_a_letter_without_room_goes_back_and_is_delivered_by_the_queue(
    autojump_clock: trio.abc.Clock,
) -> None:
    relay, runner = make()
    async with running(relay, runner) as live:
        letter = await live.letter()
        relay.memory.remember(
            PeerHealth(domain=PEER, not_before_s=relay.clock.now_s() + 20, connect_fail_streak=1)
        )
        assert await runner.try_now(letter, 1.0) is None
        await trio.sleep(1)
        (entry,) = await relay.queue.page(QueueFilter(), None, 10)
        assert (entry.attempts, entry.last) == (0, None)
        await trio.sleep(25)
        assert relay.waiting() == {}


async def test_fresh_letters_wait_in_bounded_number(autojump_clock: trio.abc.Clock) -> None:
    relay, runner = make()
    relay.transport.pauses[PEER] = 30.0
    async with running(relay, runner) as live:
        letters = [await live.letter(sender=f"s{n}@relay.test") for n in range(60)]
        taken = [runner.start(letter) for letter in letters]
        assert 16 <= sum(taken) <= 24
        await trio.sleep(600)
        assert relay.waiting() == {}


# --- the end of lives -----


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
