"""The maintenance tasks as the control socket and the command line name them."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from chatmail.domain.usecases.tasks import EXPIRY_TASKS, RunTask, TaskName


class Report(Protocol):
    """What one run did, or would do."""

    @property
    def deleted_messages(self) -> int: ...

    @property
    def deleted_accounts(self) -> int: ...

    @property
    def duration_s(self) -> float: ...

    @property
    def is_dry_run(self) -> bool: ...

    @property
    def skipped(self) -> str | None: ...


Name = TypeVar("Name", bound=enum.Enum)


def named(run: RunTask) -> NamedTasks[TaskName]:
    """Return the tasks that this program has, under the names operators use."""
    present = [task for task in TaskName if task not in _FOREIGN or task in run.others]
    return NamedTasks(present, TaskName.parse, run, EXPIRY_TASKS)


_FOREIGN: Final = (TaskName.PRUNE_QUEUE, TaskName.RENEW_CERTIFICATE, TaskName.BACKUP)
"""Those that other parts of the program bring along."""


class NamedTasks(Generic[Name]):
    """Tasks by the names of an enumeration, whose values are what operators write."""

    def __init__(
        self,
        tasks: Iterable[Name],
        parse: Callable[[str], Name | None],
        run: Callable[..., Awaitable[Report]],
        expiring: Sequence[Name] = (),
    ) -> None:
        """Args:  parse: name or alias → task. run: takes the task, `is_dry_run`, `retention_s`.

        expiring: those that remove what is too old.
        """
        self._tasks = tuple(tasks)
        self._parse = parse
        self._run = run
        self._expiring = tuple(expiring)

    def names(self) -> Sequence[str]:
        """Return the names of all tasks."""
        return [str(task.value) for task in self._tasks]

    def expiring(self) -> Sequence[str]:
        """Return the names of those that remove what is too old."""
        return [str(task.value) for task in self._expiring]

    async def run(
        self, name: str, *, is_dry_run: bool, retention_s: int | None
    ) -> Mapping[str, Any] | None:
        """Run one task and return its report as JSON; None: there is no such task."""
        task = self._parse(name)
        if task is None:
            return None
        report = await self._run(task, is_dry_run=is_dry_run, retention_s=retention_s)
        return {
            "task": task.value,
            "deleted_messages": report.deleted_messages,
            "deleted_accounts": report.deleted_accounts,
            "duration_s": round(report.duration_s, 3),
            "dry_run": report.is_dry_run,
            "skipped": report.skipped,
        }
