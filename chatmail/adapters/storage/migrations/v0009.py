"""Accounts that another server's state brought: nobody here handed them out."""

from __future__ import annotations

from typing import Final

VERSION: Final = 9

STATEMENTS: Final = ("ALTER TABLE accounts ADD COLUMN is_imported INTEGER NOT NULL DEFAULT 0",)
