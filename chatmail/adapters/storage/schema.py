"""Tables of the store as they are after the last migration.

Only integers, text and octets: rows go to the driver as they are (see `database.Prepared`).
Rows are the truth about mailboxes; octets of messages live in segments, one record per blob.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, Table, Text

metadata: Final = MetaData()

schema_version: Final = Table(
    "schema_version",
    metadata,
    Column("version", Integer, primary_key=True),
)

store_facts: Final = Table(  # single numbers that outlive the rows they came from
    "store_facts",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

accounts: Final = Table(
    "accounts",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("address", Text, nullable=False, unique=True),
    Column("secret", Text, nullable=False),
    Column("inbox", BigInteger, nullable=False),
    Column("is_blocked", Integer, nullable=False),
    Column("accepts_cleartext", Integer, nullable=False),
    Column("created_s", BigInteger, nullable=False),
    Column("first_login_day", BigInteger),
    Column("last_login_day", BigInteger),
    Column("last_uid_validity", BigInteger, nullable=False),
)
_never = accounts.c.first_login_day.is_(None)
Index("accounts_unused", accounts.c.created_s, sqlite_where=_never, postgresql_where=_never)
Index("accounts_by_login", accounts.c.last_login_day)

mailboxes: Final = Table(
    "mailboxes",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("account", BigInteger, nullable=False),
    Column("name", Text, nullable=False),
    Column("uid_validity", BigInteger, nullable=False),
    Column("uid_next", BigInteger, nullable=False),
    Column("highest_modseq", BigInteger, nullable=False),
    Column("messages", BigInteger, nullable=False),
    Column("unseen", BigInteger, nullable=False),
    Column("deleted", BigInteger, nullable=False),
    Column("octets", BigInteger, nullable=False),
    Column("special_use", Text),
    Column("is_subscribed", Integer, nullable=False),
    Column("keywords", Text, nullable=False),  # in order of first use, one space between
    Column("expunged_floor", BigInteger, nullable=False),  # expunges up to here are forgotten
)
Index("mailboxes_by_name", mailboxes.c.account, mailboxes.c.name, unique=True)

blobs: Final = Table(
    "blobs",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("segment", BigInteger, nullable=False),
    Column("place", BigInteger, nullable=False),  # offset of the record header
    Column("size", BigInteger, nullable=False),
    Column("header_size", BigInteger, nullable=False),
    Column("internal_date_s", BigInteger, nullable=False),  # COPY keeps it, so all copies share it
    Column("refs", BigInteger, nullable=False),
)
Index("blobs_by_segment", blobs.c.segment, blobs.c.place, blobs.c.size)
Index("blobs_by_date", blobs.c.internal_date_s)
LARGE_BYTES: Final = 65536  # most messages are smaller and stay out of this index
_is_large = blobs.c.size > LARGE_BYTES
Index(
    "blobs_large_by_date",
    blobs.c.internal_date_s,
    sqlite_where=_is_large,
    postgresql_where=_is_large,
)

messages: Final = Table(
    "messages",
    metadata,
    Column("mailbox", BigInteger, primary_key=True, autoincrement=False),
    Column("uid", BigInteger, primary_key=True, autoincrement=False),
    Column("modseq", BigInteger, nullable=False),
    Column("flags", Integer, nullable=False),  # bit n: the n-th of SYSTEM_FLAGS
    Column("keywords", Text, nullable=False),  # sorted, one space between
    Column("blob", BigInteger, nullable=False),
)
Index("messages_by_blob", messages.c.blob)

expunged: Final = Table(
    "expunged",
    metadata,
    Column("mailbox", BigInteger, primary_key=True, autoincrement=False),
    Column("modseq", BigInteger, primary_key=True, autoincrement=False),
    Column("uid", BigInteger, primary_key=True, autoincrement=False),
    Column("at_s", BigInteger, nullable=False),
)
Index("expunged_by_time", expunged.c.at_s)

shown: Final = Table(  # messages below this UID were shown in some session
    "shown",
    metadata,
    Column("mailbox", BigInteger, primary_key=True, autoincrement=False),
    Column("uid_next", BigInteger, nullable=False),
)

departing: Final = Table(  # mailboxes whose row is gone and whose messages go in pieces
    "departing",
    metadata,
    Column("mailbox", BigInteger, primary_key=True, autoincrement=False),
)

dead_blobs: Final = Table(  # records without a reader, until their octets are overwritten
    "dead_blobs",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("segment", BigInteger, nullable=False),
    Column("place", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
)
Index("dead_blobs_by_segment", dead_blobs.c.segment)

segments: Final = Table(  # every file that a row has pointed into, until it is removed
    "segments",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
)

barred: Final = Table(
    "barred",
    metadata,
    Column("address", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("day_s", BigInteger, nullable=False),
)

tombstones: Final = Table(
    "tombstones",
    metadata,
    Column("key", LargeBinary, primary_key=True),  # keyed hash: no address is kept
    Column("secret", Text, nullable=False),
    Column("expires_s", BigInteger, nullable=False),
)

device_tokens: Final = Table(
    "device_tokens",
    metadata,
    Column("account", BigInteger, primary_key=True, autoincrement=False),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("token", Text, nullable=False),
    Column("updated_s", BigInteger, nullable=False),
)
Index("device_tokens_by_age", device_tokens.c.updated_s)

reports: Final = Table(
    "reports",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("sender", Text, nullable=False),
    Column("failed", Text, nullable=False),  # JSON: [[address, reason], …]
    Column("header", LargeBinary, nullable=False),
    Column("arrived_s", BigInteger, nullable=False),
    Column("due_s", BigInteger, nullable=False),
    Column("leased_until_s", BigInteger, nullable=False),  # 0: free
    Column("attempts", BigInteger, nullable=False),
)
Index("reports_by_sender", reports.c.sender)

settings: Final = Table(  # what was changed while running; unknown keys are kept
    "settings",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
