"""Signing keys are renewed: made in time, published before use, known when they are old."""

from __future__ import annotations

import attrs
import pytest

from chatmail.domain.formats.zone import RecordType, Role, ZoneRecord
from chatmail.domain.formats.zone_compare import Standing
from chatmail.domain.usecases.check_dns import CheckedRecord, ZoneReport
from chatmail.domain.usecases.rotate_keys import RotateKeys
from tests.unit.fakes.operator import StillKeys
from tests.unit.fakes.system import FakeClock, FakeLog

DAY_S = 86400


@attrs.define
class Dns:
    """A check that finds what it is told; `asked` counts."""

    keys: StillKeys
    standing: Standing = Standing.MISSING
    asked: int = 0

    async def dkim(self) -> ZoneReport:
        self.asked += 1
        return ZoneReport(
            records=tuple(
                CheckedRecord(
                    record=ZoneRecord(
                        name=one.name, type=RecordType.TXT, data=one.text, role=Role.DKIM
                    ),
                    standing=self.standing,
                )
                for one in self.keys.records()
            )
        )


class World:
    def __init__(self, every_s: float = 30 * DAY_S) -> None:
        self.clock, self.log, self.keys = FakeClock(), FakeLog(), StillKeys("relay.test")
        self.keys.since_s = self.clock.now_s()
        self.dns = Dns(self.keys)
        self.rotate = RotateKeys(
            keys=self.keys,
            check=self.dns,  # type: ignore[arg-type]
            every_s=lambda: every_s,
            clock=self.clock,
            log=self.log,
        )

    @property
    def state(self) -> tuple[str, int]:
        return self.keys.active.selector, len(self.keys.coming)


async def test_a_key_that_is_too_old_gets_a_successor_and_the_operator_hears_of_it() -> None:
    world = World()
    world.clock.advance(30 * DAY_S - 1)
    await world.rotate()
    assert (world.state, world.log.events()) == (("opendkim", 0), [])
    world.clock.advance(1)
    await world.rotate()
    assert (world.state, world.log.events()) == (("opendkim", 1), ["dkim_key_made"])
    await world.rotate()
    assert world.log.events() == ["dkim_key_made"]


@pytest.mark.parametrize("every_s", [0.0, 30.0 * DAY_S])
async def test_a_key_is_signed_with_after_dns_has_shown_it_twice(every_s: float) -> None:
    world = World(every_s)
    world.keys.rotate()
    for standing in (Standing.MISSING, Standing.OK, Standing.UNKNOWN, Standing.OK):
        world.dns.standing = standing
        await world.rotate()
        assert world.state == ("opendkim", 1)
    await world.rotate()
    assert world.state == ("next", 0)
    assert world.log.events() == ["dkim_key_in_use"]
    assert [one.name for one in world.keys.retired()] == ["opendkim._domainkey.relay.test"]


async def test_a_key_that_is_half_shown_is_not_used() -> None:
    world = World()
    world.keys.rotate()
    world.dns.standing = Standing.OK
    await world.rotate()
    world.keys.coming = (*world.keys.coming, world.keys.key("next-ed", "CCCC"))
    await world.rotate()
    assert world.state[0] == "opendkim"


async def test_without_the_setting_nothing_is_made_and_dns_is_not_asked() -> None:
    world = World(0.0)
    world.clock.advance(1000 * DAY_S)
    await world.rotate()
    assert (world.state, world.dns.asked) == (("opendkim", 0), 0)


async def test_a_relay_without_a_name_has_no_key_to_renew() -> None:
    world = World()
    world.keys.since_s = None
    world.clock.advance(1000 * DAY_S)
    await world.rotate()
    assert world.state == ("opendkim", 0)
