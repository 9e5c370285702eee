"""Counters per peer: kept in memory, added to what is stored now and then."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Any, Final

import attrs

from chatmail.adapters.storage.federation.peer_sql import PeerStatements
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.transaction import Transaction
from chatmail.adapters.storage.writer import Job, Writer
from chatmail.domain.model.federation import LedgerEvent, PeerRecord

MAX_PEERS: Final = 5000  # spec federation-web A13.1
EVENTS: Final = tuple(LedgerEvent)
_OK: Final = frozenset({LedgerEvent.OK_HTTPS, LedgerEvent.OK_HTTP, LedgerEvent.OK_SMTP})
_FAIL: Final = frozenset({LedgerEvent.FAIL_HTTPS, LedgerEvent.FAIL_HTTP, LedgerEvent.FAIL_SMTP})


@attrs.define
class _Tally:
    """Counters of one peer, or what was added to them."""

    counts: Counter[LedgerEvent] = attrs.field(factory=Counter)
    latency_sum_ms: int = 0
    latency_count: int = 0
    last_ok_s: int = 0
    last_fail_s: int = 0
    last_error: str = ""
    active_s: int = 0

    @staticmethod
    def of_row(row: Sequence[Any]) -> tuple[str, _Tally]:
        domain, *numbers = row
        counts = Counter(dict(zip(EVENTS, numbers, strict=False)))
        return domain, _Tally(counts, *numbers[len(EVENTS) :])

    def row(self, domain: str) -> tuple[Any, ...]:
        return (
            domain,
            *(self.counts[event] for event in EVENTS),
            self.latency_sum_ms,
            self.latency_count,
            self.last_ok_s,
            self.last_fail_s,
            self.last_error,
            self.active_s,
        )

    def count(self, event: LedgerEvent, now_s: int, error: str) -> None:
        self.counts[event] += 1
        self.active_s = max(self.active_s, now_s)
        if event in _OK:
            self.last_ok_s = max(self.last_ok_s, now_s)
        elif event in _FAIL:
            self.last_fail_s = max(self.last_fail_s, now_s)
        self.last_error = error or self.last_error

    def add(self, other: _Tally) -> None:
        self.counts.update(other.counts)
        self.latency_sum_ms += other.latency_sum_ms
        self.latency_count += other.latency_count
        self.last_ok_s = max(self.last_ok_s, other.last_ok_s)
        self.last_fail_s = max(self.last_fail_s, other.last_fail_s)
        self.last_error = other.last_error or self.last_error
        self.active_s = max(self.active_s, other.active_s)

    def record(self, domain: str) -> PeerRecord:
        return PeerRecord(
            domain=domain,
            counts={event: count for event, count in self.counts.items() if count},
            latency_sum_ms=self.latency_sum_ms,
            latency_count=self.latency_count,
            last_ok_s=self.last_ok_s,
            last_fail_s=self.last_fail_s,
            last_error=self.last_error,
        )


class _Save(Job):
    """Add what was counted, and read what all processes have counted."""

    __slots__ = ("_forgets_all", "_gone", "_rows", "found")

    def __init__(self, forgets_all: bool, gone: Sequence[str], added: dict[str, _Tally]) -> None:
        self._forgets_all = forgets_all
        self._gone = sorted((domain,) for domain in gone)
        self._rows = [added[domain].row(domain) for domain in sorted(added)]
        self.found: Sequence[Sequence[Any]] | None = None

    def plan(self, tx: Transaction) -> None:
        sql = tx.sql.peers
        if self._forgets_all:
            sql.forget_all_counters.run()
        sql.forget_counters.run_many(list(self._gone))
        sql.count.run_many(self._rows)
        if tx.sql.outbound.is_shared:
            self.found = sql.counters.all()

    def publish(self, index: StoreIndex) -> None:
        pass


class SqlPeerLedger:
    """`PeerLedger` over a table; other processes' counts are seen with each `save`."""

    def __init__(self, writer: Writer, sql: PeerStatements) -> None:
        """Args:  sql: on a connection that is free now; everything stored is read."""
        self._writer = writer
        self._stored: OrderedDict[str, _Tally] = OrderedDict()
        self._take_in(sql.counters.all())
        self._added: dict[str, _Tally] = {}
        self._gone: set[str] = set()
        self._forgets_all = False

    def count(self, domain: str, event: LedgerEvent, now_s: float, error: str = "") -> None:
        """Count an event; `error` is the clean reply line of a failure."""
        self._change(domain, event, now_s, error)

    def delivered(self, domain: str, event: LedgerEvent, now_s: float, latency_ms: int) -> None:
        """Count a delivery that took so long from the queueing to the peer's word."""
        for tally in self._change(domain, event, now_s, ""):
            tally.latency_sum_ms += latency_ms
            tally.latency_count += 1

    def records(self) -> Sequence[PeerRecord]:
        """Return all peers, most recently active first."""
        return [tally.record(domain) for domain, tally in reversed(self._stored.items())]

    def forget_all(self) -> None:
        """Forget all counters."""
        self._stored.clear()
        self._added.clear()
        self._gone.clear()
        self._forgets_all = True

    async def save(self) -> None:
        """Write what changed since the last call. Raises:  TransientFailure."""
        if not (self._added or self._gone or self._forgets_all):
            return
        forgets_all, self._forgets_all = self._forgets_all, False
        added, self._added = self._added, {}
        gone, self._gone = self._gone, set()
        is_saved = False
        try:
            job = await self._writer.do(_Save(forgets_all, sorted(gone), added))
            is_saved = True
        finally:
            if not is_saved and not self._forgets_all:
                self._put_back(forgets_all, gone, added)
        if job.found is not None and not self._forgets_all:
            self._take_in(job.found)
            for domain, tally in self._added.items():
                self._stored.setdefault(domain, _Tally()).add(tally)

    def _put_back(self, forgets_all: bool, gone: set[str], added: dict[str, _Tally]) -> None:
        self._forgets_all = forgets_all
        self._gone |= gone
        for domain, tally in self._added.items():
            added.setdefault(domain, _Tally()).add(tally)
        self._added = added

    def _take_in(self, rows: Sequence[Sequence[Any]]) -> None:
        tallies = sorted(map(_Tally.of_row, rows), key=lambda one: (one[1].active_s, one[0]))
        self._stored = OrderedDict(tallies[-MAX_PEERS:])

    def _change(
        self, domain: str, event: LedgerEvent, now_s: float, error: str
    ) -> tuple[_Tally, _Tally]:
        stored = self._stored.setdefault(domain, _Tally())
        self._stored.move_to_end(domain)
        added = self._added.setdefault(domain, _Tally())
        for tally in (stored, added):
            tally.count(event, int(now_s), error)
        if len(self._stored) > MAX_PEERS:
            oldest, _ = self._stored.popitem(last=False)
            self._added.pop(oldest, None)
            self._gone.add(oldest)
        return stored, added
