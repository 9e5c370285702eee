"""What the health checks say of the running relay."""

from __future__ import annotations

from types import SimpleNamespace

from chatmail.app.config_identity import to_settings
from chatmail.app.config_keys import BootConfig
from chatmail.app.config_sections import ServerSection
from chatmail.app.site import Site
from tests.unit.fakes.system import FakeClock


def checks(*, failed: bool, free: int, expires_in_s: float) -> dict[str, tuple[bool, str]]:
    boot, clock = BootConfig(server=ServerSection(domain="_relay.test")), FakeClock()
    settings = to_settings(boot)
    keeper = SimpleNamespace(facts=SimpleNamespace(not_after_s=clock.now_s() + expires_in_s))
    site = Site(boot, lambda: settings, keeper, clock)  # type: ignore[arg-type]
    site.bound({"imaps": 993})
    store, host = SimpleNamespace(failed=failed), SimpleNamespace(free_disk_bytes=lambda: free)
    found = site.checks(store, host)  # type: ignore[arg-type]
    return {check.name: (check.ok, check.remedy) for check in found}


def test_what_is_well_needs_no_remedy() -> None:
    found = checks(failed=False, free=1 << 40, expires_in_s=1000)
    assert set(found) == {"database", "listeners", "certificate", "disk"}
    assert set(found.values()) == {(True, "")}


def test_what_is_not_says_what_to_do() -> None:
    found = checks(failed=True, free=0, expires_in_s=-1)
    for name in ("database", "certificate", "disk"):
        ok, remedy = found[name]
        assert not ok
        assert remedy
