"""Fixtures of the end-to-end tests: a relay process, core processes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import databases
from tests.e2e.cores import Cores
from tests.e2e.pair import Pair, running_pair
from tests.e2e.relay import Relay

HANGS_S = 300
"""What takes longer hangs: generous, as a slow machine is no failure."""
DISK_BYTES = 160 * 1024 * 1024  # above the 64 MiB below which MAIL is refused


LONG = (
    "test_two_processes_end",
    "test_two_processes",
    "test_two_processes_accounts",
    "test_imap_idle",
    "test_cores",
    "test_backlog",
    "test_retention",
    "test_federation_shared",
    "test_operator",
    "test_federation_cores",
    "test_federation_faults",
    "test_settings",
    "test_lifecycle",
    "test_durability",
    "test_imap_append",
)
"""Files that take longest, the longest first: one that begins late would be waited for alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: at for at, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.stem, len(LONG)))
    for item in items:
        item.add_marker(pytest.mark.e2e)
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(HANGS_S))


@pytest.fixture(scope="module", autouse=True)
def no_database_stays() -> Iterator[None]:
    """Remove the databases of a module's relays when they are gone."""
    yield
    databases.drop_all()


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    """A fresh relay without a send limit."""
    relay = Relay(tmp_path / "relay")
    relay.start()
    yield relay
    assert relay.stop() == 0, "\n".join(relay.errors[-20:])


@pytest.fixture
def cores(tmp_path: Path) -> Iterator[Cores]:
    """One core process; profiles come by `cores.online(relay)`."""
    cores = Cores(tmp_path / "cores")
    yield cores
    cores.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own; needs the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)],
        capture_output=True,
    )
    if mounted.returncode != 0:
        pytest.skip("may not mount a file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with running_pair(tmp_path_factory.mktemp("pair")) as pair:
        yield pair


@pytest.fixture
def mortal_pair(tmp_path: Path) -> Iterator[Pair]:
    """A pair of which a test may kill either."""
    with running_pair(tmp_path) as pair:
        yield pair
