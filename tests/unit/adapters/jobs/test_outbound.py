"""The runner: fairness between peers and messages, probes, wake-ups."""

from __future__ import annotations

import trio

from chatmail.domain.model.federation import HopFault, PeerHealth
from tests.unit.adapters.jobs.runner import DEAD, SLOW, make, running
from tests.unit.domain.usecases.abroad import BOB, PEER
from tests.unit.fakes.remote import breaks, refuses


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
