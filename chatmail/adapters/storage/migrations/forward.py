"""Brings a database to the version this program needs: numbered steps, forward only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Final

from sqlalchemy import Connection, inspect, text

from chatmail.adapters.storage.errors import UnsupportedDatabase
from chatmail.adapters.storage.migrations import (
    v0001,
    v0002,
    v0003,
    v0004,
    v0005,
    v0006,
    v0007,
    v0008,
    v0009,
    v0010,
)

STEPS: Final = (v0001, v0002, v0003, v0004, v0005, v0006, v0007, v0008, v0009, v0010)


def migrate(connection: Connection, dialect_words: Mapping[str, str]) -> int:
    """Run the missing steps inside the caller's transaction.

    Args:  dialect_words: what the database calls the words in braces.
    Returns:  how many steps ran.
    Raises:  UnsupportedDatabase: a newer program has written this database.
    """
    if not inspect(connection).has_table("schema_version"):
        connection.execute(
            text("CREATE TABLE schema_version (version INTEGER NOT NULL PRIMARY KEY)")
        )
    found = connection.execute(text("SELECT max(version) FROM schema_version")).scalar() or 0
    if found > STEPS[-1].VERSION:
        raise UnsupportedDatabase("the database was written by a newer version")
    missing = [step for step in STEPS if found < step.VERSION]
    for step in missing:
        for statement in _statements_of(step, connection.dialect.name):
            connection.exec_driver_sql(statement.format_map(dialect_words))
        connection.execute(
            text("INSERT INTO schema_version (version) VALUES (:version)"),
            {"version": step.VERSION},
        )
    return len(missing)


def _statements_of(step: ModuleType, dialect: str) -> Sequence[str]:
    """Return the statements of a step: those for all databases, then those for this one."""
    return (*step.STATEMENTS, *getattr(step, f"{dialect.upper()}_STATEMENTS", ()))
