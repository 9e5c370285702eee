"""What is known of other relays, in dictionaries."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import attrs
import trio

from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.federation import (
    Dismissal,
    LedgerEvent,
    PeerHealth,
    PeerOverride,
    PeerRecord,
    PeerRule,
    StsPolicy,
)

UNUSED_S = 30 * 86400
MAX_PEERS = 5000

OK_EVENTS = (LedgerEvent.OK_HTTPS, LedgerEvent.OK_HTTP, LedgerEvent.OK_SMTP)
FAIL_EVENTS = (LedgerEvent.FAIL_HTTPS, LedgerEvent.FAIL_HTTP, LedgerEvent.FAIL_SMTP)


class MemoryPeerDirectory:
    """`PeerDirectory` in dictionaries. `fail` makes the next writes raise TransientFailure."""

    def __init__(self) -> None:
        self.fail = 0
        self._rules: tuple[PeerRule, ...] = ()
        self._dismissals: tuple[Dismissal, ...] = ()
        self._overrides: dict[str, PeerOverride] = {}

    def rules(self) -> Sequence[PeerRule]:
        return self._rules

    def dismissals(self) -> Sequence[Dismissal]:
        return self._dismissals

    def overrides(self) -> Sequence[PeerOverride]:
        return [self._overrides[domain] for domain in sorted(self._overrides)]

    def override(self, domain: str) -> PeerOverride | None:
        return self._overrides.get(domain)

    async def put_rule(self, rule: PeerRule) -> None:
        await self._begin()
        known = {one.pattern: one for one in self._rules}
        if rule.pattern in known:
            rule = attrs.evolve(known[rule.pattern], action=rule.action)
        known[rule.pattern] = rule
        self._rules = tuple(sorted(known.values(), key=lambda one: (one.created_s, one.pattern)))

    async def remove_rule(self, pattern: str) -> bool:
        await self._begin()
        kept = tuple(one for one in self._rules if one.pattern != pattern)
        found = len(kept) != len(self._rules)
        self._rules = kept
        return found

    async def flush_rules(self) -> int:
        await self._begin()
        count, self._rules = len(self._rules), ()
        return count

    async def put_dismissal(self, dismissal: Dismissal) -> None:
        await self._begin()
        known = {one.pattern: one for one in self._dismissals}
        known.setdefault(dismissal.pattern, dismissal)
        self._dismissals = tuple(
            sorted(known.values(), key=lambda one: (one.created_s, one.pattern))
        )

    async def remove_dismissal(self, pattern: str) -> bool:
        await self._begin()
        kept = tuple(one for one in self._dismissals if one.pattern != pattern)
        found = len(kept) != len(self._dismissals)
        self._dismissals = kept
        return found

    async def flush_dismissals(self) -> int:
        await self._begin()
        count, self._dismissals = len(self._dismissals), ()
        return count

    async def put_override(self, override: PeerOverride) -> None:
        await self._begin()
        self._overrides[override.domain] = override

    async def remove_override(self, domain: str) -> bool:
        await self._begin()
        return self._overrides.pop(domain, None) is not None

    async def _begin(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.fail > 0:
            self.fail -= 1
            raise TransientFailure("store is told to fail")


class MemoryPeerMemory:
    """`PeerMemory` in dictionaries. `saves` counts the calls of `save`."""

    def __init__(self) -> None:
        self._health: dict[str, PeerHealth] = {}
        self._sts: dict[str, StsPolicy] = {}
        self.saves = 0
        self.fail = 0

    def health(self, domain: str) -> PeerHealth:
        return self._health.get(domain) or PeerHealth(domain=domain)

    def remember(self, health: PeerHealth) -> None:
        self._health[health.domain] = health

    def forget(self, domain: str) -> bool:
        health, policy = self._health.pop(domain, None), self._sts.pop(domain, None)
        return health is not None or policy is not None

    def all_health(self) -> Sequence[PeerHealth]:
        return list(self._health.values())

    def sts(self, domain: str) -> StsPolicy | None:
        return self._sts.get(domain)

    def remember_sts(self, policy: StsPolicy) -> None:
        self._sts[policy.domain] = policy

    async def save(self, now_s: float) -> None:
        await trio.lowlevel.checkpoint()
        if self.fail > 0:
            self.fail -= 1
            raise TransientFailure("store is told to fail")
        self.saves += 1
        before_s = now_s - UNUSED_S
        self._health = {
            domain: one for domain, one in self._health.items() if one.updated_s >= before_s
        }
        self._sts = {
            domain: one
            for domain, one in self._sts.items()
            if max(one.expires_s, one.fetched_s) >= before_s
        }


class MemoryPeerLedger:
    """`PeerLedger` in a dictionary, least recently active first. `saves` counts calls."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, PeerRecord] = OrderedDict()
        self.saves = 0

    def count(self, domain: str, event: LedgerEvent, now_s: float, error: str = "") -> None:
        record = self._records.get(domain) or PeerRecord(domain=domain, counts={})
        counts = {**record.counts, event: record.counts.get(event, 0) + 1}
        changes: dict[str, object] = {}
        if event in OK_EVENTS:
            changes["last_ok_s"] = int(now_s)
        elif event in FAIL_EVENTS:
            changes["last_fail_s"] = int(now_s)
        if error:
            changes["last_error"] = error
        self._put(attrs.evolve(record, counts=counts, **changes))

    def delivered(self, domain: str, event: LedgerEvent, now_s: float, latency_ms: int) -> None:
        self.count(domain, event, now_s)
        record = self._records[domain]
        self._put(
            attrs.evolve(
                record,
                latency_sum_ms=record.latency_sum_ms + latency_ms,
                latency_count=record.latency_count + 1,
            )
        )

    def records(self) -> Sequence[PeerRecord]:
        return list(reversed(self._records.values()))

    def forget_all(self) -> None:
        self._records.clear()

    async def save(self) -> None:
        await trio.lowlevel.checkpoint()
        self.saves += 1

    def _put(self, record: PeerRecord) -> None:
        self._records[record.domain] = record
        self._records.move_to_end(record.domain)
        while len(self._records) > MAX_PEERS:
            self._records.popitem(last=False)
