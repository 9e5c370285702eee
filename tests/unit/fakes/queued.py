"""Messages and what the queue holds of them, in memory: shared by the fake stores and queue."""

from __future__ import annotations

import attrs

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.outbound import (
    LastAttempt,
    NewOutbound,
    OutboundMessageId,
    QueuedMessage,
)


@attrs.define(eq=False)
class MemoryBlob:
    """Stored octets, shared by every copy. `is_damaged` makes reads fail."""

    octets: bytes
    is_damaged: bool = False


@attrs.define(eq=False, kw_only=True)
class MemoryQueued:
    """One recipient of a queued message."""

    message: OutboundMessageId
    recipient: EmailAddress
    due_s: float
    leased_until_s: float = 0.0
    attempts: int = 0
    is_held: bool = False
    last: LastAttempt | None = None


@attrs.define(eq=False, kw_only=True)
class MemoryOutbound:
    """A queued message; it ends with its last entry."""

    new: NewOutbound
    blob: MemoryBlob
    header_size: int
    entries: dict[EmailAddress, MemoryQueued]

    @staticmethod
    def of(new: NewOutbound, blob: MemoryBlob, header_size: int) -> MemoryOutbound:
        entries = {
            recipient: MemoryQueued(
                message=new.id,
                recipient=recipient,
                due_s=new.due_s,
                leased_until_s=new.leased_until_s,
            )
            for recipient in new.recipients
        }
        return MemoryOutbound(new=new, blob=blob, header_size=header_size, entries=entries)

    @property
    def size(self) -> int:
        return len(self.blob.octets)

    def facts(self) -> QueuedMessage:
        return QueuedMessage(
            id=self.new.id,
            reverse_path=self.new.reverse_path,
            created_s=self.new.created_s,
            prefix=self.new.prefix,
            is_report=self.new.is_report,
            size=self.size,
            header_size=self.header_size,
        )
