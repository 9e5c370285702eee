"""Exchangers: servers that keep mail for this relay."""

from __future__ import annotations

from typing import Final

VERSION: Final = 10

STATEMENTS: Final = (
    """CREATE TABLE exchangers (
        name TEXT NOT NULL PRIMARY KEY, url TEXT NOT NULL, is_enabled INTEGER NOT NULL,
        interval_s BIGINT NOT NULL, last_poll_s BIGINT NOT NULL)""",
)
