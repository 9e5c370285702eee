"""Tables of the store as they are after the last migration.

Only integers, text and octets: rows go to the driver as they are (see `database.Prepared`).
Rows are the truth about mailboxes; octets of messages live in segments, one record per blob.
Indexes over some rows are so in PostgreSQL too: the migrations say it. Here it would bring in that
dialect's half of SQLAlchemy, and 40 ms of CPU, at every start.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

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
    Column("is_imported", Integer, nullable=False, server_default="0"),
)
_never = accounts.c.first_login_day.is_(None)
Index("accounts_unused", accounts.c.created_s, sqlite_where=_never)
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

unsynced: Final = Table(  # records that no sync of their segment has covered yet
    "unsynced",
    metadata,
    Column("blob", BigInteger, primary_key=True, autoincrement=False),
    Column("segment", BigInteger, nullable=False),
    Column("place", BigInteger, nullable=False),
    Column("record", LargeBinary, nullable=False),
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
    Column("failed", Text, nullable=False),  # JSON: [[address, reason, reply, host], …]
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

outbound_messages: Final = Table(  # each holds one reference to its blob
    "outbound_messages",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("blob", BigInteger, nullable=False),
    Column("reverse_path", Text),  # NULL: the null sender
    Column("created_s", BigInteger, nullable=False),
    Column("prefix", LargeBinary, nullable=False),
    Column("is_report", Integer, nullable=False),
    Column("is_doomed", Integer, nullable=False),  # its sender is gone, and so it goes, in pieces
)
_doomed = outbound_messages.c.is_doomed == 1
Index(
    "outbound_by_age",
    outbound_messages.c.is_report,
    outbound_messages.c.created_s,
    outbound_messages.c.id,
)
Index("outbound_by_sender", outbound_messages.c.reverse_path)
Index("outbound_doomed", outbound_messages.c.id, sqlite_where=_doomed)

outbound_recipients: Final = Table(
    "outbound_recipients",
    metadata,
    Column("message", BigInteger, primary_key=True, autoincrement=False),
    Column("recipient", Text, primary_key=True),
    Column("domain", Text, nullable=False),
    Column("is_large", Integer, nullable=False),
    Column("created_s", BigInteger, nullable=False),
    Column("due_s", Double, nullable=False),
    Column("leased_until_s", Double, nullable=False),  # 0: free
    Column("leased_by", BigInteger, nullable=False),  # the process, where there are several
    Column("is_held", Integer, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("last_at_s", BigInteger),  # NULL: no attempt was made
    Column("last_reply", Text, nullable=False),
    Column("last_transport", Text),
    Column("last_host", Text, nullable=False),
    Column("written", Text, nullable=False),  # the local part as it was written; empty: as it is
)
_entry = outbound_recipients.c
_is_free = (_entry.is_held == 0) & (_entry.leased_until_s == 0)
_is_leased = _entry.leased_until_s > 0
Index(
    "outbound_by_domain",
    _entry.domain,
    _entry.is_large,
    _entry.due_s,
    _entry.created_s,
    _entry.is_held,
    _entry.leased_until_s,
)
Index("outbound_due", _entry.due_s, sqlite_where=_is_free)
Index("outbound_leased", _entry.leased_until_s, sqlite_where=_is_leased)

delivered_once: Final = Table(
    "delivered_once",
    metadata,
    Column("key", LargeBinary, primary_key=True),  # keyed hash of recipient and content
    Column("expires_s", BigInteger, nullable=False),
)
Index("delivered_once_by_age", delivered_once.c.expires_s)

peer_rules: Final = Table(
    "peer_rules",
    metadata,
    Column("pattern", Text, primary_key=True),
    Column("action", Text, nullable=False),
    Column("created_s", BigInteger, nullable=False),
)

peer_dismissals: Final = Table(
    "peer_dismissals",
    metadata,
    Column("pattern", Text, primary_key=True),
    Column("created_s", BigInteger, nullable=False),
)

peer_overrides: Final = Table(
    "peer_overrides",
    metadata,
    Column("domain", Text, primary_key=True),
    Column("target", Text, nullable=False),
    Column("comment", Text, nullable=False),
    Column("smtp_fallback", Integer, nullable=False),
    Column("created_s", BigInteger, nullable=False),
)

exchangers: Final = Table(
    "exchangers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("url", Text, nullable=False),
    Column("is_enabled", Integer, nullable=False),
    Column("interval_s", BigInteger, nullable=False),
    Column("last_poll_s", BigInteger, nullable=False),
)

peer_health: Final = Table(  # `PeerHealth`, field by field
    "peer_health",
    metadata,
    Column("domain", Text, primary_key=True),
    Column("last_ok_https_s", BigInteger, nullable=False),
    Column("last_ok_http_s", BigInteger, nullable=False),
    Column("last_ok_smtp_s", BigInteger, nullable=False),
    Column("https_block_until_s", BigInteger, nullable=False),
    Column("https_fail_streak", BigInteger, nullable=False),
    Column("smtp_fail_streak", BigInteger, nullable=False),
    Column("connect_fail_since_s", BigInteger, nullable=False),
    Column("connect_fail_streak", BigInteger, nullable=False),
    Column("not_before_s", Double, nullable=False),
    Column("learned_host", Text, nullable=False),
    Column("updated_s", BigInteger, nullable=False),
)

sts_policies: Final = Table(
    "sts_policies",
    metadata,
    Column("domain", Text, primary_key=True),
    Column("id", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("mx", Text, nullable=False),  # patterns, one space between
    Column("expires_s", BigInteger, nullable=False),
    Column("fetched_s", BigInteger, nullable=False),
)

peer_counters: Final = Table(
    "peer_counters",
    metadata,
    Column("domain", Text, primary_key=True),
    Column("ok_https", BigInteger, nullable=False),
    Column("ok_http", BigInteger, nullable=False),
    Column("ok_smtp", BigInteger, nullable=False),
    Column("fail_https", BigInteger, nullable=False),
    Column("fail_http", BigInteger, nullable=False),
    Column("fail_smtp", BigInteger, nullable=False),
    Column("inbound_http", BigInteger, nullable=False),
    Column("inbound_smtp", BigInteger, nullable=False),
    Column("bounced", BigInteger, nullable=False),
    Column("dismissed", BigInteger, nullable=False),
    Column("latency_sum_ms", BigInteger, nullable=False),
    Column("latency_count", BigInteger, nullable=False),
    Column("last_ok_s", BigInteger, nullable=False),
    Column("last_fail_s", BigInteger, nullable=False),
    Column("last_error", Text, nullable=False),
    Column("active_s", BigInteger, nullable=False),
)
