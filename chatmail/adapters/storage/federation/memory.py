"""What attempts taught about other relays: in memory, written down now and then.

Where several processes share a database each has its own memory; what one saves, or forgets on the
operator's word, the others take over.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import attrs

from chatmail.adapters.storage.federation.peer_sql import PeerStatements
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.notices import peer_learned
from chatmail.adapters.storage.transaction import Transaction
from chatmail.adapters.storage.writer import Job, Writer
from chatmail.domain.model.federation import PeerHealth, StsPolicy

UNUSED_S: Final = 30 * 86400  # spec federation-web A8.6
DROP_EVERY_S: Final = 3600
MAX_PEERS: Final = 20_000
"""An account can name any number of domains; a legitimate relay knows some hundreds."""

MAX_TOLD: Final = 500
"""So many peers one save tells others of: more of them have news of their own."""
_HEALTH_FIELDS: Final = tuple(field.name for field in attrs.fields(PeerHealth))


@attrs.define
class _Table:
    """Rows by domain, and which of them differ from what is stored."""

    rows: OrderedDict[str, Any] = attrs.field(factory=OrderedDict)
    changed: set[str] = attrs.field(factory=set)

    def put(self, domain: str, row: Any) -> None:
        self.rows[domain] = row
        self.rows.move_to_end(domain)
        self.changed.add(domain)
        if len(self.rows) > MAX_PEERS:
            self.changed.add(self.rows.popitem(last=False)[0])

    def drop(self, domain: str) -> bool:
        self.changed.add(domain)  # known or not: another process may have stored it
        return self.rows.pop(domain, None) is not None

    def adopt(self, domain: str, row: Any | None) -> None:
        """Take over what is stored now. None: it was forgotten."""
        self.changed.discard(domain)
        self.rows.pop(domain, None)
        if row is not None:
            self.rows[domain] = row
            if len(self.rows) > MAX_PEERS:
                self.changed.discard(self.rows.popitem(last=False)[0])

    def take_changes(self) -> tuple[list[Any], list[tuple[str]], set[str]]:
        """Return rows to be saved, keys to be removed, and what to `remark` if that fails."""
        taken, self.changed = self.changed, set()
        saved = [self.rows[domain] for domain in taken if domain in self.rows]
        gone = [(domain,) for domain in taken if domain not in self.rows]
        return saved, gone, taken


class _Save(Job):
    __slots__ = ("_gone_health", "_gone_sts", "_health", "_sts", "_unused_before_s")

    def __init__(
        self,
        health: Sequence[PeerHealth],
        gone_health: list[tuple[str]],
        sts: Sequence[StsPolicy],
        gone_sts: list[tuple[str]],
        unused_before_s: int,
    ) -> None:
        self._health = sorted((attrs.astuple(one) for one in health), key=lambda row: row[0])
        self._gone_health = sorted(gone_health)
        self._sts = sorted(
            (one.domain, one.id, one.mode, " ".join(one.mx), one.expires_s, one.fetched_s)
            for one in sts
        )
        self._gone_sts = sorted(gone_sts)
        self._unused_before_s = unused_before_s

    def plan(self, tx: Transaction) -> None:
        sql = tx.sql.peers
        sql.save_health.run_many(self._health)
        sql.forget_health.run_many(list(self._gone_health))
        sql.save_sts.run_many(self._sts)
        sql.forget_sts.run_many(list(self._gone_sts))
        domains = [row[0] for row in (*self._health, *self._gone_health)]
        for domain in domains[:MAX_TOLD]:
            tx.tell(peer_learned(domain))
        if self._unused_before_s:
            sql.forget_unused_health.run(self._unused_before_s)
            sql.forget_unused_sts.run(self._unused_before_s, self._unused_before_s)


class _Load(Job):
    """Read rows again, in the writer's order; None: all there are."""

    __slots__ = ("_domains", "_memory", "health", "sts")

    is_read = True

    def __init__(self, memory: SqlPeerMemory, domains: Iterable[str] | None) -> None:
        self._memory = memory
        self._domains = None if domains is None else sorted(domains)
        self.health: dict[str, PeerHealth | None] = {}
        self.sts: dict[str, StsPolicy | None] = {}

    def plan(self, tx: Transaction) -> None:
        sql = tx.sql.peers
        if self._domains is None:
            self.health = {row[0]: _health(row) for row in sql.health.all()}
            self.sts = {row[0]: _sts(row) for row in sql.sts.all()}
            return
        for domain in self._domains:
            row = sql.health_of.one(domain)
            self.health[domain] = None if row is None else _health(row)
            row = sql.sts_of.one(domain)
            self.sts[domain] = None if row is None else _sts(row)

    def publish(self, index: StoreIndex) -> None:
        self._memory.adopt(self.health, self.sts)


class SqlPeerMemory:
    """`PeerMemory` over two tables. Several processes each have their own, and save into one."""

    def __init__(self, writer: Writer, sql: PeerStatements) -> None:
        """Args:  sql: on a connection that is free now; everything stored is read."""
        self._writer = writer
        self._health = _Table()
        self._sts = _Table()
        self._dropped_before_s = 0.0
        self._unused_before_s = 0  # not yet dropped from the tables; 0: nothing
        rows = sorted(sql.health.all(), key=lambda row: row.updated_s)
        for row in rows[-MAX_PEERS:]:
            self._health.rows[row[0]] = _health(row)
        rows = sorted(sql.sts.all(), key=lambda row: row.fetched_s)
        for row in rows[-MAX_PEERS:]:
            self._sts.rows[row[0]] = _sts(row)

    def health(self, domain: str) -> PeerHealth:
        """Return what is known of a destination; a blank one when nothing is."""
        found: PeerHealth | None = self._health.rows.get(domain)
        return PeerHealth(domain=domain) if found is None else found

    def remember(self, health: PeerHealth) -> None:
        """Keep this from now on."""
        if self._health.rows.get(health.domain) != health:
            self._health.put(health.domain, health)

    def forget(self, domain: str) -> bool:
        """Forget a destination, its MTA-STS policy too; False: nothing was known."""
        was_known = self._health.drop(domain)
        return self._sts.drop(domain) or was_known

    def all_health(self) -> Sequence[PeerHealth]:
        """Return everything that is remembered."""
        return list(self._health.rows.values())

    def sts(self, domain: str) -> StsPolicy | None:
        """Return the MTA-STS policy of a domain, an expired one too."""
        found: StsPolicy | None = self._sts.rows.get(domain)
        return found

    def remember_sts(self, policy: StsPolicy) -> None:
        """Keep a policy."""
        if self._sts.rows.get(policy.domain) != policy:
            self._sts.put(policy.domain, policy)

    async def reload(self, domains: Iterable[str] | None = None) -> None:
        """Take over what others have stored or forgotten; None: whatever is stored.

        Raises:  TransientFailure.
        """
        await self._writer.do(_Load(self, domains))

    def adopt(
        self, health: Mapping[str, PeerHealth | None], sts: Mapping[str, StsPolicy | None]
    ) -> None:
        """Have these from now on, unless what is here is newer and not stored yet. Sync."""
        for domain, found in health.items():
            own: PeerHealth | None = self._health.rows.get(domain)
            is_news = domain in self._health.changed and own is not None
            if is_news and found is not None and own is not None:
                is_news = own.updated_s > found.updated_s
            if found is None or not is_news:
                self._health.adopt(domain, found)
        for domain, policy in sts.items():
            if domain not in self._sts.changed:
                self._sts.adopt(domain, policy)

    async def save(self, now_s: float) -> None:
        """Write what changed since the last call, drop what was not used for 30 days.

        Raises:  TransientFailure: it is tried again with the next call.
        """
        self._drop_unused(now_s - UNUSED_S)
        unused_before_s, self._unused_before_s = self._unused_before_s, 0
        health, gone_health, health_taken = self._health.take_changes()
        sts, gone_sts, sts_taken = self._sts.take_changes()
        if not (health_taken or sts_taken or unused_before_s):
            return
        is_saved = False
        try:
            await self._writer.do(_Save(health, gone_health, sts, gone_sts, unused_before_s))
            is_saved = True
        finally:
            if not is_saved:
                self._health.changed |= health_taken
                self._sts.changed |= sts_taken
                self._unused_before_s = unused_before_s

    def _drop_unused(self, before_s: float) -> None:
        if before_s - self._dropped_before_s < DROP_EVERY_S:  # it looks at everything
            return
        self._dropped_before_s = before_s
        unused = [key for key, one in self._health.rows.items() if one.updated_s < before_s]
        # A policy binds until it expires, however seldom it is asked for (RFC 8461 §3.2).
        over = [
            key
            for key, one in self._sts.rows.items()
            if one.expires_s < before_s and one.fetched_s < before_s
        ]
        if unused or over:
            # By their age, not by name: another process may have used them since.
            self._unused_before_s = int(before_s)
        for table, domains in ((self._health, unused), (self._sts, over)):
            for domain in domains:
                del table.rows[domain]
                table.changed.discard(domain)


def _health(row: Sequence[Any]) -> PeerHealth:
    return PeerHealth(**dict(zip(_HEALTH_FIELDS, row, strict=True)))


def _sts(row: Sequence[Any]) -> StsPolicy:
    domain, id, mode, mx, expires_s, fetched_s = row
    return StsPolicy(
        domain=domain,
        id=id,
        mode=mode,
        mx=tuple(mx.split()),
        expires_s=expires_s,
        fetched_s=fetched_s,
    )
