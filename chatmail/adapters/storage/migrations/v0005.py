"""What a database needs that several processes share; SQLite keeps content in segments."""

from __future__ import annotations

from typing import Final

VERSION: Final = 5

STATEMENTS: Final = ()

# EXTERNAL: octets are as good as random, so packing them is a waste, and parts can be read.
POSTGRESQL_STATEMENTS: Final = (
    """CREATE TABLE contents (
        blob BIGINT NOT NULL PRIMARY KEY, header BYTEA NOT NULL, body BYTEA NOT NULL)""",
    "ALTER TABLE contents ALTER COLUMN header SET STORAGE EXTERNAL",
    "ALTER TABLE contents ALTER COLUMN body SET STORAGE EXTERNAL",
    # Bodies too large to be handled in one piece; the row in `contents` has an empty one then.
    """CREATE TABLE pieces (
        blob BIGINT NOT NULL, number INTEGER NOT NULL, octets BYTEA NOT NULL,
        PRIMARY KEY (blob, number))""",
    "ALTER TABLE pieces ALTER COLUMN octets SET STORAGE EXTERNAL",
    # Catching up asks for what came after a modseq.
    "CREATE INDEX messages_by_modseq ON messages (mailbox, modseq)",
    # Every batch rewrites heads and reference counts: room on the page keeps indexes untouched.
    "ALTER TABLE mailboxes SET (fillfactor = 60)",
    "ALTER TABLE blobs SET (fillfactor = 80)",
    # Each process takes blocks of ids.
    "CREATE SEQUENCE ids AS BIGINT INCREMENT BY 1024 START WITH 1024",
    # The last batch of each process: tells after a lost connection whether it was committed.
    """CREATE TABLE writers (
        id BIGINT NOT NULL PRIMARY KEY, batch BIGINT NOT NULL, seen_s BIGINT NOT NULL)
        WITH (fillfactor = 20)""",
    "CREATE TABLE server_keys (name TEXT NOT NULL PRIMARY KEY, value BYTEA NOT NULL)",
)
