"""Numbers for accounts, mailboxes, messages and reports: unique among all processes."""

from __future__ import annotations

from typing import Final

from chatmail.adapters.storage.postgresql.database import PostgresDatabase

BLOCK: Final = 1024
"""The increment of the sequence `ids`: what one process takes at a time."""


class IdBlocks:
    """Used by the writer's thread alone."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self._next = self._end = 0

    def __call__(self) -> int:
        """Return a number nobody else has; asks the database once per block.

        Raises:  StorageFault.
        """
        if self._next == self._end:
            # A sequence knows no rollback: a block is ours even if the batch fails.
            ((self._next,),) = self._database.writing.all("SELECT nextval('ids')")
            self._end = self._next + BLOCK
        number = self._next
        self._next += 1
        return number
