"""Background jobs come back after a bug."""

from __future__ import annotations

import itertools

import pytest
import trio
from trio.testing import MockClock

from chatmail.app.keeper import keep_running


class Log:
    def __init__(self) -> None:
        self.failures: list[tuple[str, object]] = []

    def error(self, event: str, **fields: object) -> None:
        self.failures.append((event, fields["job"]))


async def test_a_failing_job_is_restarted_with_growing_pauses(autojump_clock: MockClock) -> None:
    log, starts = Log(), []

    async def job() -> None:
        starts.append(trio.current_time())
        if len(starts) < 4:
            raise ValueError("bug")

    await keep_running("sweep", job, log)
    assert [later - earlier for earlier, later in itertools.pairwise(starts)] == [
        pytest.approx(1),
        pytest.approx(2),
        pytest.approx(4),
    ]
    assert log.failures == [("job_failed", "sweep")] * 3


async def test_cancellation_ends_the_keeper(autojump_clock: MockClock) -> None:
    with trio.move_on_after(10) as scope:
        await keep_running("idle", trio.sleep_forever, Log())
    assert scope.cancelled_caught
