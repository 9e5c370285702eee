"""What a session works, apart from what it waits while others run.

A NOOP may take 5 ms because a batch of the event loop took so long, and a STORE waits for a disk.
Neither is work: whoever would be told to wait for a turn for that would pay for others.
"""

from __future__ import annotations

import types
from collections.abc import Coroutine, Generator
from typing import Any, Final, TypeVar

import trio

from chatmail.adapters.imap.session import Session
from chatmail.adapters.imap.waits import SLICE_S

T = TypeVar("T")

REGAINED: Final = 1 / 16
"""Of the time a session waits, so much becomes its slice again: nobody gets a whole one for each
line of a flood."""


@types.coroutine
def own_time(session: Session, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Run the work of a session; its slice ends later by what it waits, and grows a little.

    Trio answers each trap of a task with one value, errors and cancellation included, so to pass
    traps and values on is all there is to do.
    Cost:  0.7 µs for each wait.
    """
    answer = None
    while True:
        try:
            trap = work.send(answer)
        except StopIteration as end:
            done: T = end.value
            return done
        began = trio.current_time()
        answer = yield trap
        now = trio.current_time()
        left = max(0.0, session.turn_until - began)
        session.turn_until = now + min(SLICE_S, left + (now - began) * REGAINED)
