from __future__ import annotations

import sys
from pathlib import Path

import pytest

from chatmail.adapters.system.host import Probes, SystemHost, probe
from chatmail.domain.model.settings import (
    MIB,
    IdentitySettings,
    RegistrationSettings,
    SettingsSnapshot,
)
from tests.unit.fakes.system import FakeClock

GOOD = Probes(0.5, 1000 * MIB, 5000 * MIB)


class Machine:
    """Counts how often it is looked at."""

    def __init__(self, tmp_path: Path, probes: Probes, **limits: float) -> None:
        self.probes = probes
        self.looks = 0
        self.clock = FakeClock()
        self.nocreate = tmp_path / "nocreate"
        settings = SettingsSnapshot(
            identity=IdentitySettings(
                mail_domain="d.test", local_domains=frozenset(), hostname="d.test"
            ),
            registration=RegistrationSettings(**limits),  # type: ignore[arg-type]
        )
        self.host = SystemHost(tmp_path, self.nocreate, lambda: settings, self.clock, self.look)

    def look(self, state_dir: Path) -> Probes:
        self.looks += 1
        return self.probes


@pytest.mark.parametrize(
    ("probes", "expected"),
    [
        (GOOD, None),
        (Probes(5.0, 200 * MIB, 1024 * MIB), None),
        (Probes(5.1, 1000 * MIB, 5000 * MIB), "load"),
        (Probes(0.5, 200 * MIB - 1, 5000 * MIB), "memory"),
        (Probes(0.5, 1000 * MIB, 1024 * MIB - 1), "disk"),
        (Probes(None, None, None), None),
    ],
)
def test_guard_refuses_over_load_low_memory_and_low_disk(
    tmp_path: Path, probes: Probes, expected: str | None
) -> None:
    assert Machine(tmp_path, probes).host.creation_refusal() == expected


def test_limits_of_zero_are_off(tmp_path: Path) -> None:
    machine = Machine(
        tmp_path,
        Probes(99.0, 1, 1),
        max_load_1m=0,
        min_available_memory_bytes=0,
        min_free_disk_bytes=0,
    )
    assert machine.host.creation_refusal() is None


def test_nocreate_file_works_at_once_both_ways(tmp_path: Path) -> None:
    machine = Machine(tmp_path, GOOD)
    assert machine.host.creation_refusal() is None
    machine.nocreate.touch()
    assert machine.host.creation_refusal() == "nocreate"
    machine.nocreate.unlink()
    assert machine.host.creation_refusal() is None


def test_probes_are_cached_for_a_second(tmp_path: Path) -> None:
    machine = Machine(tmp_path, GOOD)
    machine.host.creation_refusal()
    machine.probes = Probes(9.0, 1000 * MIB, 7 * MIB)
    assert machine.host.creation_refusal() is None
    machine.clock.advance(1.1)
    assert machine.host.creation_refusal() == "load"
    assert machine.host.free_disk_bytes() == 7 * MIB
    assert machine.looks == 2


def test_unreadable_disk_counts_as_endless(tmp_path: Path) -> None:
    assert Machine(tmp_path, Probes(None, None, None)).host.free_disk_bytes() == sys.maxsize


def test_real_probes_read_this_machine(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  100 kB\nMemAvailable:    42 kB\n")
    found = probe(tmp_path, meminfo)
    assert found.available_memory_bytes == 42 * 1024
    assert found.free_disk_bytes is not None
    assert found.load1 is not None


def test_missing_probes_are_none(tmp_path: Path) -> None:
    found = probe(tmp_path / "absent", tmp_path / "absent")
    assert (found.available_memory_bytes, found.free_disk_bytes) == (None, None)
    (tmp_path / "meminfo").write_text("nonsense")
    assert probe(tmp_path, tmp_path / "meminfo").available_memory_bytes is None
