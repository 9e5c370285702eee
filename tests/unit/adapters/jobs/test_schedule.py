"""The schedule: everything in its time, whatever the wall clock does."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import attrs
import trio
from trio.testing import MockClock

from chatmail.adapters.jobs.schedule import (
    BY_AGE,
    FIRST_AFTER_S,
    HOURLY,
    NIGHTLY,
    VACUUM_EVERY_S,
    run_schedule,
)
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.settings import RetentionSettings
from chatmail.domain.usecases.tasks import TaskName
from tests.unit.fakes.system import FakeEntropy, FakeLog

HOUR_S = 3600.0


class Tasks:
    """Notes when each task ran."""

    def __init__(self) -> None:
        self.ran: list[tuple[float, TaskName]] = []
        self.is_suspect = False
        self.broken: set[TaskName] = set()
        self.asked = 0

    async def __call__(self, name: TaskName) -> None:
        await trio.lowlevel.checkpoint()
        if name in self.broken:
            raise TransientFailure("told to fail")
        self.ran.append((trio.current_time(), name))

    async def watch_time(self) -> bool:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        return self.is_suspect

    def counts(self) -> Counter[TaskName]:
        return Counter(name for _, name in self.ran)

    def times(self, task: TaskName) -> list[float]:
        return [time for time, name in self.ran if name is task]


@attrs.define
class World:
    tasks: Tasks = attrs.field(factory=Tasks)
    settings: RetentionSettings = attrs.field(factory=RetentionSettings)
    log: FakeLog = attrs.field(factory=FakeLog)

    async def run(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await run_schedule(self.tasks, lambda: self.settings, FakeEntropy(), self.log)  # type: ignore[arg-type]


async def test_hourly_and_nightly_work_is_done_in_time(autojump_clock: MockClock) -> None:
    world = World()
    await world.run(47.5 * HOUR_S)
    counts = world.tasks.counts()
    for task in HOURLY:
        assert 45 <= counts[task] <= 48, task
    for task in NIGHTLY:
        assert counts[task] == 2, task
    assert counts[TaskName.VACUUM] >= 45 * HOUR_S / VACUUM_EVERY_S
    assert TaskName.PRUNE_UNREAD_OLDER not in counts


async def test_runs_are_an_hour_and_up_to_two_minutes_apart(autojump_clock: MockClock) -> None:
    world = World()
    await world.run(30 * HOUR_S)
    times = world.tasks.times(TaskName.PRUNE_OLD_MESSAGES)
    gaps = [after - before for before, after in pairwise(times)]
    assert all(HOUR_S <= gap <= HOUR_S + 121 for gap in gaps)
    assert len({round(gap) for gap in gaps}) > 3


async def test_what_a_crash_left_is_finished_first_and_the_rest_after_a_while(
    autojump_clock: MockClock,
) -> None:
    world = World()
    await world.run(FIRST_AFTER_S + 1)
    assert world.tasks.ran[0] == (0.0, TaskName.VACUUM)
    rest = world.tasks.ran[1:]
    assert {name for _, name in rest} == HOURLY | NIGHTLY
    assert all(time >= FIRST_AFTER_S for time, _ in rest)


async def test_nothing_goes_by_age_while_the_time_is_suspect(autojump_clock: MockClock) -> None:
    world = World()
    world.tasks.is_suspect = True
    await world.run(FIRST_AFTER_S + 1)
    assert not BY_AGE & world.tasks.counts().keys()
    assert TaskName.TRIM_QUOTA in world.tasks.counts()
    assert "time_suspect" in world.log.events()
    world.tasks.is_suspect = False
    await world.run(FIRST_AFTER_S + 1)
    assert set(world.tasks.counts()) >= BY_AGE


async def test_the_time_is_written_down_about_once_an_hour(autojump_clock: MockClock) -> None:
    world = World()
    await world.run(24 * HOUR_S)
    # Each hourly task has a time of its own after a while; none of them asks more than once.
    assert 23 <= world.tasks.asked <= 24 * len(BY_AGE)


async def test_a_shorter_period_holds_within_a_minute(autojump_clock: MockClock) -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run, 2 * HOUR_S)
        await trio.sleep(600)
        before = world.tasks.counts()[TaskName.PRUNE_OLD_MESSAGES]
        world.settings = RetentionSettings(interval_s=10)
        await trio.sleep(160)
        assert world.tasks.counts()[TaskName.PRUNE_OLD_MESSAGES] >= before + 8
        nursery.cancel_scope.cancel()


async def test_a_task_the_store_cannot_do_now_holds_up_no_other(autojump_clock: MockClock) -> None:
    world = World()
    world.tasks.broken = {TaskName.PRUNE_OLD_MESSAGES, TaskName.VACUUM}
    await world.run(2 * HOUR_S)
    assert TaskName.TRIM_QUOTA in world.tasks.counts()
    assert world.log.events().count("task_postponed") > 2
    assert world.log.events().count("task_postponed") < 20
