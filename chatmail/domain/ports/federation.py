"""What is known of other relays: the operator's word, and what was learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from chatmail.domain.model.federation import (
    Dismissal,
    LedgerEvent,
    PeerHealth,
    PeerOverride,
    PeerRecord,
    PeerRule,
    StsPolicy,
)


class PeerDirectory(Protocol):
    """The operator's word. Reads are sync and from memory; writes are durable when they return.

    Writes raise TransientFailure: nothing was changed. Changes of other processes on the same
    database show up by themselves.
    """

    def rules(self) -> Sequence[PeerRule]:
        """Return all rules, oldest first. The same object until something changes."""

    def dismissals(self) -> Sequence[Dismissal]:
        """Return all silently dismissed patterns, oldest first; the same object until a change."""

    def overrides(self) -> Sequence[PeerOverride]:
        """Return all overrides, by domain."""

    def override(self, domain: str) -> PeerOverride | None:
        """Return the override of a normalised domain. O(1)."""

    async def put_rule(self, rule: PeerRule) -> None:
        """Add a rule, or change its action."""

    async def remove_rule(self, pattern: str) -> bool:
        """Remove a rule; False: there was none."""

    async def flush_rules(self) -> int:
        """Remove all rules; returns how many."""

    async def put_dismissal(self, dismissal: Dismissal) -> None:
        """Add a pattern to dismiss."""

    async def remove_dismissal(self, pattern: str) -> bool:
        """Remove a pattern; False: there was none."""

    async def flush_dismissals(self) -> int:
        """Remove all of them; returns how many."""

    async def put_override(self, override: PeerOverride) -> None:
        """Add or replace the override of a domain."""

    async def remove_override(self, domain: str) -> bool:
        """Remove an override; False: there was none."""


class PeerMemory(Protocol):
    """What attempts taught. Sync and in memory; `save` makes it durable.

    A crash forgets what was not saved: that costs an attempt. Bounded in number.
    """

    def health(self, domain: str) -> PeerHealth:
        """Return what is known of a destination; a blank one when nothing is."""

    def remember(self, health: PeerHealth) -> None:
        """Keep this from now on."""

    def forget(self, domain: str) -> bool:
        """Forget a destination, its MTA-STS policy too; False: nothing was known."""

    def all_health(self) -> Sequence[PeerHealth]:
        """Return everything that is remembered."""

    def sts(self, domain: str) -> StsPolicy | None:
        """Return the MTA-STS policy of a domain, an expired one too."""

    def remember_sts(self, policy: StsPolicy) -> None:
        """Keep a policy."""

    async def save(self, now_s: float) -> None:
        """Write what changed since the last call, drop what was not used for 30 days.

        Raises:  TransientFailure: it is tried again with the next call.
        """


class PeerLedger(Protocol):
    """Counters per peer for the operator (A13). Sync and in memory; `save` makes them durable.

    At most 5000 domains; the least recently active go.
    """

    def count(self, domain: str, event: LedgerEvent, now_s: float, error: str = "") -> None:
        """Count an event; `error` is the clean reply line of a failure."""

    def delivered(self, domain: str, event: LedgerEvent, now_s: float, latency_ms: int) -> None:
        """Count a delivery that took so long from the queueing to the peer's word."""

    def records(self) -> Sequence[PeerRecord]:
        """Return all peers, most recently active first."""

    def forget_all(self) -> None:
        """Forget all counters (`federation.stats` was switched off)."""

    async def save(self) -> None:
        """Write what changed since the last call. Raises:  TransientFailure."""
