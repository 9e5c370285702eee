"""The task that runs maintenance when it is due.

Sleeps by the monotonic clock, so a wall clock that jumps can neither stall it nor set off a storm;
wall time decides only what is old, and when that has jumped, nothing is removed for one round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, NoReturn

import trio

from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.usecases.tasks import TaskName

if TYPE_CHECKING:
    from chatmail.domain.model.settings import RetentionSettings
    from chatmail.domain.ports.system import Entropy, Log
    from chatmail.domain.usecases.tasks import RunTask

BY_AGE: Final = frozenset(
    {
        TaskName.PRUNE_OLD_MESSAGES,
        TaskName.PRUNE_LARGE_MESSAGES,
        TaskName.PURGE_SEEN,
        TaskName.PRUNE_UNUSED_ACCOUNTS,
        TaskName.PRUNE_PUSH_TOKENS,
    }
)
"""What a wrong clock would remove wrongly. Inactive accounts have a guard of their own."""

NIGHTLY: Final = frozenset(
    {
        TaskName.PRUNE_INACTIVE_ACCOUNTS,
        TaskName.TRIM_QUOTA,
        TaskName.PRUNE_PUSH_TOKENS,
        TaskName.RENEW_CERTIFICATE,
    }
)
HOURLY: Final = frozenset(
    {
        TaskName.PRUNE_OLD_MESSAGES,
        TaskName.PRUNE_LARGE_MESSAGES,
        TaskName.PURGE_SEEN,
        TaskName.PRUNE_UNUSED_ACCOUNTS,
        TaskName.PRUNE_QUEUE,
    }
)
ROUNDS_PER_DAY: Final = 24
VACUUM_EVERY_S: Final = 600.0
FIRST_AFTER_S: Final = 120.0
"""A relay that has just started has better things to do: every client is coming back."""

LOOK_EVERY_S: Final = 60.0
JITTER_RATIO: Final = 1 / 30  # two minutes of an hour


class _Plan:
    """When each task is due next, by Trio's clock."""

    def __init__(self, entropy: Entropy, now_s: float, first_after_s: float) -> None:
        self._entropy = entropy
        # What a crash left half done is finished first.
        self._due = dict.fromkeys(HOURLY | NIGHTLY, now_s + first_after_s)
        self._due[TaskName.VACUUM] = now_s

    def due(self, now_s: float) -> list[TaskName]:
        """Return what is due, in the order in which it is to run: removals, then the clean-up."""
        found = {task for task, due_s in self._due.items() if due_s <= now_s}
        return [task for task in TaskName if task in found]

    def done(self, task: TaskName, now_s: float, every_s: float) -> None:
        """Note that a task was run (or passed over)."""
        chance = int.from_bytes(self._entropy.octets(2), "big") / 0xFFFF
        self._due[task] = now_s + every_s * (1 + JITTER_RATIO * chance)

    def hasten(self, task: TaskName, latest_s: float) -> None:
        """Bring a task forward: the operator has shortened its period."""
        self._due[task] = min(self._due[task], latest_s)

    def next_s(self) -> float:
        """Return when something is due."""
        return min(self._due.values())

    def __iter__(self) -> Iterator[TaskName]:
        return iter(tuple(self._due))


def period_s(task: TaskName, interval_s: float) -> float:
    """Return how often a task runs."""
    if task is TaskName.VACUUM:
        return min(VACUUM_EVERY_S, interval_s)
    return interval_s * ROUNDS_PER_DAY if task in NIGHTLY else interval_s


async def run_schedule(
    run_task: RunTask, settings: Callable[[], RetentionSettings], entropy: Entropy, log: Log
) -> NoReturn:
    """Run every task when it is due, for ever; one at a time.

    Cancellation:  safe anywhere; what a task had not done it finds again.
    """
    plan = _Plan(entropy, trio.current_time(), min(FIRST_AFTER_S, settings().interval_s))
    while True:
        interval_s = settings().interval_s
        for task in plan:
            plan.hasten(task, trio.current_time() + period_s(task, interval_s) * (1 + JITTER_RATIO))
        due = plan.due(trio.current_time())
        may_remove = not (BY_AGE & set(due)) or not await _is_time_suspect(run_task, log)
        for task in due:
            if may_remove or task not in BY_AGE:
                await _run(run_task, task, log)
            plan.done(task, trio.current_time(), period_s(task, interval_s))
        pause_s = plan.next_s() - trio.current_time()
        await trio.sleep(max(0.0, min(pause_s, LOOK_EVERY_S)))


async def _run(run_task: RunTask, task: TaskName, log: Log) -> None:
    try:
        await run_task(task)
    except TransientFailure:
        log.warning("task_postponed", task=task)


async def _is_time_suspect(run_task: RunTask, log: Log) -> bool:
    try:
        is_suspect = await run_task.watch_time()
    except TransientFailure:
        return True
    if is_suspect:
        log.info("time_suspect")
    return is_suspect
