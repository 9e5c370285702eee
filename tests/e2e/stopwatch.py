"""Time less that in which others had the processor: for limits that are about the relay."""

from __future__ import annotations

import time
from pathlib import Path

from tests.e2e.relay import Relay


class Stopwatch:
    """Measures in one thread how long the relay keeps it waiting.

    Time in which the relay's threads or this one were ready to run but had no processor (proc(5),
    schedstat) is not counted: a busy machine is no failure.
    """

    def __init__(self, relay: Relay) -> None:
        assert relay.process is not None
        self._tasks = Path(f"/proc/{relay.process.pid}/task")
        self._waited: dict[Path, int] = {}
        self._began = 0.0

    def start(self) -> None:
        """Begin."""
        paths = [*self._tasks.glob("*/schedstat"), Path("/proc/thread-self/schedstat")]
        self._waited = {path: _waited_ns(path) for path in paths}
        self._began = time.monotonic()

    def elapsed_s(self) -> float:
        """Seconds since `start`."""
        elapsed_s = time.monotonic() - self._began
        waited_ns = sum(max(0, _waited_ns(path) - was) for path, was in self._waited.items())
        return max(0.0, elapsed_s - waited_ns / 1e9)


def _waited_ns(path: Path) -> int:
    """How long a thread has waited for a processor so far; 0 for one that has ended."""
    try:
        return int(path.read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
