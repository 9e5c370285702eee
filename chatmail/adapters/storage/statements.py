"""The SQL of the writer, compiled once per connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    Connection,
    Select,
    Table,
    bindparam,
    delete,
    exists,
    insert,
    select,
    text,
    update,
)

from chatmail.adapters.storage.database import Prepared, is_shared
from chatmail.adapters.storage.federation.peer_sql import PeerStatements
from chatmail.adapters.storage.federation.queue_sql import OutboundStatements
from chatmail.adapters.storage.retention_sql import RetentionStatements
from chatmail.adapters.storage.schema import (
    accounts,
    barred,
    blobs,
    dead_blobs,
    device_tokens,
    expunged,
    mailboxes,
    messages,
    reports,
    segments,
    store_facts,
    tombstones,
)
from chatmail.adapters.storage.settings_statements import SettingsStatements

HEAD_COLUMNS: Final = tuple(mailboxes.c)

MESSAGE_COLUMNS: Final = (
    messages.c.uid,
    messages.c.modseq,
    messages.c.flags,
    messages.c.keywords,
    blobs.c.id,
    blobs.c.segment,
    blobs.c.place,
    blobs.c.size,
    blobs.c.header_size,
    blobs.c.internal_date_s,
    blobs.c.refs,
)
"""What `rows.StoredMessage` is read from, in its order."""


RECOUNT: Final = text(
    """SELECT mailboxes.id, count(messages.uid), coalesce(sum(blobs.size), 0),
        coalesce(sum(CASE WHEN messages.flags & :seen = 0 THEN 1 ELSE 0 END), 0),
        coalesce(sum(CASE WHEN messages.flags & :deleted != 0 THEN 1 ELSE 0 END), 0)
    FROM mailboxes
        LEFT JOIN messages ON messages.mailbox = mailboxes.id
        LEFT JOIN blobs ON blobs.id = messages.blob
    WHERE mailboxes.id BETWEEN :first AND :last GROUP BY mailboxes.id ORDER BY mailboxes.id"""
)


DUE_REPORTS: Final = """SELECT id, sender, failed, header, arrived_s, due_s,
        leased_until_s, attempts
    FROM reports WHERE (due_s <= :now OR due_s > :far)
        AND (leased_until_s <= :free OR leased_until_s > :far_too)
    ORDER BY due_s, id LIMIT :limit"""

SKIP_LOCKED: Final = " FOR UPDATE SKIP LOCKED"  # two processes claim different ones

# Written so that of two processes doing the same neither fails.
ADD_ACCOUNT: Final = text(
    """INSERT INTO accounts (id, address, secret, inbox, is_blocked, accepts_cleartext,
        created_s, first_login_day, last_login_day, last_uid_validity, is_imported)
    VALUES (:p_id, :p_address, :p_secret, :p_inbox, :p_is_blocked, :p_accepts_cleartext,
        :p_created_s, :p_first_login_day, :p_last_login_day, :p_last_uid_validity, :p_is_imported)
    ON CONFLICT DO NOTHING"""
)

BAR: Final = text(
    """INSERT INTO barred (address, reason, day_s) VALUES (:p_address, :p_reason, :p_day_s)
    ON CONFLICT (address) DO UPDATE SET reason = excluded.reason, day_s = excluded.day_s"""
)

SAVE_TOMBSTONE: Final = text(
    """INSERT INTO tombstones (key, secret, expires_s)
    VALUES (:p_key, :p_secret, :p_expires)
    ON CONFLICT (key) DO UPDATE SET secret = excluded.secret, expires_s = excluded.expires_s"""
)

SAVE_FACT: Final = text(
    """INSERT INTO store_facts (name, value) VALUES (:p_name, :p_value)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value"""
)

# Whoever deletes concurrently, the largest value stays.
RAISE_FACT: Final = text(
    """INSERT INTO store_facts (name, value) VALUES (:p_name, :p_value)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value
    WHERE excluded.value > store_facts.value"""
)


def _param(name: str) -> BindParameter[Any]:
    return bindparam(name)


def select_messages() -> Select[tuple[object, ...]]:
    """Return the query of whole messages, to be narrowed by the caller."""
    return select(*MESSAGE_COLUMNS).join_from(messages, blobs, messages.c.blob == blobs.c.id)


class Statements:
    """Everything the writer executes with fixed text."""

    def __init__(self, connection: Connection) -> None:
        def insertion(table: Table, names: Sequence[str] | None = None) -> Prepared:
            return Prepared(connection, insert(table), names or [c.name for c in table.c])

        def param(name: str) -> BindParameter[Any]:
            return _param(f"p_{name}")

        self.add_blobs = insertion(blobs)
        self.add_messages = insertion(messages)
        self.save_head = Prepared(
            connection,
            update(mailboxes)
            .where(mailboxes.c.id == param("id"))
            .values(
                uid_next=param("uid_next"),
                highest_modseq=param("modseq"),
                messages=param("messages"),
                unseen=param("unseen"),
                deleted=param("deleted"),
                octets=param("octets"),
                keywords=param("keywords"),
            ),
            [
                "p_uid_next",
                "p_modseq",
                "p_messages",
                "p_unseen",
                "p_deleted",
                "p_octets",
                "p_keywords",
                "p_id",
            ],
        )
        self.head = Prepared(
            connection, select(*HEAD_COLUMNS).where(mailboxes.c.id == param("id")), ["p_id"]
        )
        self.heads_of = Prepared(
            connection,
            select(*HEAD_COLUMNS)
            .where(mailboxes.c.account == param("account"))
            .order_by(mailboxes.c.name),
            ["p_account"],
        )
        self.add_mailbox = insertion(mailboxes)
        self.remove_mailbox = Prepared(
            connection, delete(mailboxes).where(mailboxes.c.id == param("id")), ["p_id"]
        )
        self.rename_mailbox = Prepared(
            connection,
            update(mailboxes).where(mailboxes.c.id == param("id")).values(name=param("name")),
            ["p_name", "p_id"],
        )
        self.subscribe = Prepared(
            connection,
            update(mailboxes)
            .where(mailboxes.c.id == param("id"))
            .values(is_subscribed=param("subscribed")),
            ["p_subscribed", "p_id"],
        )
        self._prepare_messages(connection)
        self._prepare_accounts(connection)
        self._prepare_rest(connection)
        self.settings = SettingsStatements(connection)
        self.retention = RetentionStatements(connection)
        self.outbound = OutboundStatements(connection)
        self.peers = PeerStatements(connection)

    def _prepare_messages(self, connection: Connection) -> None:
        mailbox = _param("p_mailbox")
        uid = _param("p_uid")
        self.all_messages = Prepared(
            connection,
            select_messages().where(messages.c.mailbox == mailbox).order_by(messages.c.uid),
            ["p_mailbox"],
        )
        self.message_span = Prepared(
            connection,
            select_messages()
            .where(messages.c.mailbox == mailbox)
            .where(messages.c.uid >= _param("p_first"))
            .where(messages.c.uid <= _param("p_last"))
            .order_by(messages.c.uid),
            ["p_mailbox", "p_first", "p_last"],
        )
        self.one_message = Prepared(
            connection,
            select_messages().where(messages.c.mailbox == mailbox).where(messages.c.uid == uid),
            ["p_mailbox", "p_uid"],
        )
        self.save_flags = Prepared(
            connection,
            update(messages)
            .where(messages.c.mailbox == mailbox)
            .where(messages.c.uid == uid)
            .values(
                modseq=_param("p_modseq"),
                flags=_param("p_flags"),
                keywords=_param("p_keywords"),
            ),
            ["p_modseq", "p_flags", "p_keywords", "p_mailbox", "p_uid"],
        )
        self.remove_messages = Prepared(
            connection,
            delete(messages).where(messages.c.mailbox == mailbox).where(messages.c.uid == uid),
            ["p_mailbox", "p_uid"],
        )
        self.remove_all_messages = Prepared(
            connection, delete(messages).where(messages.c.mailbox == mailbox), ["p_mailbox"]
        )
        self.add_expunged = Prepared(connection, insert(expunged), [c.name for c in expunged.c])
        self.remove_expunged = Prepared(
            connection, delete(expunged).where(expunged.c.mailbox == mailbox), ["p_mailbox"]
        )
        self.save_refs = Prepared(
            connection,
            update(blobs).where(blobs.c.id == _param("p_id")).values(refs=_param("p_refs")),
            ["p_refs", "p_id"],
        )
        self.remove_blobs = Prepared(
            connection, delete(blobs).where(blobs.c.id == _param("p_id")), ["p_id"]
        )
        self.add_dead = Prepared(connection, insert(dead_blobs), [c.name for c in dead_blobs.c])
        self.remove_dead = Prepared(
            connection, delete(dead_blobs).where(dead_blobs.c.id == _param("p_id")), ["p_id"]
        )

    def _prepare_accounts(self, connection: Connection) -> None:
        account = _param("p_id")
        mine = accounts.c.id == account
        self.account_at = Prepared(
            connection,
            select(accounts).where(accounts.c.address == _param("p_address")),
            ["p_address"],
        )
        self.account = Prepared(connection, select(accounts).where(mine), ["p_id"])
        # The row count tells whether it was added: another process may have been faster.
        self.add_account = Prepared(
            connection, ADD_ACCOUNT, [f"p_{column.name}" for column in accounts.c]
        )
        self.remove_account = Prepared(connection, delete(accounts).where(mine), ["p_id"])
        self.save_secret = Prepared(
            connection,
            update(accounts).where(mine).values(secret=_param("p_secret")),
            ["p_secret", "p_id"],
        )
        self.save_blocked = Prepared(
            connection,
            update(accounts).where(mine).values(is_blocked=_param("p_blocked")),
            ["p_blocked", "p_id"],
        )
        self.save_login_days = Prepared(
            connection,
            update(accounts)
            .where(mine)
            .values(first_login_day=_param("p_first"), last_login_day=_param("p_last")),
            ["p_first", "p_last", "p_id"],
        )
        self.save_uid_validity = Prepared(
            connection,
            update(accounts).where(mine).values(last_uid_validity=_param("p_validity")),
            ["p_validity", "p_id"],
        )
        self.bar = Prepared(connection, BAR, ["p_address", "p_reason", "p_day_s"])
        address = _param("p_address")
        self.unbar = Prepared(
            connection, delete(barred).where(barred.c.address == address), ["p_address"]
        )
        self.barred = Prepared(
            connection, select(barred.c.reason).where(barred.c.address == address), ["p_address"]
        )
        key = _param("p_key")
        self.tombstone = Prepared(
            connection,
            select(tombstones.c.secret, tombstones.c.expires_s).where(tombstones.c.key == key),
            ["p_key"],
        )
        self.save_tombstone = Prepared(
            connection, SAVE_TOMBSTONE, ["p_key", "p_secret", "p_expires"]
        )
        self.remove_tombstone = Prepared(
            connection, delete(tombstones).where(tombstones.c.key == key), ["p_key"]
        )

    def _prepare_rest(self, connection: Connection) -> None:
        name = _param("p_name")
        self.fact = Prepared(
            connection, select(store_facts.c.value).where(store_facts.c.name == name), ["p_name"]
        )
        self.raise_fact = Prepared(connection, RAISE_FACT, ["p_name", "p_value"])
        self.save_fact = Prepared(connection, SAVE_FACT, ["p_name", "p_value"])

        account = _param("p_account")
        position = _param("p_position")
        tokens = device_tokens.c
        this_token = (tokens.account == account, tokens.position == position)
        self.tokens_of = Prepared(
            connection,
            select(tokens.position, tokens.token, tokens.updated_s)
            .where(tokens.account == account)
            .order_by(tokens.position),
            ["p_account"],
        )
        self.add_token = Prepared(
            connection, insert(device_tokens), ["account", "position", "token", "updated_s"]
        )
        self.save_token = Prepared(
            connection,
            update(device_tokens).where(*this_token).values(updated_s=_param("p_updated")),
            ["p_updated", "p_account", "p_position"],
        )
        self.remove_token = Prepared(
            connection, delete(device_tokens).where(*this_token), ["p_account", "p_position"]
        )
        self.remove_tokens = Prepared(
            connection, delete(device_tokens).where(tokens.account == account), ["p_account"]
        )

        this_report = reports.c.id == _param("p_id")
        self.add_report = Prepared(connection, insert(reports), [c.name for c in reports.c])
        self.remove_report = Prepared(connection, delete(reports).where(this_report), ["p_id"])
        self.remove_reports_of = Prepared(
            connection,
            delete(reports).where(reports.c.sender == _param("p_sender")),
            ["p_sender"],
        )
        self.lease_report = Prepared(
            connection,
            update(reports)
            .where(this_report)
            .values(leased_until_s=_param("p_until"), attempts=_param("p_attempts")),
            ["p_until", "p_attempts", "p_id"],
        )
        self.postpone_report = Prepared(
            connection,
            update(reports)
            .where(this_report)
            .values(due_s=_param("p_due"), leased_until_s=_param("p_until")),
            ["p_due", "p_until", "p_id"],
        )
        claims = DUE_REPORTS + SKIP_LOCKED if is_shared(connection) else DUE_REPORTS
        self.due_reports = Prepared(
            connection, text(claims), ["now", "far", "free", "far_too", "limit"]
        )
        self.next_due = Prepared(connection, select(reports.c.due_s, reports.c.leased_until_s))
        self._prepare_upkeep(connection)

    def _prepare_upkeep(self, connection: Connection) -> None:
        segment = _param("p_segment")
        self.add_segment = Prepared(connection, insert(segments), ["number"])
        self.remove_segment = Prepared(
            connection, delete(segments).where(segments.c.number == segment), ["p_segment"]
        )
        self.in_segment = [
            Prepared(connection, select(exists().where(table.c.segment == segment)), ["p_segment"])
            for table in (blobs, dead_blobs)
        ]
        mailbox = _param("p_mailbox")
        self.save_floor = Prepared(
            connection,
            update(mailboxes)
            .where(mailboxes.c.id == mailbox)
            .values(expunged_floor=_param("p_floor")),
            ["p_floor", "p_mailbox"],
        )
        self.forget_expunged = Prepared(
            connection,
            delete(expunged)
            .where(expunged.c.mailbox == mailbox)
            .where(expunged.c.modseq <= _param("p_floor")),
            ["p_mailbox", "p_floor"],
        )
        self.forget_tombstones = Prepared(
            connection,
            delete(tombstones).where(tombstones.c.expires_s <= _param("p_now")),
            ["p_now"],
        )
        self.recount = Prepared(connection, RECOUNT, ["seen", "deleted", "first", "last"])
