"""The one road into the store."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import attrs

from chatmail.domain.model.mailbox import NO_FLAGS, AppendReceipt, Flags, MailboxId
from chatmail.domain.model.message import Body
from chatmail.domain.model.outbound import NewOutbound
from chatmail.domain.model.queue import NewReport, QueueId


@attrs.frozen
class Delivery:
    """One local copy."""

    mailbox: MailboxId
    flags: Flags = NO_FLAGS
    once: bytes | None = None
    """A keyed hash of recipient and content: no second copy within 48 h (B7.5)."""


@attrs.frozen(kw_only=True)
class IntakeBatch:
    """All local copies, queue entries and owed reports of one message.

    `outbound` are its entries for other relays; the content lives as long as a copy or an entry.
    `settles`: the entry of the outbound queue that this message is the answer to. It ends in the
    same commit; when it is gone already, no copy is delivered.
    """

    body: Body
    internal_date_s: int
    deliveries: tuple[Delivery, ...]
    reports: tuple[NewReport, ...] = ()
    outbound: NewOutbound | None = None
    settles: QueueId | None = None


class Intake(Protocol):
    """Durable acceptance of messages."""

    async def commit(self, batch: IntakeBatch) -> tuple[AppendReceipt | None, ...]:
        """Store every local copy and report of one message, all or nothing.

        The octets are written once. When this returns, all of it is durable, visible to every
        session, and the hints are out. Two commits of one caller keep their order in every mailbox.

        Returns:  where each copy landed, in the order of `deliveries`; None where the mailbox was
            deleted meanwhile, nothing was owed any more, or the copy was delivered before (`once`).
        Raises:  Overloaded: the write queue is full. TransientFailure: nothing was stored.
        Cancellation:  shielded from the moment it is queued until it is done.
        Cost:  one share of a group commit; one thread hop per batch.
        """

    async def commit_all(
        self, batches: Sequence[IntakeBatch]
    ) -> tuple[tuple[AppendReceipt | None, ...], ...]:
        """Store several messages in one transaction: all of them, or nothing of any.

        Returns:  what `commit` returns for each, in their order; UIDs ascend in that order.
        Raises:  as `commit`.
        Source:  RFC 3502.
        """


class Spool(Protocol):
    """The content of one large message (without its header block) on its way to disk."""

    async def write(self, chunk: bytes | memoryview) -> None:
        """Append octets. Raises:  TransientFailure: the disk is full or failed."""

    async def seal(self, header: bytes) -> Body:
        """Put `header` in front; the Body may be committed while the context is open."""


class BlobStore(Protocol):
    """Room for messages too large for memory."""

    def spool(self) -> AbstractAsyncContextManager[Spool]:
        """Open a spool; leaving the context removes whatever was not committed."""
