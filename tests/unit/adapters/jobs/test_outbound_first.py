"""First attempts, made while the client waits for its reply."""

from __future__ import annotations

import trio

from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.federation import PeerHealth
from chatmail.domain.model.outbound import QueueFilter
from tests.unit.adapters.jobs.runner import DEAD, SLOW, make, running
from tests.unit.domain.usecases.abroad import BOB, PEER
from tests.unit.fakes.remote import refuses


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
