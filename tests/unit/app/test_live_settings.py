"""File and stored settings, composed."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from chatmail.app.config import LoadedConfig
from chatmail.app.config_identity import to_settings
from chatmail.app.config_keys import FIELDS, BootConfig
from chatmail.app.config_sections import ListenSection, ServerSection
from chatmail.app.config_values import listen_addresses
from chatmail.app.live_settings import LiveSettings
from chatmail.domain.policy.settings_table import BY_KEY, RULES, Kind, find_rule
from chatmail.domain.ports.settings import StoredSettings
from tests.unit.ports.world import ListLog

BOOT = BootConfig(server=ServerSection(domain="relay.example"))


class FieldLog(ListLog):
    """Keeps fields, too, and whether it is silent."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: list[dict[str, object]] = []
        self.is_silent = False

    def warning(self, event: str, **fields: object) -> None:
        super().warning(event)
        self.fields.append(fields)

    def silence(self, is_silent: bool) -> None:
        self.is_silent = is_silent


def loaded(boot: BootConfig = BOOT, **origins: str) -> LoadedConfig:
    return LoadedConfig(boot=boot, warnings=(), origins=origins)


def live(boot: BootConfig = BOOT, **stored: str) -> tuple[LiveSettings, FieldLog]:
    log = FieldLog()
    settings = LiveSettings(loaded(boot), log)
    settings.start_with(kept(1, **stored))
    return settings, log


def kept(generation: int, **stored: str) -> StoredSettings:
    return StoredSettings(generation, {f"__{key}__": text for key, text in stored.items()})


def with_section(section: str, **values: Any) -> BootConfig:
    part = attrs.evolve(getattr(BOOT, section), **values)
    return attrs.evolve(BOOT, **{section: part})


# --- the two tables -------------------------------------------------------------------------------


def test_every_rule_names_a_key_of_the_file() -> None:
    assert {rule.config_key for rule in RULES if rule.config_key} <= set(FIELDS)


def type_name(key: str) -> str:
    """Name the type of a key; reading a configuration turns its text into the type."""
    declared = FIELDS[key].type
    return str(getattr(declared, "__name__", declared))


SCALARS = {
    "bool": Kind.BOOLEAN,
    "int": Kind.INTEGER,
    "float": Kind.NUMBER,
    "Size": Kind.SIZE,
    "Seconds": Kind.DURATION,
    "Percent": Kind.PERCENT,
}


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in FIELDS
        if name.partition(".")[0] in ("registration", "limits", "retention", "gate")
        and type_name(name) in SCALARS
    ],
)
def test_every_scalar_of_four_sections_can_be_changed_live(name: str) -> None:
    """Spec admin 3: `__SECTION_KEY__`, except where the table has a key for it already."""
    rule = find_rule(name)
    assert rule is not None
    assert rule.kind is SCALARS[type_name(name)] or rule.kind is Kind.OCTETS
    if rule.config_key == name and not rule.key.startswith(f"__{name.partition('.')[0].upper()}_"):
        assert rule.name in {
            "jit_registration_enabled",
            "max_message_size",
            "max_federation_size",
            "quota",
            "auto_purge_seen",
        }


SAMPLES = {
    Kind.BOOLEAN: ("true", "false"),
    Kind.SIZE: ("31M", "32M"),
    Kind.OCTETS: ("600000000", "700000000"),
    Kind.DURATION: ("3d", "4d"),
    Kind.INTEGER: ("9", "10"),
    Kind.NUMBER: ("2.5", "3.5"),
    Kind.PERCENT: ("71", "72"),
}


@pytest.mark.parametrize("rule", [r for r in RULES if r.kind in SAMPLES and r.config_key])
def test_a_stored_scalar_reaches_the_configuration_with_its_type(rule: Any) -> None:
    section, _, name = rule.config_key.partition(".")
    seen = set()
    for text in SAMPLES[rule.kind]:
        settings = LiveSettings(loaded(), FieldLog())
        settings.start_with(StoredSettings(1, {rule.key: text}))
        seen.add(getattr(getattr(settings.boot, section), name))
    default = getattr(getattr(BOOT, section), name)
    assert all(type(value) is type(default) for value in seen)


# --- precedence -----------------------------------------------------------------------------------


def test_without_settings_the_file_alone_counts() -> None:
    settings, log = live()
    assert settings() == to_settings(BOOT)
    assert settings.boot == BOOT
    assert log.events == []


def test_a_stored_setting_wins_over_the_file_also_when_that_changes() -> None:
    settings, _ = live(LIMITS_MAX_RECIPIENTS="7")
    assert settings().limits.max_recipients == 7
    settings.follow_file(loaded(with_section("limits", max_recipients=9, send_burst=3)))
    assert settings().limits.max_recipients == 7
    assert settings().limits.send_burst == 3
    settings.follow(kept(2))
    assert settings().limits.max_recipients == 9


def test_each_change_swaps_a_frozen_snapshot_and_tells_who_listens() -> None:
    settings, log = live()
    told: list[int] = []
    settings.on_change = lambda: told.append(settings().limits.max_message_bytes)
    before = settings()
    settings.follow(kept(2, APPENDLIMIT="20M"))
    assert before.limits.max_message_bytes == 30 << 20
    assert told == [20 << 20]
    assert settings.generation == 2
    assert log.events == ["settings_changed"]


def test_an_older_generation_is_not_followed() -> None:
    settings, log = live(LANGUAGE="fa")
    settings.follow(kept(5, LANGUAGE="ru"))
    settings.follow(kept(4, LANGUAGE="es"))
    assert settings.boot.web.language == "ru"
    settings.follow(kept(5, LANGUAGE="ru"))
    assert log.events == ["settings_changed"]


def test_origins_are_those_of_the_file_below() -> None:
    settings = LiveSettings(loaded(BOOT, **{"limits.send_burst": "env"}), FieldLog())
    assert settings.origin("limits.send_burst") == "env"
    assert settings.origin("limits.max_recipients") == "default"
    assert settings.configured("limits.send_burst") == 10


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        ({"REGISTRATION_OPEN": "0"}, lambda s: s.registration.is_open is False),
        ({"JIT_REGISTRATION_ENABLED": "0"}, lambda s: s.registration.jit is False),
        ({"REGISTRATION_TOKEN_REQUIRED": "1"}, lambda s: s.registration.require_token is True),
        ({"REGISTRATION_MAX_LOAD_1M": "0"}, lambda s: s.registration.max_load_1m == 0),
        ({"LIMITS_SEND_RATE_PER_MINUTE": "3"}, lambda s: s.limits.send_rate_per_minute == 3),
        ({"GLOBAL_DEFAULT": "1048576000"}, lambda s: s.limits.max_mailbox_bytes == 1048576000),
        ({"MAX_FEDERATION_SIZE": "9M"}, lambda s: s.limits.max_federation_bytes == 9 << 20),
        ({"GATE_APPEND_POLICY": "any"}, lambda s: s.gate.append_any is True),
        ({"GATE_OPACITY_CHECK": "no"}, lambda s: s.gate.opacity_check is False),
        ({"RETENTION_QUOTA_TRIM": "no"}, lambda s: s.quota.trim is False),
        ({"RETENTION_QUOTA_TRIM_HIGH": "90"}, lambda s: s.quota.trim_high_percent == 90),
        ({"FEDERATION_ENABLED": "no"}, lambda s: s.federation.is_enabled is False),
    ],
)
def test_each_family_of_the_snapshot_is_reached(stored: dict[str, str], found: Any) -> None:
    settings, _ = live()
    assert not found(settings())
    settings.follow(kept(2, **stored))
    assert found(settings())


# --- what waits for a reload ----------------------------------------------------------------------


def test_addresses_and_host_name_wait_for_a_reload() -> None:
    settings, _ = live()
    settings.follow(kept(2, SMTP_PORT="2525", SMTP_HOSTNAME="mail.relay.example", LANGUAGE="fa"))
    assert settings.boot.listen == BOOT.listen
    assert settings().identity.hostname == "relay.example"
    assert settings.boot.web.language == "fa"
    assert settings.pending() == ("__SMTP_HOSTNAME__", "__SMTP_PORT__")
    assert settings.is_pending("__SMTP_PORT__")
    assert not settings.is_pending("__LANGUAGE__")
    settings.follow_file(loaded())
    assert settings.boot.listen.smtp == listen_addresses(["*:2525"])
    assert settings().identity.hostname == "mail.relay.example"
    assert settings.pending() == ()
    settings.follow(kept(3))
    assert settings.pending() == ("__SMTP_HOSTNAME__", "__SMTP_PORT__")
    assert settings.boot.listen.smtp == listen_addresses(["*:2525"])


async def test_new_web_ports_are_opened_before_they_are_stored() -> None:
    """Spec admin 1.7: the reload comes by the new port."""
    settings, _ = live(HTTP_PORT="8080", SMTP_PORT="2525")
    asked: list[ListenSection] = []

    async def open_early(boot: BootConfig) -> tuple[str, ...]:
        asked.append(boot.listen)
        return ("taken",)

    settings.open_early = open_early
    assert await settings.prepare({"__SMTP_PORT__": "26", "__LANGUAGE__": "fa"}) == ()
    assert asked == []
    assert await settings.prepare({"__HTTPS_PORT__": "8443"}) == ("taken",)
    assert await settings.prepare({"__HTTP_PORT__": None}) == ("taken",)
    assert [one.https for one in asked] == [listen_addresses(["*:8443"]), BOOT.listen.https]
    assert [one.http for one in asked] == [listen_addresses(["*:8080"]), BOOT.listen.http]


async def test_a_command_without_a_server_opens_nothing() -> None:
    settings, _ = live()
    assert await settings.prepare({"__HTTP_PORT__": "8080"}) == ()


def test_a_start_is_a_reload() -> None:
    settings, _ = live(SMTP_PORT="2525")
    assert settings.boot.listen.smtp == listen_addresses(["*:2525"])
    assert settings.pending() == ()


@pytest.mark.parametrize(
    ("stored", "addresses"),
    [
        ({"IMAP_PORT": "1143"}, ["192.0.2.1:1143", "[::]:1143", "unix:/run/imap"]),
        (
            {"IMAP_LOCAL_ONLY": "true"},
            ["127.0.0.1:143", "[::1]:143", "unix:/run/imap"],
        ),
        (
            {"IMAP_LOCAL_ONLY": "true", "IMAP_PORT": "1143"},
            ["127.0.0.1:1143", "[::1]:1143", "unix:/run/imap"],
        ),
    ],
)
def test_a_stored_port_or_place_replaces_that_of_every_address(
    stored: dict[str, str], addresses: list[str]
) -> None:
    """Spec admin 3."""
    given = listen_addresses(["192.0.2.1:143", "[::]:143", "unix:/run/imap"])
    settings, _ = live(with_section("listen", imap=given), **stored)
    assert settings.boot.listen.imap == listen_addresses(addresses)


def test_a_face_that_is_off_stays_off() -> None:
    boot = with_section("listen", imap=())
    settings, _ = live(boot, IMAP_PORT="1143", IMAP_LOCAL_ONLY="1", HTTP_ENABLED="0")
    assert settings.boot.listen.imap == ()
    assert settings.boot.listen.http == ()
    assert settings.boot.listen.https == ListenSection().https


def test_without_ipv6_local_is_one_address() -> None:
    boot = with_section("server", ipv6=False)
    settings, _ = live(boot, SMTP_LOCAL_ONLY="1")
    assert settings.boot.listen.smtp == listen_addresses(["127.0.0.1:25"])


# --- what cannot be followed ----------------------------------------------------------------------


def test_a_bad_stored_text_is_told_once_and_ignored() -> None:
    settings, log = live(LIMITS_MAX_RECIPIENTS="many")
    assert settings().limits.max_recipients == 1000
    assert log.events == ["setting_ignored"]
    assert [str(log.fields[0][name].text) for name in ("key", "problem")] == [  # type: ignore[attr-defined]
        "__LIMITS_MAX_RECIPIENTS__",
        "is not a whole number, 0 or more",
    ]
    settings.follow(kept(2, LIMITS_MAX_RECIPIENTS="many", LANGUAGE="fa"))
    settings.follow_file(loaded())
    assert log.events.count("setting_ignored") == 1


def test_a_setting_that_no_longer_fits_the_file_is_told_and_ignored() -> None:
    settings, log = live(REGISTRATION_USERNAME_MIN="8", LIMITS_SEND_BURST="4")
    assert settings().registration.username_min == 8
    edited = with_section("registration", username_max=7, username_length=7, username_min=7)
    settings.follow_file(loaded(edited))
    assert settings().registration.username_min == 7
    assert settings().limits.send_burst == 4
    assert log.events == ["setting_ignored"]


def test_two_faces_on_one_port_are_no_setting() -> None:
    settings, log = live(IMAP_PORT="25")
    assert settings.boot.listen.imap == ListenSection().imap
    assert log.events == ["setting_ignored"]
    assert settings.problems({"__IMAP_PORT__": "25"}) != ()
    assert settings.problems({"__IMAP_PORT__": "1143"}) == ()


def test_who_we_are_stays_until_a_restart() -> None:
    settings, _ = live()
    settings.follow_file(loaded(with_section("server", domain="other.example")))
    assert settings().identity.mail_domain == "relay.example"


def test_the_log_falls_silent_and_speaks_again() -> None:
    settings, log = live(LOG_DISABLED="true")
    assert log.is_silent
    settings.follow(kept(2))
    assert not log.is_silent


def test_every_key_of_a_face_is_known_by_its_face() -> None:
    from chatmail.app import live_settings

    keys = [key for key in live_settings._FACE_OF if key in BY_KEY]
    assert len(keys) == 7 + 7 + 2
