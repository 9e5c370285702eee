"""The keys are looked at once an hour, whatever happened the last time."""

from __future__ import annotations

import trio

from chatmail.adapters.jobs.key_rotation import EVERY_S, FIRST_AFTER_S, run_key_rotation
from chatmail.domain.model.errors import PermanentFailure
from tests.unit.fakes.system import FakeLog


async def test_a_look_an_hour_survives_a_folder_that_cannot_be_written(
    autojump_clock: trio.abc.Clock,
) -> None:
    log, looks = FakeLog(), 0

    async def rotate() -> None:
        nonlocal looks
        await trio.lowlevel.checkpoint()
        looks += 1
        if looks == 2:
            raise PermanentFailure("dkim/opendkim.pem: Read-only file system")

    with trio.move_on_after(FIRST_AFTER_S + 3.5 * EVERY_S):
        await run_key_rotation(rotate, log)  # type: ignore[arg-type]
    assert looks == 4
    assert log.events() == ["dkim_rotation_failed"]
