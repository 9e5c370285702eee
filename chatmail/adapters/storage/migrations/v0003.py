"""Indexes for what retention looks for; deletions of mailboxes that take several steps."""

from __future__ import annotations

from typing import Final

VERSION: Final = 3

STATEMENTS: Final = (
    "CREATE INDEX blobs_by_date ON blobs (internal_date_s)",
    "CREATE INDEX blobs_large_by_date ON blobs (internal_date_s) WHERE size > 65536",
    "DROP INDEX blobs_by_segment",
    "CREATE INDEX blobs_by_segment ON blobs (segment, place, size)",
    "CREATE INDEX messages_by_blob ON messages (blob)",
    "CREATE INDEX expunged_by_time ON expunged (at_s)",
    "CREATE INDEX accounts_unused ON accounts (created_s) WHERE first_login_day IS NULL",
    "CREATE INDEX accounts_by_login ON accounts (last_login_day)",
    "CREATE INDEX device_tokens_by_age ON device_tokens (updated_s)",
    "CREATE TABLE shown (mailbox BIGINT NOT NULL PRIMARY KEY, uid_next BIGINT NOT NULL)",
    "CREATE TABLE departing (mailbox BIGINT NOT NULL PRIMARY KEY)",
)
