"""What others have changed in mailboxes this process holds in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from chatmail.adapters.storage.head import MailboxHead
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.postgresql.link import Link
from chatmail.adapters.storage.postgresql.transaction import FLOOR_AT, HEADS
from chatmail.adapters.storage.statements import MESSAGE_COLUMNS
from chatmail.adapters.storage.transaction import StoredMessage
from chatmail.domain.model.mailbox import MailboxEntry, MailboxId

_HEADS: Final = f"{HEADS} WHERE id = ANY(%s::bigint[])"
_COLUMNS: Final = ", ".join(str(column) for column in MESSAGE_COLUMNS)
_MESSAGES: Final = f"""SELECT known.mailbox, {_COLUMNS}
    FROM unnest(%s::bigint[], %s::bigint[]) AS known (mailbox, modseq)
    JOIN messages ON messages.mailbox = known.mailbox AND messages.modseq > known.modseq
    JOIN blobs ON blobs.id = messages.blob ORDER BY messages.uid"""  # noqa: S608 - our own names
_EXPUNGED: Final = """SELECT known.mailbox, expunged.modseq, expunged.uid
    FROM unnest(%s::bigint[], %s::bigint[]) AS known (mailbox, modseq)
    JOIN expunged ON expunged.mailbox = known.mailbox AND expunged.modseq > known.modseq"""
_PRESENT: Final = "SELECT uid FROM messages WHERE mailbox = %s"


@attrs.frozen
class Missed:
    """All changes of a mailbox after some modseq, as of one moment.

    `head` None: the mailbox is gone. `expunged`: (modseq, UID). `present`: all UIDs there are,
    when the expunges of that time are no longer remembered.
    """

    mailbox: MailboxId
    head: MailboxHead | None
    entries: Sequence[MailboxEntry] = ()
    expunged: Sequence[tuple[int, int]] = ()
    present: frozenset[int] | None = None


def read_missed(link: Link, index: StoreIndex, since: Mapping[MailboxId, int]) -> list[Missed]:
    """Read what happened in mailboxes after the given modseqs; inside a snapshot.

    Raises:  StorageFault.
    """
    ids, modseqs = list(since), list(since.values())
    heads = {row[0]: row for row in link.all(_HEADS, ids)}
    entries: dict[int, list[MailboxEntry]] = {}
    for mailbox, *row in link.all(_MESSAGES, ids, modseqs):
        entries.setdefault(mailbox, []).append(StoredMessage(row).entry(index))
    expunged: dict[int, list[tuple[int, int]]] = {}
    for mailbox, modseq, uid in link.all(_EXPUNGED, ids, modseqs):
        expunged.setdefault(mailbox, []).append((modseq, uid))
    return [
        Missed(
            mailbox,
            _head(heads.get(mailbox)),
            entries.get(mailbox, ()),
            expunged.get(mailbox, ()),
            _present(link, heads.get(mailbox), modseq),
        )
        for mailbox, modseq in since.items()
    ]


def _head(row: Sequence[Any] | None) -> MailboxHead | None:
    return None if row is None else MailboxHead.of_row(row)


def _present(link: Link, row: Sequence[Any] | None, since: int) -> frozenset[int] | None:
    expunged_floor = 0 if row is None else row[FLOOR_AT]
    if row is None or since >= expunged_floor:
        return None
    return frozenset(uid for (uid,) in link.all(_PRESENT, row[0]))
