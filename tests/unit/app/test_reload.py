"""Following a changed file."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import attrs
import pytest
import trio
import trio.testing

from chatmail.adapters.net.errors import BindError, CertificateError
from chatmail.app.config import LoadedConfig
from chatmail.app.config_choice import ConfigError
from chatmail.app.config_keys import BootConfig
from chatmail.app.config_values import ListenAddress
from chatmail.app.live_settings import LiveSettings
from chatmail.app.reload import Reload
from chatmail.domain.model.errors import TransientFailure
from tests.unit.app.test_live_settings import BOOT, FieldLog, loaded, with_section
from tests.unit.fakes.settings import MemorySettingsStore


class Log(FieldLog):
    """Knows errors, too."""

    def error(self, event: str, **fields: object) -> None:
        self.events.append(event)


class Manager:
    """A service manager that takes notes."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def reloading(self) -> None:
        self.heard.append("reloading")

    def ready(self) -> None:
        self.heard.append("ready")


class World:
    """A relay around real settings."""

    def __init__(self) -> None:
        self.log, self.manager, self.store = Log(), Manager(), MemorySettingsStore()
        self.settings = LiveSettings(loaded(), self.log)
        self.file: Callable[[], LoadedConfig] = loaded
        self.followed: list[BootConfig] = []
        self.bind_problem: BindError | None = None
        self.certificate_problem: CertificateError | None = None
        self.told: list[object] = []
        self.federation_problems: tuple[str, ...] = ()
        relay = SimpleNamespace(
            boot=BOOT,
            log=self.log,
            settings=self.settings,
            store=SimpleNamespace(settings=self.store),
            keeper=SimpleNamespace(reload=self._reload_certificate),
            federation=SimpleNamespace(follow=self._follow_abroad),
            desks=SimpleNamespace(follow=lambda: self.told.append("desks")),
        )
        listening = SimpleNamespace(follow=self._follow)
        self.reload = Reload(
            cast(Any, relay), cast(Any, listening), lambda: self.file(), cast(Any, self.manager)
        )

    def _reload_certificate(self, *_: object) -> None:
        if self.certificate_problem is not None:
            raise self.certificate_problem

    def _follow_abroad(self, boot: BootConfig) -> tuple[str, ...]:
        self.told.append(boot.dns.servers)
        return self.federation_problems

    async def _follow(self, boot: BootConfig) -> None:
        await trio.lowlevel.checkpoint()
        if self.bind_problem is not None:
            raise self.bind_problem
        self.followed.append(boot)


async def test_a_reload_follows_file_and_store() -> None:
    world = World()
    await world.store.change({"__SMTP_PORT__": "2525"})
    world.file = lambda: loaded(with_section("limits", max_recipients=7))
    assert await world.reload() == ()
    assert world.settings().limits.max_recipients == 7
    assert [str(one) for one in world.followed[0].listen.smtp] == ["*:2525"]
    assert world.manager.heard == ["reloading", "ready"]
    assert world.log.events == ["settings_changed", "reloaded"]


async def test_a_file_with_problems_changes_nothing_and_tells_each() -> None:
    world = World()

    def broken() -> LoadedConfig:
        raise ConfigError(("a.toml:1: bad", "a.toml:2: worse"))

    world.file = broken
    assert await world.reload() == ("a.toml:1: bad", "a.toml:2: worse")
    assert world.log.events == ["configuration_rejected"] * 2
    assert world.followed == []
    assert world.manager.heard == ["reloading", "ready"]


async def test_a_part_that_fails_is_told_and_the_others_go_on() -> None:
    world = World()
    world.bind_problem = BindError("*:25: taken")
    world.certificate_problem = CertificateError("cert.pem: expired")
    world.file = lambda: loaded(with_section("limits", max_recipients=7))
    assert await world.reload() == ("cert.pem: expired", "*:25: taken")
    assert world.settings().limits.max_recipients == 7
    assert world.log.events == ["certificate_rejected", "listener_failed", "reloaded"]


async def test_name_servers_and_trust_anchors_are_followed() -> None:
    world = World()
    servers = (ListenAddress("192.0.2.53", 53),)
    world.file = lambda: loaded(with_section("dns", servers=servers))
    world.federation_problems = ("federation.ca_file: cannot be used: No such file",)
    assert await world.reload() == world.federation_problems
    assert world.told == [servers, "desks"]
    assert world.log.events == ["federation_unchanged", "reloaded"]
    assert len(world.followed) == 1


async def test_a_store_in_trouble_does_not_keep_the_file_from_being_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()

    async def trouble() -> None:
        raise TransientFailure("down")

    monkeypatch.setattr(world.store, "all", trouble)
    world.file = lambda: loaded(with_section("limits", max_recipients=7))
    assert await world.reload() == ()
    assert world.settings().limits.max_recipients == 7
    assert "settings_unread" in world.log.events


async def test_what_needs_a_restart_is_said() -> None:
    world = World()
    server = attrs.evolve(BOOT.server, domain="other.example", runtime_dir=BOOT.state_dir)
    world.file = lambda: loaded(attrs.evolve(BOOT, server=server))
    await world.reload()
    assert world.log.events.count("restart_needed") == 2
    assert world.settings().identity.mail_domain == "relay.example"


async def test_reloads_come_one_after_the_other() -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.reload)
        nursery.start_soon(world.reload)
    assert world.manager.heard == ["reloading", "ready"] * 2
