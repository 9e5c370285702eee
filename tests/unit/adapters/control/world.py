"""Services for the control face: real use cases on memory ports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chatmail.adapters.control.services import ControlServices
from chatmail.domain.model.errors import Overloaded, TransientFailure
from chatmail.domain.usecases.change_settings import ChangeSettings
from tests.unit.fakes.settings import FixedConfiguration, MemorySettingsStore


class StillTasks:
    """Two tasks that remember how they were run."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, bool, int | None]] = []
        self.report: dict[str, object] = {}

    def names(self) -> Sequence[str]:
        return ["prune-old-messages", "vacuum"]

    def expiring(self) -> Sequence[str]:
        return ["prune-old-messages"]

    async def run(
        self, name: str, *, is_dry_run: bool, retention_s: int | None
    ) -> Mapping[str, object] | None:
        if name not in self.names():
            return None
        self.ran.append((name, is_dry_run, retention_s))
        return {"task": name, "deleted_messages": 3, "dry_run": is_dry_run, **self.report}


class StillRelay:
    """A relay that can be asked and reloaded."""

    def __init__(self) -> None:
        self.problems: tuple[str, ...] = ()

    def status(self) -> Mapping[str, object]:
        return {"name": "chatmail"}

    async def reload(self) -> Sequence[str]:
        return self.problems


class BrokenStore(MemorySettingsStore):
    """A store in trouble."""

    is_full = False

    async def all(self) -> object:  # type: ignore[override]
        raise Overloaded("full") if self.is_full else TransientFailure("the secret of the disk")


def make_services(*, store: MemorySettingsStore | None = None) -> ControlServices:
    in_force = FixedConfiguration({"limits.max_recipients": 1000, "web.language": "en"})
    return ControlServices(
        settings=ChangeSettings(store=store or MemorySettingsStore(), in_force=in_force),
        tasks=StillTasks(),
        operation=StillRelay(),
    )
