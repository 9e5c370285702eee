"""The task that looks once an hour whether a signing key is to be renewed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

import trio

from chatmail.domain.model.errors import PermanentFailure

if TYPE_CHECKING:
    from chatmail.domain.ports.system import Log
    from chatmail.domain.usecases.rotate_keys import RotateKeys

FIRST_AFTER_S: Final = 300.0
EVERY_S: Final = 3600.0


async def run_key_rotation(rotate: RotateKeys, log: Log) -> NoReturn:
    """Rotate for ever. Cancellation:  safe anywhere."""
    await trio.sleep(FIRST_AFTER_S)
    while True:
        try:
            await rotate()
        except PermanentFailure:
            log.warning("dkim_rotation_failed")
        await trio.sleep(EVERY_S)
