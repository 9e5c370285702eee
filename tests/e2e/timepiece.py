"""Relays that go by another clock: libfaketime answers their questions for the time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.federation import Network
from tests.e2e.users import User


class Timepiece:
    """The relay's idea of the time of day."""

    def __init__(self, folder: Path) -> None:
        libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        if not libraries:
            pytest.skip("libfaketime is not installed")
        self._file = folder / "time"
        self.jump(timedelta())
        self.env = {
            "LD_PRELOAD": str(libraries[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def jump(self, distance: timedelta) -> None:
        """Set the clock to so far from the true time."""
        draft = self._file.with_suffix(".new")
        draft.write_text(f"{distance.total_seconds():+.0f}\n")
        draft.rename(self._file)
        self.distance = distance

    def now(self) -> datetime:
        """What the relay takes for now."""
        return datetime.now(UTC) + self.distance


def user_by_clock(net: Network, name: str, env: dict[str, str], **queue: str) -> User:
    """A user of a relay that goes by another clock."""
    relay = net.relay(name, starts=False, queue=queue)
    relay.env = env
    relay.start()
    net.publish_key(relay)
    return User.of(relay)


def later(clock: Timepiece, **distance: float) -> None:
    """Have time pass."""
    clock.jump(clock.distance + timedelta(**distance))
