"""Which segments this database has ever had rows for: only those may the sweep remove."""

from __future__ import annotations

from typing import Final

VERSION: Final = 2

STATEMENTS: Final = (
    "CREATE TABLE segments (number BIGINT NOT NULL PRIMARY KEY)",
    """INSERT INTO segments (number)
        SELECT segment FROM blobs UNION SELECT segment FROM dead_blobs""",
)
