"""Mail owed to other relays, durable until settled."""

from __future__ import annotations

from typing import Protocol

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.outbound import (
    Backlog,
    OutboundEntry,
    OutboundMessageId,
    QueuedMessage,
    QueueFilter,
    Settled,
    Waiting,
)


class OutboundQueue(Protocol):
    """Entries are leased: a claim that is not settled comes back after the lease.

    Entries are added by `Intake.commit` (`IntakeBatch.outbound`). The content of a message lives as
    long as one of its entries. Every method raises TransientFailure: nothing was changed.
    """

    async def backlogs(self) -> list[Backlog]:
        """Return what waits, by destination. Cost: one read over the index, no message content."""

    async def waiting(self, sender: EmailAddress) -> Waiting:
        """Return what waits of one author, held or not. Cost: one read over the author's index."""

    async def claim(
        self, domain: str, now_s: float, lease_s: float, limit: int
    ) -> list[OutboundEntry]:
        """Lease entries of a destination that are due and not held.

        Small messages (below 64 KiB) first, then large ones, each oldest first (A7.6).
        """

    async def claim_expired(
        self,
        now_s: float,
        created_before_s: float,
        reports_before_s: float,
        lease_s: float,
        limit: int,
    ) -> list[OutboundEntry]:
        """Lease entries that are too old, due or not, held ones excepted; oldest first."""

    async def settle(self, settled: Settled) -> None:
        """End or postpone entries and owe reports, in one transaction.

        An entry that is gone meanwhile (removed, account deleted) is passed over. Of its report the
        caller knows nothing then; it is owed all the same.
        """

    async def wake(self, domain: str, now_s: float) -> int:
        """Make everything queued to a destination due now, held entries excepted; returns how many.

        Entries that are being attempted are not touched.
        """

    async def keep_alive(self) -> int:
        """Say that this process lives; free what processes that do not had in hand.

        Called every 10 s. A process that is silent for 40 s counts as dead; what it settles later
        as not delivered is passed over.
        Returns:  how many entries were freed: 0 where no other process can be.
        """

    async def next_due_s(self) -> float | None:
        """Return when the next entry is due, leases included, held ones excepted."""

    async def wait_for_more(self) -> None:
        """Return when an entry was added without a lease, or made due, since the last call."""

    async def read(self, message: OutboundMessageId, offset: int, length: int) -> bytes:
        """Return stored octets of a queued message (without its prefix).

        Raises:  TransientFailure: it is gone, or its octets are damaged.
        """

    # --- for the operator ---

    async def page(
        self, wanted: QueueFilter, after: tuple[OutboundMessageId, EmailAddress] | None, limit: int
    ) -> list[OutboundEntry]:
        """Return entries in the order of (message id, recipient), behind `after`."""

    async def message(self, message: OutboundMessageId) -> tuple[QueuedMessage, bytes] | None:
        """Return a queued message and its header block; None: there is none."""

    async def retry(self, wanted: QueueFilter, now_s: float) -> int:
        """Make entries due now, their leases aside; returns how many."""

    async def hold(self, wanted: QueueFilter, is_held: bool) -> int:
        """Hold entries back, or let them go; returns how many changed."""

    async def remove(self, wanted: QueueFilter) -> int:
        """Forget entries, without a report; returns how many. In steps of at most 500."""
