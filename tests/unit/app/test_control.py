"""What the running relay tells of itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import attrs
import pytest

from chatmail.adapters.net.crowds import ConnectionLimits, Crowd
from chatmail.app.config_keys import BootConfig
from chatmail.app.control import RunningRelay, control_services
from chatmail.app.live_settings import LiveSettings
from tests.unit.app.test_live_settings import FieldLog, kept, loaded
from tests.unit.fakes.system import FakeClock


@attrs.define
class World:
    clock: FakeClock
    settings: LiveSettings
    crowd: Crowd
    relay: Any
    running: RunningRelay
    is_stopping: bool = False
    reloads: int = 0


def make_world(expires_in_s: float = 60 * 86400.0) -> World:
    clock, settings = FakeClock(), LiveSettings(loaded(), FieldLog())
    crowd = Crowd(lambda: ConnectionLimits(10))
    face = SimpleNamespace(face=SimpleNamespace(crowd=crowd))
    relay = SimpleNamespace(
        settings=settings,
        boot=BootConfig(),
        log=SimpleNamespace(is_debugging=False),
        keeper=SimpleNamespace(facts=SimpleNamespace(not_after_s=clock.now_s() + expires_in_s)),
        store=SimpleNamespace(index=SimpleNamespace(account_count=5)),
        listeners=dict.fromkeys(("smtp", "submission", "imap", "http"), face),
        checks=lambda: [SimpleNamespace(name="disk", ok=True, remedy="")],
        change_settings="the use case",
        tasks=SimpleNamespace(others={}),
        desks=SimpleNamespace(equip=lambda services: attrs.evolve(services, queue="the queue")),
    )
    listening = SimpleNamespace(addresses=lambda: [("imaps", "127.0.0.1", 993)])

    async def reload() -> tuple[str, ...]:
        world.reloads += 1
        return ()

    running = RunningRelay(
        cast(Any, relay), cast(Any, listening), clock, reload, lambda: world.is_stopping
    )
    world = World(clock, settings, crowd, relay, running)
    return world


def test_status_says_how_the_relay_is() -> None:
    world = make_world()
    world.crowd.enter("192.0.2.1")
    world.crowd.enter("192.0.2.1")
    world.crowd.enter("127.0.0.1")
    world.settings.follow(kept(3, REGISTRATION_OPEN="no", SMTP_PORT="2525"))
    world.clock.advance(90)
    status: Any = world.running.status()
    assert status["domain"] == "relay.example"
    assert status["uptime_seconds"] == 90
    assert status["registered_users"] == 5
    assert status["registration"] == {"open": False, "jit": True, "token_required": False}
    assert status["services"][0] == {"name": "smtp", "connections": 3, "unique_ips": 1}
    assert status["listeners"] == [{"service": "imaps", "host": "127.0.0.1", "port": 993}]
    assert status["settings"] == {"generation": 3, "pending_reload": ["__SMTP_PORT__"]}
    assert status["certificate"]["days_left"] == 59
    assert status["boot_time"].endswith("Z")
    assert status["checks"] == [{"name": "disk", "ok": True, "remedy": ""}]


def test_debug_is_warned_of_for_as_long_as_it_is_on() -> None:
    world = make_world()
    assert cast(Any, world.running.status())["warnings"] == []
    world.relay.log.is_debugging = True
    (warning,) = cast(Any, world.running.status())["warnings"]
    assert "debug" in warning


def test_a_certificate_for_ever_has_no_date() -> None:
    assert cast(Any, make_world(1e15).running.status())["certificate"]["expires_at"] == ""


async def test_a_relay_that_stops_does_not_reload() -> None:
    world = make_world()
    assert await world.running.reload() == ()
    world.is_stopping = True
    assert await world.running.reload() == ("the server is stopping",)
    assert world.reloads == 1


def test_the_socket_offers_settings_and_the_relay() -> None:
    world = make_world()
    services = control_services(world.relay, world.running)
    assert services.settings == "the use case"  # type: ignore[comparison-overlap]
    assert services.operation is world.running
    assert services.queue == "the queue"  # type: ignore[comparison-overlap]


@pytest.mark.parametrize("sources", [0, 1])
def test_loopback_is_no_source(sources: int) -> None:
    crowd = Crowd(lambda: ConnectionLimits(10))
    crowd.enter("192.0.2.1" if sources else "127.0.0.1")
    assert crowd.sources == sources
