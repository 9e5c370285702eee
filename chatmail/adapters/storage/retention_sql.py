"""The SQL of retention, departures and compaction for the writer's connection."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BindParameter, Connection, bindparam, delete, insert, select, text, update

from chatmail.adapters.storage.database import Prepared
from chatmail.adapters.storage.schema import (
    blobs,
    dead_blobs,
    departing,
    device_tokens,
    shown,
)

# Text: a LIMIT made by the toolkit brings an OFFSET, and a parameter for it, along.
SOME_MESSAGES: Final = text(
    """SELECT uid, modseq, flags, keywords, id, segment, place, size, header_size,
        internal_date_s, refs
    FROM messages JOIN blobs ON id = blob WHERE mailbox = :mailbox ORDER BY uid LIMIT :limit"""
)
# A mark only grows, whoever else saves one; a mailbox that is gone gets none.
SAVE_SHOWN: Final = text(
    """INSERT INTO shown (mailbox, uid_next)
    SELECT id, CAST(:uid_next AS BIGINT) FROM mailboxes WHERE id = :mailbox
    ON CONFLICT (mailbox) DO UPDATE SET uid_next = excluded.uid_next
        WHERE excluded.uid_next > shown.uid_next"""
)
SOME_EXPUNGED: Final = text(
    "SELECT modseq FROM expunged WHERE mailbox = :mailbox ORDER BY modseq LIMIT :limit"
)


def _param(name: str) -> BindParameter[Any]:
    return bindparam(f"p_{name}")


class RetentionStatements:
    """Everything executed with fixed text."""

    def __init__(self, connection: Connection) -> None:
        mailbox = _param("mailbox")
        self.save_shown = Prepared(connection, SAVE_SHOWN, ["uid_next", "mailbox"])
        self.remove_shown = Prepared(
            connection, delete(shown).where(shown.c.mailbox == mailbox), ["p_mailbox"]
        )
        self.add_departing = Prepared(connection, insert(departing), ["mailbox"])
        self.remove_departing = Prepared(
            connection, delete(departing).where(departing.c.mailbox == mailbox), ["p_mailbox"]
        )
        self.some_messages = Prepared(connection, SOME_MESSAGES, ["mailbox", "limit"])
        self.some_expunged = Prepared(connection, SOME_EXPUNGED, ["mailbox", "limit"])
        token = device_tokens.c
        self.remove_old_token = Prepared(
            connection,
            delete(device_tokens)
            .where(token.account == _param("account"))
            .where(token.position == _param("position"))
            .where(token.updated_s < _param("before")),
            ["p_account", "p_position", "p_before"],
        )
        self.move_blob = Prepared(
            connection,
            update(blobs)
            .where(blobs.c.id == _param("blob"))
            .where(blobs.c.segment == _param("old_segment"))
            .where(blobs.c.place == _param("old_place"))
            .values(segment=_param("segment"), place=_param("place")),
            ["p_segment", "p_place", "p_blob", "p_old_segment", "p_old_place"],
        )
        self.dead_place = Prepared(
            connection,
            select(dead_blobs.c.id).where(dead_blobs.c.id == _param("blob")),
            ["p_blob"],
        )
