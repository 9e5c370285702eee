"""Time less that in which others had the processor: for limits that are about the relay."""

from __future__ import annotations

import functools
import threading
import time
from pathlib import Path

from tests.e2e.relay import Relay

BEAT_S = 0.01
STOP_S = 0.1
"""A shorter pause of the machine is not told from the time that a thread takes to wake up."""


class Stopwatch:
    """Measures in one thread how long the relay keeps it waiting.

    Time in which the relay's threads or this one were ready to run but had no processor (proc(5),
    schedstat) is not counted: a busy machine is no failure. Nor is time in which the machine or
    this process stood still.
    """

    def __init__(self, relay: Relay) -> None:
        assert relay.process is not None
        self._tasks = Path(f"/proc/{relay.process.pid}/task")
        self._waited: dict[Path, int] = {}
        self._stopped_s = 0.0
        self._began = 0.0
        self._pulse = _pulse()

    def start(self) -> None:
        """Begin."""
        paths = [*self._tasks.glob("*/schedstat"), Path("/proc/thread-self/schedstat")]
        self._waited = {path: _waited_ns(path) for path in paths}
        self._stopped_s = self._pulse.stopped_s()
        self._began = time.monotonic()

    def elapsed_s(self) -> float:
        """Seconds since `start`."""
        elapsed_s = time.monotonic() - self._began
        stopped_s = max(0.0, self._pulse.stopped_s() - self._stopped_s)
        waited_ns = sum(max(0, _waited_ns(path) - was) for path, was in self._waited.items())
        return max(0.0, elapsed_s - stopped_s - waited_ns / 1e9)


class _Pulse:
    """A thread that does nothing but sleep, and sees when it sleeps for too long."""

    def __init__(self) -> None:
        self._stopped_s = 0.0
        self._asleep_since = time.monotonic()
        threading.Thread(target=self._beat, daemon=True).start()

    def stopped_s(self) -> float:
        """Return for how long the thread could not run, and did not wait for a processor."""
        # After a stop others may run before it does.
        return self._stopped_s + _too_long(time.monotonic() - self._asleep_since)

    def _beat(self) -> None:
        schedule = Path("/proc/thread-self/schedstat")
        while True:
            waited_ns = _waited_ns(schedule)
            self._asleep_since = time.monotonic()
            time.sleep(BEAT_S)
            now = time.monotonic()
            asleep_s, self._asleep_since = now - self._asleep_since, now
            self._stopped_s += _too_long(asleep_s - (_waited_ns(schedule) - waited_ns) / 1e9)


def _too_long(asleep_s: float) -> float:
    return asleep_s - BEAT_S if asleep_s > BEAT_S + STOP_S else 0.0


@functools.cache
def _pulse() -> _Pulse:
    return _Pulse()


def _waited_ns(path: Path) -> int:
    """How long a thread has waited for a processor so far; 0 for one that has ended."""
    try:
        return int(path.read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
