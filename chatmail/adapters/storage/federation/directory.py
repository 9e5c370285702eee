"""The operator's word on other relays: tables that are in memory, too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Final

import attrs

from chatmail.adapters.storage.federation.peer_sql import PeerStatements
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.notices import PEERS
from chatmail.adapters.storage.transaction import Transaction
from chatmail.adapters.storage.writer import Job, Writer
from chatmail.domain.model.federation import Dismissal, PeerAction, PeerOverride, PeerRule

_ACTIONS: Final = {action.value: action for action in PeerAction}


@attrs.frozen
class _Contents:
    """All tables, as of one commit."""

    rules: tuple[PeerRule, ...] = ()
    dismissals: tuple[Dismissal, ...] = ()
    overrides: tuple[PeerOverride, ...] = ()
    by_domain: MappingProxyType[str, PeerOverride] = MappingProxyType({})


def read_directory(sql: PeerStatements) -> _Contents:
    """Read all tables; an action that a newer version wrote is left out."""
    rules = [
        PeerRule(pattern, _ACTIONS[action], created_s)
        for pattern, action, created_s in sql.rules.all()
        if action in _ACTIONS
    ]
    dismissals = [Dismissal(*row) for row in sql.dismissals.all()]
    overrides = [
        PeerOverride(
            domain=domain,
            target=target,
            comment=comment,
            smtp_fallback=bool(smtp_fallback),
            created_s=created_s,
        )
        for domain, target, comment, smtp_fallback, created_s in sql.overrides.all()
    ]
    return _Contents(
        tuple(sorted(rules, key=lambda one: (one.created_s, one.pattern))),
        tuple(sorted(dismissals, key=lambda one: (one.created_s, one.pattern))),
        tuple(sorted(overrides, key=lambda one: one.domain)),
        MappingProxyType({one.domain: one for one in overrides}),
    )


class _Load(Job):
    """Read everything again, in the writer's order: it is never older than an own change."""

    __slots__ = ("_directory", "_found")

    is_read = True

    def __init__(self, directory: SqlPeerDirectory) -> None:
        self._directory = directory
        self._found = _Contents()

    def plan(self, tx: Transaction) -> None:
        self._found = read_directory(tx.sql.peers)

    def publish(self, index: StoreIndex) -> None:
        self._directory.show(self._found)


class _Change(Job):
    """One statement, and what the tables are after it."""

    __slots__ = ("_change", "_directory", "_found", "changed")

    def __init__(
        self, directory: SqlPeerDirectory, change: Callable[[PeerStatements], int]
    ) -> None:
        self._directory = directory
        self._change = change
        self._found = _Contents()
        self.changed = 0

    def plan(self, tx: Transaction) -> None:
        self.changed = self._change(tx.sql.peers)
        self._found = read_directory(tx.sql.peers)
        if self.changed:
            tx.tell(PEERS)

    def publish(self, index: StoreIndex) -> None:
        if self.changed:
            self._directory.show(self._found)


class SqlPeerDirectory:
    """`PeerDirectory` in three small tables; each change reads them again."""

    def __init__(self, writer: Writer, contents: _Contents) -> None:
        """Args:  contents: what `read_directory` found at the start."""
        self._writer = writer
        self._contents = contents

    def rules(self) -> Sequence[PeerRule]:
        """Return all rules, oldest first; the same object until something changes."""
        return self._contents.rules

    def dismissals(self) -> Sequence[Dismissal]:
        """Return all dismissed patterns, oldest first; the same object until a change."""
        return self._contents.dismissals

    def overrides(self) -> Sequence[PeerOverride]:
        """Return all overrides, by domain."""
        return self._contents.overrides

    def override(self, domain: str) -> PeerOverride | None:
        """Return the override of a normalised domain."""
        return self._contents.by_domain.get(domain)

    async def put_rule(self, rule: PeerRule) -> None:
        """Add a rule, or change its action; an old rule keeps its place."""
        row = (rule.pattern, rule.action.value, rule.created_s)
        await self._change(lambda sql: sql.put_rule.run(*row).rowcount)

    async def remove_rule(self, pattern: str) -> bool:
        """Remove a rule; False: there was none."""
        return bool(await self._change(lambda sql: sql.remove_rule.run(pattern).rowcount))

    async def flush_rules(self) -> int:
        """Remove all rules; returns how many."""
        return await self._change(lambda sql: sql.flush_rules.run().rowcount)

    async def put_dismissal(self, dismissal: Dismissal) -> None:
        """Add a pattern to dismiss."""
        row = (dismissal.pattern, dismissal.created_s)
        await self._change(lambda sql: sql.put_dismissal.run(*row).rowcount)

    async def remove_dismissal(self, pattern: str) -> bool:
        """Remove a pattern; False: there was none."""
        return bool(await self._change(lambda sql: sql.remove_dismissal.run(pattern).rowcount))

    async def flush_dismissals(self) -> int:
        """Remove all of them; returns how many."""
        return await self._change(lambda sql: sql.flush_dismissals.run().rowcount)

    async def put_override(self, override: PeerOverride) -> None:
        """Add or replace the override of a domain."""
        row = (
            override.domain,
            override.target,
            override.comment,
            int(override.smtp_fallback),
            override.created_s,
        )
        await self._change(lambda sql: sql.put_override.run(*row).rowcount)

    async def remove_override(self, domain: str) -> bool:
        """Remove an override; False: there was none."""
        return bool(await self._change(lambda sql: sql.remove_override.run(domain).rowcount))

    async def reload(self) -> None:
        """Read what others have changed. Raises:  TransientFailure."""
        await self._writer.do(_Load(self))

    def show(self, contents: _Contents) -> None:
        """Put what is stored now in place; a part that is as it was stays the same object."""
        old = self._contents
        self._contents = _Contents(
            old.rules if contents.rules == old.rules else contents.rules,
            old.dismissals if contents.dismissals == old.dismissals else contents.dismissals,
            contents.overrides,
            contents.by_domain,
        )

    async def _change(self, change: Callable[[PeerStatements], int]) -> int:
        return (await self._writer.do(_Change(self, change))).changed
