"""The outbound queue in the operator's hands: look, try again, hold back, give up, ask why.

Nothing here shows content. Source:  spec federation-web A7.7.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import attrs

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.federation import PeerHealth, PeerOverride, PeerRecord, TransportKind
from chatmail.domain.model.outbound import (
    Backlog,
    OutboundEntry,
    OutboundMessageId,
    QueuedMessage,
    QueueFilter,
)
from chatmail.domain.model.settings import QueueSettings, SettingsSnapshot
from chatmail.domain.ports.federation import PeerDirectory, PeerLedger, PeerMemory
from chatmail.domain.ports.outbound import OutboundQueue
from chatmail.domain.ports.system import Clock, Log

PAGE: Final = 200
MAX_SHOWN: Final = 5000
MAX_LOOKED_AT: Final = 20_000
"""A queue may hold a million entries; what is asked of it in one go is bounded."""

Cursor = tuple[OutboundMessageId, EmailAddress]


@attrs.frozen(kw_only=True)
class QueueState:
    """The queue as a whole, worst destination first; unix seconds."""

    entries: int
    held: int
    oldest_s: int | None
    destinations: tuple[Destination, ...]
    settings: QueueSettings


@attrs.frozen(kw_only=True)
class Destination:
    """What waits for one domain. `not_before_s`: in backoff until then, 0: not."""

    backlog: Backlog
    not_before_s: float


@attrs.frozen(kw_only=True)
class QueuePage:
    """Entries, in the order of (message, recipient). `is_cut`: there are more."""

    entries: tuple[OutboundEntry, ...]
    is_cut: bool


@attrs.frozen(kw_only=True)
class Diagnostic:
    """What was said last to so many entries. `reply` empty: not tried yet."""

    reply: str
    transport: TransportKind | None
    host: str
    entries: int
    last_s: int | None


@attrs.frozen(kw_only=True)
class Explanation:
    """Why mail for a domain waits."""

    domain: str
    entries: int
    held: int
    oldest_s: int | None
    next_due_s: float | None
    health: PeerHealth
    override: PeerOverride | None
    record: PeerRecord | None
    diagnostics: tuple[Diagnostic, ...]
    is_cut: bool


@attrs.frozen(kw_only=True)
class ManageQueue:
    """All that an operator does with the queue. Domains are normalised."""

    queue: OutboundQueue
    memory: PeerMemory
    directory: PeerDirectory
    ledger: PeerLedger
    clock: Clock
    settings: Callable[[], SettingsSnapshot]
    log: Log

    async def state(self) -> QueueState:
        """Return how full the queue is. Raises:  TransientFailure."""
        backlogs = await self.queue.backlogs()
        destinations = [
            Destination(backlog=one, not_before_s=self._backoff_s(one.domain)) for one in backlogs
        ]
        destinations.sort(key=lambda one: (-one.backlog.entries, one.backlog.domain))
        return QueueState(
            entries=sum(one.entries for one in backlogs),
            held=sum(one.held for one in backlogs),
            oldest_s=min((one.oldest_s for one in backlogs), default=None),
            destinations=tuple(destinations),
            settings=self.settings().queue,
        )

    async def page(
        self, wanted: QueueFilter, limit: int = PAGE, after: Cursor | None = None
    ) -> QueuePage:
        """Return entries. Raises:  TransientFailure. Args:  limit: at most MAX_SHOWN."""
        limit = min(limit, MAX_SHOWN)
        found = await self.queue.page(wanted, after, limit + 1)
        return QueuePage(entries=tuple(found[:limit]), is_cut=len(found) > limit)

    async def show(
        self, message: OutboundMessageId
    ) -> tuple[QueuedMessage, tuple[OutboundEntry, ...]] | None:
        """Return one message with its entries; None: there is none. Raises:  TransientFailure."""
        found = await self.queue.message(message)
        if found is None:
            return None
        page = await self.page(QueueFilter(message=message), MAX_SHOWN)
        return found[0], page.entries

    async def retry(self, wanted: QueueFilter) -> int:
        """Try again now, whatever was learned about the destinations; returns how many entries.

        Raises:  TransientFailure.
        """
        domains = await self._domains(wanted)
        for domain in domains:
            health = self.memory.health(domain)
            if health.not_before_s > 0:
                self.memory.remember(attrs.evolve(health, not_before_s=0.0))
        await self.memory.save(self.clock.now_s())
        count = await self.queue.retry(wanted, self.clock.now_s())
        self.log.info("queue_retried", entries=count)
        return count

    async def hold(self, wanted: QueueFilter, *, is_held: bool) -> int:
        """Hold entries back, or let them go; returns how many. Raises:  TransientFailure."""
        count = await self.queue.hold(wanted, is_held)
        self.log.info("queue_held", entries=count, held=is_held)
        return count

    async def remove(self, wanted: QueueFilter) -> int:
        """Forget entries; nobody is told. Returns how many. Raises:  TransientFailure."""
        count = await self.queue.remove(wanted)
        self.log.info("queue_removed", entries=count)
        return count

    async def why(self, domain: str) -> Explanation:
        """Say why mail for a domain waits. Raises:  TransientFailure."""
        backlogs = await self.queue.backlogs()
        backlog = next((one for one in backlogs if one.domain == domain), None)
        diagnostics, is_cut = await self._diagnostics(domain)
        return Explanation(
            domain=domain,
            entries=backlog.entries if backlog else 0,
            held=backlog.held if backlog else 0,
            oldest_s=backlog.oldest_s if backlog else None,
            next_due_s=backlog.next_due_s if backlog else None,
            health=self.memory.health(domain),
            override=self.directory.override(domain),
            record=next((one for one in self.ledger.records() if one.domain == domain), None),
            diagnostics=diagnostics,
            is_cut=is_cut,
        )

    def _backoff_s(self, domain: str) -> float:
        until_s = self.memory.health(domain).not_before_s
        return until_s if until_s > self.clock.now_s() else 0.0

    async def _domains(self, wanted: QueueFilter) -> Sequence[str]:
        if wanted.domain:
            return (wanted.domain,)
        if wanted.message is not None:
            page = await self.queue.page(wanted, None, PAGE)
            return tuple(dict.fromkeys(entry.domain for entry in page))
        return [one.domain for one in await self.queue.backlogs()]

    async def _diagnostics(self, domain: str) -> tuple[tuple[Diagnostic, ...], bool]:
        counts: Counter[tuple[str, TransportKind | None, str]] = Counter()
        latest: dict[tuple[str, TransportKind | None, str], int] = {}
        after: Cursor | None = None
        looked_at = 0
        while looked_at < MAX_LOOKED_AT:
            page = await self.queue.page(QueueFilter(domain=domain), after, PAGE)
            for entry in page:
                last = entry.last
                key = (last.reply, last.transport, last.host) if last else ("", None, "")
                counts[key] += 1
                latest[key] = max(latest.get(key, 0), last.at_s if last else 0)
            looked_at += len(page)
            if len(page) < PAGE:
                break
            after = (page[-1].message.id, page[-1].recipient)
        found = [
            Diagnostic(
                reply=key[0],
                transport=key[1],
                host=key[2],
                entries=count,
                last_s=latest[key] or None,
            )
            for key, count in counts.most_common()
        ]
        return tuple(found), looked_at >= MAX_LOOKED_AT
