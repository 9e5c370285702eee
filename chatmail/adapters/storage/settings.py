"""Stored settings: a small table, and a number that grows with each change."""

from __future__ import annotations

from collections.abc import Mapping

from chatmail.adapters.storage.notices import settings_changed
from chatmail.adapters.storage.settings_statements import GENERATION_NAME
from chatmail.adapters.storage.transaction import Transaction
from chatmail.adapters.storage.writer import Job, Writer
from chatmail.domain.ports.settings import StoredSettings


class _Generation(Job):
    __slots__ = ("generation",)

    is_read = True

    def __init__(self) -> None:
        self.generation = 0

    def plan(self, tx: Transaction) -> None:
        self.generation = _generation(tx)


class _LookUp(Job):
    __slots__ = ("found",)

    is_read = True

    def __init__(self) -> None:
        self.found = StoredSettings(0, {})

    def plan(self, tx: Transaction) -> None:
        self.found = _read(tx)


class _Change(Job):
    __slots__ = ("_changes", "_expected", "outcome")

    def __init__(self, changes: Mapping[str, str | None], expected: int | None) -> None:
        self._changes = changes
        self._expected = expected
        self.outcome: StoredSettings | None = None

    def plan(self, tx: Transaction) -> None:
        self.outcome = None
        sql = tx.sql.settings
        # First, because it locks: where other processes write too, they wait here for our commit.
        sql.next_generation.run(GENERATION_NAME)
        if self._expected is not None and _generation(tx) != self._expected + 1:
            sql.last_generation.run(GENERATION_NAME)
            return
        for key, text in self._changes.items():
            sql.remove.run(key)
            if text is not None:
                sql.add.run(key, text)
        self.outcome = _read(tx)
        tx.tell(settings_changed(self.outcome.generation))


def _generation(tx: Transaction) -> int:
    row = tx.sql.settings.generation.one(GENERATION_NAME)
    return 0 if row is None else int(row[0])


def _read(tx: Transaction) -> StoredSettings:
    rows = sorted((key, value) for key, value in tx.sql.settings.all.all())
    return StoredSettings(_generation(tx), dict(rows))


class SqlSettingsStore:
    """`SettingsStore` in a table."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def all(self) -> StoredSettings:
        """Return everything that is stored."""
        return (await self._writer.do(_LookUp())).found

    async def generation(self) -> int:
        """Return the present generation."""
        return (await self._writer.do(_Generation())).generation

    async def change(
        self, changes: Mapping[str, str | None], expected_generation: int | None = None
    ) -> StoredSettings | None:
        """Store texts and remove keys in one transaction; None: another change came first."""
        return (await self._writer.do(_Change(dict(changes), expected_generation))).outcome
