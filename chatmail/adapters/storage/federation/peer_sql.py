"""The SQL of what is known of other relays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, Table, select, text

from chatmail.adapters.storage.database import Prepared
from chatmail.adapters.storage.schema import (
    peer_counters,
    peer_dismissals,
    peer_health,
    peer_overrides,
    peer_rules,
    sts_policies,
)

_SUMS: Final = frozenset(column.name for column in peer_counters.c) - {
    "domain",
    "last_ok_s",
    "last_fail_s",
    "last_error",
    "active_s",
}

# A new rule keeps the time of the old one: its place in the list does not change.
_PUT_RULE: Final = """INSERT INTO peer_rules (pattern, action, created_s)
    VALUES (:pattern, :action, :created)
    ON CONFLICT (pattern) DO UPDATE SET action = excluded.action"""
_PUT_EXCHANGER: Final = """INSERT INTO exchangers (name, url, is_enabled, interval_s, last_poll_s)
    VALUES (:name, :url, :enabled, :interval, 0)
    ON CONFLICT (name) DO UPDATE SET url = excluded.url, is_enabled = excluded.is_enabled,
        interval_s = excluded.interval_s"""
# A time in the future is that of a clock that was set back since.
_CLAIM_EXCHANGER: Final = """UPDATE exchangers SET last_poll_s = :now
    WHERE name = :name AND is_enabled = 1
        AND (last_poll_s + interval_s <= :due OR last_poll_s > :present)"""
_PUT_DISMISSAL: Final = """INSERT INTO peer_dismissals (pattern, created_s)
    VALUES (:pattern, :created) ON CONFLICT (pattern) DO NOTHING"""


def _upsert(table: Table) -> str:
    """Return the statement that adds a row or replaces all of it but its first column."""
    names = [column.name for column in table.c]
    changes = ", ".join(f"{name} = excluded.{name}" for name in names[1:])
    return _insert(table) + f" DO UPDATE SET {changes}"


def _insert(table: Table) -> str:
    names = [column.name for column in table.c]
    columns, values = ", ".join(names), ", ".join(f":{name}" for name in names)
    return f"""INSERT INTO {table.name} ({columns}) VALUES ({values})
        ON CONFLICT ({names[0]})"""  # noqa: S608 - our own names


def _count() -> str:
    """Return the statement that adds to the counters of a peer; the later times win."""
    changes = [f"{name} = peer_counters.{name} + excluded.{name}" for name in sorted(_SUMS)]
    changes += [
        f"{name} = CASE WHEN excluded.{name} > peer_counters.{name} "
        f"THEN excluded.{name} ELSE peer_counters.{name} END"
        for name in ("last_ok_s", "last_fail_s", "active_s")
    ]
    changes.append(
        "last_error = CASE WHEN excluded.last_error = '' "
        "THEN peer_counters.last_error ELSE excluded.last_error END"
    )
    return _insert(peer_counters) + " DO UPDATE SET " + ", ".join(changes)


def _names(table: Table) -> list[str]:
    return [column.name for column in table.c]


class PeerStatements:
    """What the writer executes for peers."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

        def prepared(statement: str, *names: str) -> Prepared:
            return Prepared(connection, text(statement), names)

        self.put_rule = prepared(_PUT_RULE, "pattern", "action", "created")
        self.remove_rule = prepared("DELETE FROM peer_rules WHERE pattern = :pattern", "pattern")
        self.flush_rules = prepared("DELETE FROM peer_rules")
        self.put_dismissal = prepared(_PUT_DISMISSAL, "pattern", "created")
        self.remove_dismissal = prepared(
            "DELETE FROM peer_dismissals WHERE pattern = :pattern", "pattern"
        )
        self.flush_dismissals = prepared("DELETE FROM peer_dismissals")
        self.put_override = prepared(_upsert(peer_overrides), *_names(peer_overrides))
        self.remove_override = prepared(
            "DELETE FROM peer_overrides WHERE domain = :domain", "domain"
        )
        self.rules = Prepared(connection, select(peer_rules))
        self.dismissals = Prepared(connection, select(peer_dismissals))
        self.overrides = Prepared(connection, select(peer_overrides))

        self.save_health = prepared(_upsert(peer_health), *_names(peer_health))
        self.forget_health = prepared("DELETE FROM peer_health WHERE domain = :domain", "domain")
        self.forget_unused_health = prepared(
            "DELETE FROM peer_health WHERE updated_s < :before", "before"
        )
        self.health = Prepared(connection, select(peer_health))
        self.health_of = prepared("SELECT * FROM peer_health WHERE domain = :domain", "domain")
        self.save_sts = prepared(_upsert(sts_policies), *_names(sts_policies))
        self.forget_sts = prepared("DELETE FROM sts_policies WHERE domain = :domain", "domain")
        self.forget_unused_sts = prepared(
            "DELETE FROM sts_policies WHERE expires_s < :before AND fetched_s < :fetched",
            "before",
            "fetched",
        )
        self.sts = Prepared(connection, select(sts_policies))
        self.sts_of = prepared("SELECT * FROM sts_policies WHERE domain = :domain", "domain")

        self._prepare_exchangers(prepared)
        self.count = prepared(_count(), *_names(peer_counters))
        self.forget_counters = prepared(
            "DELETE FROM peer_counters WHERE domain = :domain", "domain"
        )
        self.forget_all_counters = prepared("DELETE FROM peer_counters")
        self.counters = Prepared(connection, select(peer_counters))

    def _prepare_exchangers(self, prepared: Callable[..., Prepared]) -> None:
        self.exchangers = prepared(
            "SELECT name, url, is_enabled, interval_s, last_poll_s FROM exchangers ORDER BY name"
        )
        self.put_exchanger = prepared(_PUT_EXCHANGER, "name", "url", "enabled", "interval")
        self.remove_exchanger = prepared("DELETE FROM exchangers WHERE name = :name", "name")
        self.enable_exchanger = prepared(
            "UPDATE exchangers SET is_enabled = :enabled WHERE name = :name", "enabled", "name"
        )
        self.claim_exchanger = prepared(_CLAIM_EXCHANGER, "now", "name", "due", "present")
        self.is_taken = prepared(
            "SELECT 1 FROM delivered_once WHERE key = :key AND expires_s > :now", "key", "now"
        )
