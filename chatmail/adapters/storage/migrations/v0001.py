"""The first tables. Text, not `schema`: a migration never changes once it is released."""

from __future__ import annotations

from typing import Final

VERSION: Final = 1

# {octets} and {clustered} differ between databases, see `database`.
STATEMENTS: Final = (
    "CREATE TABLE store_facts (name TEXT NOT NULL PRIMARY KEY, value BIGINT NOT NULL)",
    """CREATE TABLE accounts (
        id BIGINT NOT NULL PRIMARY KEY, address TEXT NOT NULL UNIQUE, secret TEXT NOT NULL,
        inbox BIGINT NOT NULL, is_blocked INTEGER NOT NULL, accepts_cleartext INTEGER NOT NULL,
        created_s BIGINT NOT NULL, first_login_day BIGINT, last_login_day BIGINT,
        last_uid_validity BIGINT NOT NULL)""",
    """CREATE TABLE mailboxes (
        id BIGINT NOT NULL PRIMARY KEY, account BIGINT NOT NULL, name TEXT NOT NULL,
        uid_validity BIGINT NOT NULL, uid_next BIGINT NOT NULL, highest_modseq BIGINT NOT NULL,
        messages BIGINT NOT NULL, unseen BIGINT NOT NULL, deleted BIGINT NOT NULL,
        octets BIGINT NOT NULL, special_use TEXT, is_subscribed INTEGER NOT NULL,
        keywords TEXT NOT NULL, expunged_floor BIGINT NOT NULL)""",
    "CREATE UNIQUE INDEX mailboxes_by_name ON mailboxes (account, name)",
    """CREATE TABLE blobs (
        id {serial} NOT NULL PRIMARY KEY, segment BIGINT NOT NULL, place BIGINT NOT NULL,
        size BIGINT NOT NULL, header_size BIGINT NOT NULL, internal_date_s BIGINT NOT NULL,
        refs BIGINT NOT NULL)""",
    "CREATE INDEX blobs_by_segment ON blobs (segment)",
    """CREATE TABLE messages (
        mailbox BIGINT NOT NULL, uid BIGINT NOT NULL, modseq BIGINT NOT NULL,
        flags INTEGER NOT NULL, keywords TEXT NOT NULL, blob BIGINT NOT NULL,
        PRIMARY KEY (mailbox, uid)){clustered}""",
    """CREATE TABLE expunged (
        mailbox BIGINT NOT NULL, modseq BIGINT NOT NULL, uid BIGINT NOT NULL,
        at_s BIGINT NOT NULL, PRIMARY KEY (mailbox, modseq, uid)){clustered}""",
    """CREATE TABLE dead_blobs (
        id {serial} NOT NULL PRIMARY KEY, segment BIGINT NOT NULL, place BIGINT NOT NULL,
        size BIGINT NOT NULL)""",
    "CREATE INDEX dead_blobs_by_segment ON dead_blobs (segment)",
    """CREATE TABLE barred (
        address TEXT NOT NULL PRIMARY KEY, reason TEXT NOT NULL, day_s BIGINT NOT NULL)""",
    """CREATE TABLE tombstones (
        key {octets} NOT NULL PRIMARY KEY, secret TEXT NOT NULL, expires_s BIGINT NOT NULL)""",
    """CREATE TABLE device_tokens (
        account BIGINT NOT NULL, position BIGINT NOT NULL, token TEXT NOT NULL,
        updated_s BIGINT NOT NULL, PRIMARY KEY (account, position))""",
    """CREATE TABLE reports (
        id BIGINT NOT NULL PRIMARY KEY, sender TEXT NOT NULL, failed TEXT NOT NULL,
        header {octets} NOT NULL, arrived_s BIGINT NOT NULL, due_s BIGINT NOT NULL,
        leased_until_s BIGINT NOT NULL, attempts BIGINT NOT NULL)""",
    "CREATE INDEX reports_by_sender ON reports (sender)",
)
