"""Settings that were changed while running, and the number of their last change."""

from __future__ import annotations

from typing import Final

VERSION: Final = 4

STATEMENTS: Final = (
    "CREATE TABLE settings (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL)",
    "INSERT INTO store_facts (name, value) VALUES ('settings_generation', 0)",
)
