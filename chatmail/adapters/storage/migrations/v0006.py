"""Small messages are durable by the database's own sync, until their segment is synced too."""

from __future__ import annotations

from typing import Final

VERSION: Final = 6

STATEMENTS: Final = (
    """CREATE TABLE unsynced (
        blob {serial} NOT NULL PRIMARY KEY, segment BIGINT NOT NULL, place BIGINT NOT NULL,
        record {octets} NOT NULL)""",
)
