"""The task that writes delivery reports when they are due."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NoReturn

import trio

if TYPE_CHECKING:
    from chatmail.domain.ports.reports import ReportQueue
    from chatmail.domain.usecases.deliver_reports import DeliverReports


async def run_reports(deliver: DeliverReports, queue: ReportQueue) -> NoReturn:
    """Deliver due reports for ever; sleeps until the next one is due or a new one is added.

    Cancellation:  safe anywhere; a report in the middle comes back when its lease ends.
    """
    while True:
        wait_s = await deliver()
        with trio.move_on_after(math.inf if wait_s is None else wait_s):
            await queue.wait_for_more()
