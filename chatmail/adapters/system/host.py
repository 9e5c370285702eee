"""The state of the machine, as far as it decides about new accounts.

A probe that cannot be read never refuses anything (spec policy 2.4).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import attrs

from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.ports.system import Clock

CACHE_S: Final = 1.0

_AVAILABLE: Final = re.compile(rb"^MemAvailable:\s+(\d+) kB$", re.MULTILINE)


@attrs.frozen
class Probes:
    """One look at the machine; None: that probe could not be read."""

    load1: float | None
    available_memory_bytes: int | None
    free_disk_bytes: int | None


def probe(state_dir: Path, meminfo: Path = Path("/proc/meminfo")) -> Probes:
    """Look at load, memory and disk. Cost:  three reads of kernel tables, no disk."""
    return Probes(_load1(), _available_memory(meminfo), _free_disk(state_dir))


def _load1() -> float | None:
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def _available_memory(meminfo: Path) -> int | None:
    try:
        match = _AVAILABLE.search(meminfo.read_bytes())
    except OSError:
        return None
    return int(match[1]) * 1024 if match else None


def _free_disk(state_dir: Path) -> int | None:
    try:
        figures = os.statvfs(state_dir)
    except OSError:
        return None
    return figures.f_bavail * figures.f_frsize


class SystemHost:
    """The resource guard of account creation."""

    def __init__(
        self,
        state_dir: Path,
        nocreate_file: Path,
        settings: Callable[[], SettingsSnapshot],
        clock: Clock,
        look: Callable[[Path], Probes] = probe,
    ) -> None:
        self._state_dir = state_dir
        self._nocreate_file = nocreate_file
        self._settings = settings
        self._clock = clock
        self._look = look
        self._probes = Probes(None, None, None)
        self._fresh_until_s = float("-inf")

    def creation_refusal(self) -> str | None:
        """Return "nocreate", "load", "memory", "disk" or None. A limit of 0 is none."""
        # The operator's switch works at once; only the probes are cached.
        if os.path.lexists(self._nocreate_file):
            return "nocreate"
        limits = self._settings().registration
        probes = self._current()
        if probes.load1 is not None and 0 < limits.max_load_1m < probes.load1:
            return "load"
        memory, disk = probes.available_memory_bytes, probes.free_disk_bytes
        if memory is not None and memory < limits.min_available_memory_bytes:
            return "memory"
        if disk is not None and disk < limits.min_free_disk_bytes:
            return "disk"
        return None

    def free_disk_bytes(self) -> int:
        """Return the free octets where the state directory lives; huge when unreadable."""
        free = self._current().free_disk_bytes
        return sys.maxsize if free is None else free

    def _current(self) -> Probes:
        now_s = self._clock.monotonic_s()
        if now_s >= self._fresh_until_s:
            self._probes = self._look(self._state_dir)
            self._fresh_until_s = now_s + CACHE_S
        return self._probes
