"""Tasks by name."""

from __future__ import annotations

import enum
from typing import Any

import attrs

from chatmail.app.tasks import NamedTasks


class Name(enum.Enum):
    OLD = "prune-old"
    VACUUM = "vacuum"


@attrs.frozen
class Report:
    deleted_messages: int = 3
    deleted_accounts: int = 1
    duration_s: float = 0.12345
    is_dry_run: bool = False
    skipped: str | None = None


async def test_tasks_are_found_run_and_reported() -> None:
    ran: list[Any] = []

    async def run(name: Name, *, is_dry_run: bool, retention_s: int | None) -> Report:
        ran.append((name, is_dry_run, retention_s))
        return Report(is_dry_run=is_dry_run)

    known = {"prune-old": Name.OLD, "old": Name.OLD, "vacuum": Name.VACUUM}
    tasks = NamedTasks(Name, known.get, run, (Name.OLD,))
    assert tasks.names() == ["prune-old", "vacuum"]
    assert tasks.expiring() == ["prune-old"]
    assert await tasks.run("old", is_dry_run=True, retention_s=60) == {
        "task": "prune-old",
        "deleted_messages": 3,
        "deleted_accounts": 1,
        "duration_s": 0.123,
        "dry_run": True,
        "skipped": None,
    }
    assert ran == [(Name.OLD, True, 60)]
    assert await tasks.run("nonsense", is_dry_run=True, retention_s=None) is None
