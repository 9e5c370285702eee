"""The SQL of mail on its way to other relays.

A claim looks at a bounded window of what is due, so its cost does not grow with the backlog.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    Connection,
    TextClause,
    bindparam,
    delete,
    insert,
    literal_column,
    text,
    update,
)

from chatmail.adapters.storage.database import Prepared, is_shared
from chatmail.adapters.storage.schema import outbound_messages, outbound_recipients
from chatmail.domain.model.outbound import QueueFilter

CLAIM_WINDOW: Final = 256
"""Of more that is due, the order is that of the due times alone."""

_COLUMNS: Final = """r.message, r.recipient, r.attempts, r.due_s, r.is_held, r.last_at_s,
    r.last_reply, r.last_transport, r.last_host, r.written, m.reverse_path, m.created_s, m.prefix,
    m.is_report, b.id, b.segment, b.place, b.size, b.header_size, b.internal_date_s"""
"""What `queue_rows.entry_of` is read from, in its order."""

_JOIN_NEXT: Final = """
    JOIN outbound_recipients AS r ON r.message = next.message AND r.recipient = next.recipient
    JOIN outbound_messages AS m ON m.id = r.message JOIN blobs AS b ON b.id = m.blob"""
_JOINED: Final = """outbound_recipients AS r
    JOIN outbound_messages AS m ON m.id = r.message JOIN blobs AS b ON b.id = m.blob"""

_SKIP_LOCKED: Final = " FOR UPDATE OF r SKIP LOCKED"  # two processes claim different ones

# From the inside: what is due, by index; in the order of claims; with all there is to know.
_CLAIM: Final = f"""SELECT {_COLUMNS} FROM (
        SELECT message, recipient FROM (
            SELECT message, recipient, created_s FROM outbound_recipients
            WHERE domain = :domain AND is_large = :is_large AND due_s <= :now
                AND is_held = 0 AND leased_until_s <= :free
            ORDER BY due_s, created_s LIMIT :window) AS due
        ORDER BY created_s, message, recipient LIMIT :cut) AS next
    {_JOIN_NEXT} WHERE m.is_doomed = 0 AND r.leased_until_s <= :still_free
    ORDER BY r.created_s, r.message, r.recipient LIMIT :limit"""  # noqa: S608 - our own names
_CLAIM_NAMES: Final = (
    "domain",
    "is_large",
    "now",
    "free",
    "window",
    "cut",
    "still_free",
    "limit",
)

_EXPIRED: Final = f"""SELECT {_COLUMNS} FROM {_JOINED}
    WHERE m.is_report = :is_report AND m.created_s < :before AND m.is_doomed = 0
        AND r.is_held = 0 AND r.leased_until_s <= :free
    ORDER BY m.created_s, m.id, r.recipient LIMIT :limit"""  # noqa: S608 - our own names

_SOME_LATER: Final = """SELECT message, recipient FROM outbound_recipients
    WHERE domain = :domain AND is_large = :is_large AND due_s > :now
        AND is_held = 0 AND leased_until_s <= :free LIMIT :limit"""

_SOME_DOOMED: Final = """SELECT message, recipient FROM outbound_messages
    JOIN outbound_recipients ON message = id WHERE is_doomed = 1 LIMIT :limit"""

SILENT_S: Final = 40
"""A process that commits nothing for so long is dead: each does so every 10 s."""
# Both times are the database's: clocks of machines differ.
_FREE_ORPHANS: Final = f"""UPDATE outbound_recipients SET leased_until_s = 0, leased_by = 0
    WHERE leased_until_s > 0 AND leased_by <> :process AND leased_by NOT IN (
        SELECT id FROM writers
        WHERE seen_s > extract(epoch from clock_timestamp()) - {SILENT_S})"""  # noqa: S608

_NEXT_FREE: Final = """SELECT min(due_s) FROM outbound_recipients
    WHERE is_held = 0 AND leased_until_s = 0"""
_NEXT_LEASED: Final = """SELECT min(CASE WHEN due_s > leased_until_s
        THEN due_s ELSE leased_until_s END)
    FROM outbound_recipients WHERE leased_until_s > 0 AND is_held = 0"""

BACKLOGS: Final = text(
    """SELECT domain, count(*), sum(is_held), min(created_s),
        min(CASE WHEN is_held = 0 AND leased_until_s <= :now THEN due_s END)
    FROM outbound_recipients GROUP BY domain ORDER BY domain"""
)

WAITING: Final = text(
    """SELECT (SELECT count(*) FROM outbound_messages AS m
            JOIN outbound_recipients AS r ON r.message = m.id
            WHERE m.reverse_path = :sender AND m.is_doomed = 0),
        (SELECT coalesce(sum(b.size), 0) FROM outbound_messages AS m
            JOIN blobs AS b ON b.id = m.blob
            WHERE m.reverse_path = :sender AND m.is_doomed = 0)"""
)

MESSAGE: Final = text(
    """SELECT m.id, m.reverse_path, m.created_s, m.prefix, m.is_report, b.id, b.segment, b.place,
        b.size, b.header_size, b.internal_date_s
    FROM outbound_messages AS m JOIN blobs AS b ON b.id = m.blob WHERE m.id = :message"""
)

# The empty columns stand for what a queued message has not: it is no message of a mailbox.
_FINISHED: Final = """SELECT 0, 0, 0, '', b.id, b.segment, b.place, b.size, b.header_size,
        b.internal_date_s, b.refs, m.id
    FROM outbound_messages AS m JOIN blobs AS b ON b.id = m.blob
    WHERE m.id {among} AND NOT EXISTS (
        SELECT 1 FROM outbound_recipients WHERE message = m.id)"""

# A known key is left alone until its time is over; the row count tells.
_ONCE: Final = """INSERT INTO delivered_once (key, expires_s) VALUES (:key, :expires)
    ON CONFLICT (key) DO UPDATE SET expires_s = excluded.expires_s
    WHERE delivered_once.expires_s <= :now"""
_FORGET_ONCE: Final = """DELETE FROM delivered_once WHERE key IN (
    SELECT key FROM delivered_once WHERE expires_s <= :now LIMIT :limit)"""


def param(name: str) -> BindParameter[Any]:
    """Return a parameter whose name is no column's."""
    return bindparam(f"p_{name}")


class OutboundStatements:
    """What the writer executes for the queue, with fixed text."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.is_shared = is_shared(connection)
        among = "= ANY(:ids)" if self.is_shared else "IN (SELECT value FROM json_each(:ids))"
        locking = _SKIP_LOCKED if self.is_shared else ""

        def prepared(statement: str, *names: str) -> Prepared:
            return Prepared(connection, text(statement), names)

        self.add_messages = Prepared(
            connection, insert(outbound_messages), [c.name for c in outbound_messages.c]
        )
        self.add_recipients = Prepared(
            connection, insert(outbound_recipients), [c.name for c in outbound_recipients.c]
        )
        self.claim = prepared(_CLAIM + locking, *_CLAIM_NAMES)
        self.expired = prepared(_EXPIRED + locking, "is_report", "before", "free", "limit")
        self.some_later = prepared(_SOME_LATER, "domain", "is_large", "now", "free", "limit")
        self.some_doomed = prepared(_SOME_DOOMED, "limit")
        self.next_free = prepared(_NEXT_FREE)
        self.next_leased = prepared(_NEXT_LEASED)
        self.finished = prepared(_FINISHED.format(among=among), "ids")
        self.remove_messages = prepared(
            f"DELETE FROM outbound_messages WHERE id {among}",  # noqa: S608 - our own names
            "ids",
        )
        if self.is_shared:
            self.lock_messages = prepared(
                "SELECT id FROM outbound_messages WHERE id = ANY(:ids) ORDER BY id FOR UPDATE",
                "ids",
            )
            self.free_orphans = prepared(_FREE_ORPHANS, "process")
        self.doom = prepared(
            "UPDATE outbound_messages SET is_doomed = 1 WHERE reverse_path = :sender", "sender"
        )
        self.once = prepared(_ONCE, "key", "expires", "now")
        self.forget_once = prepared(_FORGET_ONCE, "now", "limit")
        self._prepare_entries(connection)

    def _prepare_entries(self, connection: Connection) -> None:
        this = (
            outbound_recipients.c.message == param("message"),
            outbound_recipients.c.recipient == param("recipient"),
        )
        key = ["p_message", "p_recipient"]
        change = update(outbound_recipients).where(*this)
        self.remove = Prepared(connection, delete(outbound_recipients).where(*this), key)
        self.lease = Prepared(
            connection,
            change.values(leased_until_s=param("until"), leased_by=param("by")),
            ["p_until", "p_by", *key],
        )
        self.make_due = Prepared(connection, change.values(due_s=param("due")), ["p_due", *key])
        self.hold = Prepared(connection, change.values(is_held=param("held")), ["p_held", *key])
        # Another process may have it by now, if this one was taken for dead.
        ours = change.where(
            (outbound_recipients.c.leased_by == literal_column("0"))
            | (outbound_recipients.c.leased_by == param("by"))
        )
        self.hand_back = Prepared(
            connection,
            ours.values(due_s=param("due"), leased_until_s=param("until")),
            ["p_due", "p_until", *key, "p_by"],
        )
        self.retry = Prepared(
            connection,
            ours.values(
                due_s=param("due"),
                leased_until_s=param("until"),
                attempts=outbound_recipients.c.attempts + literal_column("1"),
                last_at_s=param("at"),
                last_reply=param("reply"),
                last_transport=param("transport"),
                last_host=param("host"),
            ),
            ["p_due", "p_until", "p_at", "p_reply", "p_transport", "p_host", *key, "p_by"],
        )

    def ids(self, messages: Iterable[int]) -> list[int] | str:
        """Return message ids as the statements about several of them take them."""
        return list(messages) if self.is_shared else json.dumps(list(messages))


def matching(
    wanted: QueueFilter, after: tuple[int, str] | None, limit: int
) -> tuple[TextClause, dict[str, Any]]:
    """Return the query of entries an operator means, in the order of their keys, and its values."""
    values: dict[str, Any] = {"limit": limit}
    conditions = ["1 = 1"]
    if wanted.message is not None:
        conditions.append("message = :message")
        values["message"] = int(wanted.message)
    for name in ("domain", "recipient"):
        if value := getattr(wanted, name):
            conditions.append(f"{name} = :{name}")
            values[name] = value
    if wanted.sender:
        conditions.append(
            "message IN (SELECT id FROM outbound_messages WHERE reverse_path = :sender)"
        )
        values["sender"] = wanted.sender
    if after is not None:
        conditions.append("(message, recipient) > (:after, :after_recipient)")
        values["after"], values["after_recipient"] = after
    where = " AND ".join(conditions)
    query = f"""SELECT {_COLUMNS} FROM (
            SELECT message, recipient FROM outbound_recipients WHERE {where}
            ORDER BY message, recipient LIMIT :limit) AS next
        {_JOIN_NEXT} ORDER BY r.message, r.recipient"""  # noqa: S608 - our own names
    return text(query), values
