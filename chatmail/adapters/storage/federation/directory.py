"""The operator's word on other relays: small tables that are in memory, too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

import attrs

from chatmail.adapters.storage.federation.peer_sql import PeerStatements
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.notices import PEERS
from chatmail.adapters.storage.transaction import Transaction
from chatmail.adapters.storage.writer import Job, Writer
from chatmail.domain.model.federation import Dismissal, PeerAction, PeerOverride, PeerRule

_ACTIONS: Final = {action.value: action for action in PeerAction}

T = TypeVar("T")


class Listing(Generic[T]):
    """Items by key, and all of them in order; that is one object until something changes."""

    def __init__(self, items: Iterable[T], key: str, order: Callable[[T], Any]) -> None:
        """Args:  key: the attribute that names an item."""
        self._key = key
        self._order = order
        self._items: dict[str, T] = {}
        self._sorted: Sequence[T] | None = None
        self.replace(items)

    @property
    def items(self) -> Mapping[str, T]:
        """Return the items by key."""
        return self._items

    def all(self) -> Sequence[T]:
        """Return all items in order."""
        if self._sorted is None:  # not with each change: a list may be long, and come in one by one
            self._sorted = tuple(sorted(self._items.values(), key=self._order))
        return self._sorted

    def put(self, item: T) -> None:
        """Add an item, or replace the one of its key."""
        key = getattr(item, self._key)
        if self._items.get(key) != item:
            self._items[key] = item
            self._sorted = None

    def drop(self, key: str) -> None:
        """Remove the item of a key, if there is one."""
        if self._items.pop(key, None) is not None:
            self._sorted = None

    def replace(self, items: Iterable[T]) -> None:
        """Have these from now on."""
        found = {getattr(item, self._key): item for item in items}
        if found != self._items:
            self._items = found
            self._sorted = None


class Directory:
    """All tables, as of the last commit."""

    def __init__(self, rows: DirectoryRows) -> None:
        def by_age(one: PeerRule | Dismissal) -> tuple[int, str]:
            return one.created_s, one.pattern

        self.rules = Listing(rows.rules, "pattern", by_age)
        self.dismissals = Listing(rows.dismissals, "pattern", by_age)
        self.overrides = Listing(rows.overrides, "domain", lambda one: one.domain)

    def replace(self, rows: DirectoryRows) -> None:
        """Put what is stored in place."""
        self.rules.replace(rows.rules)
        self.dismissals.replace(rows.dismissals)
        self.overrides.replace(rows.overrides)


@attrs.frozen(kw_only=True)
class DirectoryRows:
    """All tables as read."""

    rules: Sequence[PeerRule] = ()
    dismissals: Sequence[Dismissal] = ()
    overrides: Sequence[PeerOverride] = ()


def read_directory(sql: PeerStatements) -> DirectoryRows:
    """Read all tables; an action that a newer version wrote is left out."""
    return DirectoryRows(
        rules=[
            PeerRule(pattern, _ACTIONS[action], created_s)
            for pattern, action, created_s in sql.rules.all()
            if action in _ACTIONS
        ],
        dismissals=[Dismissal(*row) for row in sql.dismissals.all()],
        overrides=[
            PeerOverride(
                domain=domain,
                target=target,
                comment=comment,
                smtp_fallback=bool(smtp_fallback),
                created_s=created_s,
            )
            for domain, target, comment, smtp_fallback, created_s in sql.overrides.all()
        ],
    )


class _Load(Job):
    """Read everything again, in the writer's order: it is never older than an own change."""

    __slots__ = ("_directory", "_found")

    is_read = True

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._found = DirectoryRows()

    def plan(self, tx: Transaction) -> None:
        self._found = read_directory(tx.sql.peers)

    def publish(self, index: StoreIndex) -> None:
        self._directory.replace(self._found)


class _Change(Job):
    """One statement, and the same in memory once it is durable."""

    __slots__ = ("_execute", "_show", "changed")

    def __init__(self, execute: Callable[[PeerStatements], int], show: Callable[[], None]) -> None:
        self._execute = execute
        self._show = show
        self.changed = 0

    def plan(self, tx: Transaction) -> None:
        self.changed = self._execute(tx.sql.peers)
        if self.changed:
            tx.tell(PEERS)

    def publish(self, index: StoreIndex) -> None:
        if self.changed:
            self._show()


class SqlPeerDirectory:
    """`PeerDirectory` in three tables."""

    def __init__(self, writer: Writer, rows: DirectoryRows) -> None:
        """Args:  rows: what `read_directory` found at the start."""
        self._writer = writer
        self._directory = Directory(rows)

    def rules(self) -> Sequence[PeerRule]:
        """Return all rules, oldest first; the same object until something changes."""
        return self._directory.rules.all()

    def dismissals(self) -> Sequence[Dismissal]:
        """Return all dismissed patterns, oldest first; the same object until a change."""
        return self._directory.dismissals.all()

    def overrides(self) -> Sequence[PeerOverride]:
        """Return all overrides, by domain."""
        return self._directory.overrides.all()

    def override(self, domain: str) -> PeerOverride | None:
        """Return the override of a normalised domain."""
        return self._directory.overrides.items.get(domain)

    async def put_rule(self, rule: PeerRule) -> None:
        """Add a rule, or change its action; an old rule keeps its place."""
        rules = self._directory.rules
        row = (rule.pattern, rule.action.value, rule.created_s)

        def show() -> None:
            old = rules.items.get(rule.pattern, rule)
            rules.put(attrs.evolve(old, action=rule.action))

        await self._change(lambda sql: sql.put_rule.run(*row).rowcount, show)

    async def remove_rule(self, pattern: str) -> bool:
        """Remove a rule; False: there was none."""
        rules = self._directory.rules
        return bool(
            await self._change(
                lambda sql: sql.remove_rule.run(pattern).rowcount, lambda: rules.drop(pattern)
            )
        )

    async def flush_rules(self) -> int:
        """Remove all rules; returns how many."""
        rules = self._directory.rules
        return await self._change(
            lambda sql: sql.flush_rules.run().rowcount, lambda: rules.replace(())
        )

    async def put_dismissal(self, dismissal: Dismissal) -> None:
        """Add a pattern to dismiss."""
        dismissals = self._directory.dismissals
        row = (dismissal.pattern, dismissal.created_s)
        await self._change(
            lambda sql: sql.put_dismissal.run(*row).rowcount, lambda: dismissals.put(dismissal)
        )

    async def remove_dismissal(self, pattern: str) -> bool:
        """Remove a pattern; False: there was none."""
        dismissals = self._directory.dismissals
        return bool(
            await self._change(
                lambda sql: sql.remove_dismissal.run(pattern).rowcount,
                lambda: dismissals.drop(pattern),
            )
        )

    async def flush_dismissals(self) -> int:
        """Remove all of them; returns how many."""
        dismissals = self._directory.dismissals
        return await self._change(
            lambda sql: sql.flush_dismissals.run().rowcount, lambda: dismissals.replace(())
        )

    async def put_override(self, override: PeerOverride) -> None:
        """Add or replace the override of a domain."""
        overrides = self._directory.overrides
        row = (
            override.domain,
            override.target,
            override.comment,
            int(override.smtp_fallback),
            override.created_s,
        )
        await self._change(
            lambda sql: sql.put_override.run(*row).rowcount, lambda: overrides.put(override)
        )

    async def remove_override(self, domain: str) -> bool:
        """Remove an override; False: there was none."""
        overrides = self._directory.overrides
        return bool(
            await self._change(
                lambda sql: sql.remove_override.run(domain).rowcount,
                lambda: overrides.drop(domain),
            )
        )

    async def reload(self) -> None:
        """Read what others have changed. Raises:  TransientFailure."""
        await self._writer.do(_Load(self._directory))

    async def _change(
        self, execute: Callable[[PeerStatements], int], show: Callable[[], None]
    ) -> int:
        return (await self._writer.do(_Change(execute, show))).changed
