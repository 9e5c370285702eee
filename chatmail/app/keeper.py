"""Keeps background jobs running: a job's bug restarts the job, not the relay."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import trio

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
CALM_S: Final = 300.0
"""A job that ran this long before it failed starts again with the first pause."""


class Log(Protocol):
    """What a keeper reports to."""

    def error(self, event: str, **fields: object) -> None:
        """Record what failed; of an exception only its type and place."""


async def keep_running(name: str, job: Callable[[], Awaitable[None]], log: Log) -> None:
    """Run `job` again and again; after a failure with a growing pause.

    A job that returns is done. Only `Exception`s are caught: cancellation passes.
    """
    pause_s = FIRST_PAUSE_S
    while True:
        started = trio.current_time()
        try:
            await job()
        except Exception as problem:  # noqa: BLE001 - the crash policy of jobs
            log.error("job_failed", job=name, error=problem)
        else:
            return
        if trio.current_time() - started > CALM_S:
            pause_s = FIRST_PAUSE_S
        await trio.sleep(pause_s)
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
