"""The memory of a relay, and how another session fares while somebody misbehaves."""

from __future__ import annotations

import re
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tests.e2e.raw import TIMEOUT_S, client, newcomer
from tests.e2e.relay import Relay
from tests.e2e.stopwatch import Stopwatch


def resident_kib(relay: Relay) -> int:
    """Resident memory of the relay, KiB."""
    return _memory_kib(relay, "VmRSS")


def peak_kib(relay: Relay) -> int:
    """The peak of resident memory since `forget_peak`, KiB."""
    return _memory_kib(relay, "VmHWM")


def forget_peak(relay: Relay) -> None:
    """Have the kernel measure the peak from now on (proc(5), clear_refs)."""
    assert relay.process is not None
    Path(f"/proc/{relay.process.pid}/clear_refs").write_text("5")


def _memory_kib(relay: Relay, name: str) -> int:
    assert relay.process is not None
    status = Path(f"/proc/{relay.process.pid}/status").read_text()
    found = re.search(rf"{name}:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1])


class Watch:
    """Another session, and the relay's memory, while somebody misbehaves.

    `slowest_s`: the longest answer to NOOP, as a `Stopwatch` has it. `peak_kib`, `grown_kib`: the
    peak of resident memory, and that above what it was at the start, as the kernel keeps it
    (proc(5), clear_refs).
    Accounts are to be made before, because hashing a password takes 19 MiB for a moment.
    """

    def __init__(self, relay: Relay) -> None:
        self.slowest_s = 0.0
        self.rounds = 0
        self.grown_kib = 0
        self.peak_kib = 0
        self._relay = relay
        self._client = client(relay, newcomer(relay), "INBOX")
        self._client.ok("NOOP")
        self._before = 0
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._run: Future[None] | None = None

    def _watch(self) -> None:
        stopwatch = Stopwatch(self._relay)
        while not self.rounds or not self._over.wait(0.01):
            stopwatch.start()
            self._client.ok("NOOP")
            self.slowest_s = max(self.slowest_s, stopwatch.elapsed_s())
            self.rounds += 1

    def __enter__(self) -> Watch:
        self._before = resident_kib(self._relay)
        forget_peak(self._relay)
        self._run = self._pool.submit(self._watch)
        return self

    def __exit__(self, *_: object) -> None:
        self.peak_kib = peak_kib(self._relay)
        self.grown_kib = self.peak_kib - self._before
        self._over.set()
        assert self._run is not None
        try:
            self._run.result(TIMEOUT_S)
        finally:
            self._pool.shutdown()
            self._client.close()
