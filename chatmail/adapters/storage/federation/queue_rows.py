"""Rows of queued mail, to and from what the domain speaks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.federation import TransportKind
from chatmail.domain.model.mailbox import NO_FLAGS, MailboxEntry, Modseq, Uid
from chatmail.domain.model.outbound import (
    LastAttempt,
    NewOutbound,
    OutboundEntry,
    OutboundMessageId,
    QueuedMessage,
)

if TYPE_CHECKING:
    from chatmail.adapters.storage.index import StoreIndex

LARGE_BYTES: Final = 64 * 1024  # spec federation-web A7.6
MAX_KNOWN_CONTENTS: Final = 256


class QueuedContents:
    """Where the content of queued messages is, of the last ones that were asked for.

    A message read in pieces is looked up, and checked, once. Whoever is in here is not erased, so
    a message whose attempt ends is taken out.
    """

    def __init__(self, limit: int = MAX_KNOWN_CONTENTS) -> None:
        self._limit = limit
        self._known: OrderedDict[OutboundMessageId, MailboxEntry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, message: OutboundMessageId) -> MailboxEntry | None:
        """Return the content of a message if it is known."""
        return self._known.get(message)

    def put(self, message: OutboundMessageId, content: MailboxEntry) -> None:
        """Remember a content; the oldest ones go."""
        self._known[message] = content
        self._known.move_to_end(message)
        if len(self._known) > self._limit:
            self._known.popitem(last=False)

    def discard(self, messages: Iterable[OutboundMessageId]) -> None:
        """Forget messages that have ended."""
        for message in messages:
            self._known.pop(message, None)


def message_row(new: NewOutbound, blob: int) -> tuple[Any, ...]:
    """Return the row of a new message."""
    sender = None if new.reverse_path is None else str(new.reverse_path)
    return (new.id, blob, sender, new.created_s, bytes(new.prefix), int(new.is_report), 0)


def recipient_rows(new: NewOutbound, size: int, process: int) -> list[tuple[Any, ...]]:
    """Return the rows of its recipients; each once."""
    is_large = int(size >= LARGE_BYTES)
    until_s = float(new.leased_until_s)
    return [
        (
            new.id,
            str(recipient),
            recipient.domain,
            is_large,
            new.created_s,
            float(new.due_s),
            until_s,
            process if until_s else 0,
            0,
            0,
            None,
            "",
            None,
            "",
            recipient.written,
        )
        for recipient in dict.fromkeys(new.recipients)
    ]


@attrs.define
class Found:
    """Entries as read from rows, where the content of their messages is, and unreadable rows."""

    entries: list[OutboundEntry] = attrs.field(factory=list)
    contents: dict[OutboundMessageId, MailboxEntry] = attrs.field(factory=dict)
    unreadable: list[tuple[int, str]] = attrs.field(factory=list)


def entries_of(rows: Sequence[Sequence[Any]], index: StoreIndex) -> Found:
    """Read entries; those of one message share it."""
    found = Found()
    messages: dict[int, QueuedMessage] = {}
    for row in rows:
        id, facts = row[0], row[10:]
        try:
            if id not in messages:
                message, content = message_of((id, *facts), index)
                messages[id], found.contents[message.id] = message, content
            found.entries.append(_entry(messages[id], row))
        except ValueError:
            found.unreadable.append((id, row[1]))
    return found


def _entry(message: QueuedMessage, row: Sequence[Any]) -> OutboundEntry:
    _, recipient, attempts, due_s, is_held, at_s, reply, transport, host, written, *_ = row
    address = EmailAddress.parse(recipient)
    last = None
    if at_s is not None:
        kind = None if transport is None else TransportKind(transport)
        last = LastAttempt(at_s=at_s, reply=reply, transport=kind, host=host)
    return OutboundEntry(
        message=message,
        recipient=attrs.evolve(address, written=written) if written else address,
        attempts=attempts,
        due_s=due_s,
        is_held=bool(is_held),
        last=last,
    )


def message_of(row: Sequence[Any], index: StoreIndex) -> tuple[QueuedMessage, MailboxEntry]:
    """Return a message, and where its content is. Raises:  ValueError."""
    id, sender, created_s, prefix, is_report, blob, segment, place, size, header_size, date_s = row
    message = QueuedMessage(
        id=OutboundMessageId(id),
        reverse_path=None if sender is None else EmailAddress.parse(sender),
        created_s=created_s,
        prefix=bytes(prefix),
        is_report=bool(is_report),
        size=size,
        header_size=header_size,
    )
    where = index.places.intern(blob, segment, place)
    content = MailboxEntry(Uid(0), Modseq(0), NO_FLAGS, size, header_size, date_s, where)
    return message, content
