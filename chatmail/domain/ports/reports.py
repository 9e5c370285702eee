"""Reports owed to senders, durable until written."""

from __future__ import annotations

from typing import Protocol

from chatmail.domain.model.queue import QueueEntry, QueueId


class ReportQueue(Protocol):
    """Entries are leased: a claim that is not settled comes back after the lease."""

    async def claim(self, now_s: float, limit: int, lease_s: float) -> list[QueueEntry]:
        """Lease entries that are due, oldest first."""

    async def settle(self, entry: QueueId) -> None:
        """The entry is done."""

    async def postpone(self, entry: QueueId, due_s: float) -> None:
        """Try again later."""

    async def next_due_s(self) -> float | None:
        """Return when the next entry is due."""

    async def wait_for_more(self) -> None:
        """Return when an entry was added since the last call."""
