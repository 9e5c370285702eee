"""The task that asks exchangers when they are due (federation-web.md A14)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

import trio

from chatmail.domain.model.errors import TransientFailure

if TYPE_CHECKING:
    from chatmail.domain.ports.exchangers import ExchangerStore
    from chatmail.domain.ports.system import Clock
    from chatmail.domain.usecases.poll_exchanger import PollExchanger

REST_S: Final = 300.0
"""The longest time between two looks at what there is: another process may have added one."""
RETRY_S: Final = 30.0


async def run_exchangers(poll: PollExchanger, store: ExchangerStore, clock: Clock) -> NoReturn:
    """Ask for ever, one after the other; sleeps while there are none.

    Cancellation:  safe anywhere: what was not noted as taken is known by its content.
    """
    while True:
        try:
            wait_s = await _round(poll, store, clock)
        except TransientFailure:
            wait_s = RETRY_S
        with trio.move_on_after(wait_s):
            await store.wait_for_more()


async def _round(poll: PollExchanger, store: ExchangerStore, clock: Clock) -> float:
    """Ask those that are due; returns when the next one is."""
    for exchanger in await store.all():
        if exchanger.is_enabled and await store.claim(exchanger.name, int(clock.now_s())):
            await poll(exchanger)
    dues = [
        one.last_poll_s + one.interval_s - clock.now_s()
        for one in await store.all()
        if one.is_enabled
    ]
    return max(1.0, min([*dues, REST_S]))
