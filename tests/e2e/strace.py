"""Faults of the operating system, put into a running relay by strace: failing calls, death in one.

The faults come at calls of our choosing (`when`) on files of our choosing, and end with the block.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.relay import Relay, wait_until
from tests.patience import PATIENCE_S


@dataclass
class Fault:
    """What strace was told to do, and its record of what it did."""

    record: Path

    @property
    def happened(self) -> int:
        """How often the fault was put in."""
        lines = self.record.read_text().splitlines()
        return sum("(INJECTED)" in line or "+++ killed by SIGKILL" in line for line in lines)


@contextlib.contextmanager
def fault(
    relay: Relay, calls: str, effect: str, paths: Sequence[Path], *, when: str = "1"
) -> Iterator[Fault]:
    """Have system calls on some files fail.

    Args:  calls: names with commas between. effect: `error=EIO`, `signal=SIGKILL` (on entering the
        call). when: which of the calls, as strace counts them: `1`, `3+`.
    """
    assert relay.process is not None
    pid = relay.process.pid
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    folder = Path(tempfile.mkdtemp(prefix="strace"))
    record = folder / "record"
    command = [strace, "-f", "-qq", "-o", str(record), "-p", str(pid)]
    command += ["-e", f"trace={calls}", "-e", f"inject={calls}:{effect}:when={when}"]
    for path in paths:
        command += ["-P", str(path)]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_until("strace is attached", lambda: tracer.poll() is not None or _is_traced(pid))
        if tracer.poll() is not None:
            assert tracer.stderr is not None
            pytest.skip(f"may not trace processes here: {tracer.stderr.read().strip()}")
        yield Fault(record)
    finally:
        tracer.terminate()
        tracer.wait(PATIENCE_S)
        if tracer.stderr is not None:
            tracer.stderr.close()
        shutil.rmtree(folder)


def _is_traced(pid: int) -> bool:
    """Whether every thread is; one that is not would get away."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return all("TracerPid:\t0\n" not in (one / "status").read_text() for one in threads)
