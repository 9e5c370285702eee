"""What the control face calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import attrs

from chatmail.domain.usecases.change_settings import ChangeSettings


class Tasks(Protocol):
    """The maintenance tasks, by the names operators use."""

    def names(self) -> Sequence[str]:
        """Return the names of all tasks."""

    def expiring(self) -> Sequence[str]:
        """Return the names of those that remove what is too old."""

    async def run(
        self, name: str, *, is_dry_run: bool, retention_s: int | None
    ) -> Mapping[str, object] | None:
        """Run one task and return its report as JSON; None: there is no such task.

        Raises:  TransientFailure: the store could not serve it.
        """


class Operation(Protocol):
    """What only a running relay can do."""

    def status(self) -> Mapping[str, object]:
        """Return how the relay is, as JSON. Sync."""

    async def reload(self) -> Sequence[str]:
        """Follow the changed file; returns its problems, one line each. Empty: all was done."""


@attrs.frozen(kw_only=True)
class ControlServices:
    """Use cases behind the control socket. `operation` is None in a program that serves nobody."""

    settings: ChangeSettings
    tasks: Tasks | None = None
    operation: Operation | None = None
