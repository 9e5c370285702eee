"""Signs of life, and what happens when none can be given."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

from chatmail.adapters.jobs.pulse import BEAT_S, HOLD_S, Pulse
from chatmail.adapters.storage.federation.queue_sql import SILENT_S
from chatmail.domain.model.errors import TransientFailure


@attrs.define
class Database:
    """What is told, and whether it can be."""

    is_away: bool = False
    is_mute: bool = False
    beats: list[float] = attrs.field(factory=list)
    lapses: list[float] = attrs.field(factory=list)

    async def keep_alive(self) -> int:
        await trio.lowlevel.checkpoint()
        if self.is_mute:
            await trio.sleep_forever()
        if self.is_away:
            raise TransientFailure("away")
        self.beats.append(trio.current_time())
        return 0

    def lapse(self) -> None:
        self.lapses.append(trio.current_time())


@asynccontextmanager
async def beating() -> AsyncIterator[Database]:
    database = Database()
    pulse = Pulse(queue=database, lapse=database.lapse)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulse.run)
        yield database
        nursery.cancel_scope.cancel()


def test_a_process_lets_go_before_others_take_over() -> None:
    assert HOLD_S + 2 < SILENT_S
    assert SILENT_S + 2 * BEAT_S <= 60


async def test_a_process_that_can_say_so_lives(autojump_clock: trio.abc.Clock) -> None:
    async with beating() as database:
        await trio.sleep(600)
    assert 60 <= len(database.beats) <= 62
    assert database.lapses == []


async def test_silence_without_end_or_with_errors_is_a_lapse_once(
    autojump_clock: trio.abc.Clock,
) -> None:
    for trouble in ("is_away", "is_mute"):
        async with beating() as database:
            await trio.sleep(101)
            setattr(database, trouble, True)
            await trio.sleep(200)
            (lapse,) = database.lapses
            assert lapse - database.beats[-1] <= HOLD_S + 2
            setattr(database, trouble, False)
            await trio.sleep(100)
            assert len(database.lapses) == 1
            setattr(database, trouble, True)
            await trio.sleep(100)
            assert len(database.lapses) == 2


async def test_a_short_absence_is_none(autojump_clock: trio.abc.Clock) -> None:
    async with beating() as database:
        await trio.sleep(101)
        database.is_away = True
        await trio.sleep(20)
        database.is_away = False
        await trio.sleep(60)
        assert database.lapses == []
