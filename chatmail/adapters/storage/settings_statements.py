"""The SQL of stored settings."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, literal_column, select, update

from chatmail.adapters.storage.database import Prepared
from chatmail.adapters.storage.schema import settings, store_facts

GENERATION_NAME: Final = "settings_generation"


class SettingsStatements:
    """What the writer executes for settings."""

    def __init__(self, connection: Connection) -> None:
        name = store_facts.c.name == bindparam("p_name")
        count = store_facts.c.value
        self.all = Prepared(connection, select(settings.c.key, settings.c.value))
        self.add = Prepared(connection, insert(settings), ["key", "value"])
        self.remove = Prepared(
            connection, delete(settings).where(settings.c.key == bindparam("p_key")), ["p_key"]
        )
        self.generation = Prepared(connection, select(count).where(name), ["p_name"])
        self.next_generation = Prepared(
            connection,
            update(store_facts).where(name).values(value=count + literal_column("1")),
            ["p_name"],
        )
        self.last_generation = Prepared(
            connection,
            update(store_facts).where(name).values(value=count - literal_column("1")),
            ["p_name"],
        )
