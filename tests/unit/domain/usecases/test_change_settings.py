"""Showing and changing settings."""

from __future__ import annotations

import attrs
import pytest

from chatmail.domain.policy.settings_table import RULES
from chatmail.domain.usecases.change_settings import (
    MASK,
    Changed,
    ChangeSettings,
    InvalidSetting,
    SettingsBusy,
    SettingView,
    UnknownSetting,
)
from tests.unit.fakes.settings import FixedConfiguration, MemorySettingsStore

FILE = {
    "limits.max_message_size": 30 << 20,
    "limits.max_recipients": 1000,
    "retention.messages": 20 * 86400.0,
    "registration.open": True,
    "web.language": "en",
    "gate.append_policy": "encrypted",
    "federation.policy": "accept",
    "push.mode": "auto",
    "server.hostname": "",
}


@attrs.define
class World:
    store: MemorySettingsStore
    in_force: FixedConfiguration
    change: ChangeSettings


@pytest.fixture
def world() -> World:
    store, in_force = MemorySettingsStore(), FixedConfiguration(FILE)
    return World(store, in_force, ChangeSettings(store=store, in_force=in_force))


async def shown(world: World, name: str) -> SettingView:
    view = await world.change.get(name)
    assert view is not None
    return view


async def test_an_unset_setting_shows_what_the_file_says(world: World) -> None:
    view = await shown(world, "limits.max_recipients")
    assert view == SettingView(
        key="__LIMITS_MAX_RECIPIENTS__",
        name="limits_max_recipients",
        kind="integer",
        value="",
        effective="1000",
        source="file",
        applies="live",
        is_set=False,
    )


async def test_what_cannot_be_made_ready_is_not_stored(world: World) -> None:
    world.in_force.obstacles = ("port 80 is taken",)
    outcome = await world.change.set_many({"http_port": "80"})
    assert outcome == InvalidSetting("__HTTP_PORT__", ("port 80 is taken",))
    assert world.in_force.prepared == [{"__HTTP_PORT__": "80"}]
    assert world.store.values == {}
    world.in_force.obstacles = ()
    assert isinstance(await world.change.reset(["http_port"]), Changed)
    assert world.in_force.prepared[1:] == [{"__HTTP_PORT__": None}]


async def test_a_change_is_stored_and_followed_before_it_is_answered(world: World) -> None:
    outcome = await world.change.set_many({"max_message_size": "10M", "registration_open": "no"})
    assert isinstance(outcome, Changed)
    assert outcome.generation == 1
    assert [(view.name, view.effective) for view in outcome.settings] == [
        ("max_message_size", "10M"),
        ("registration_open", "false"),
    ]
    assert world.store.values == {"__MAX_MESSAGE_SIZE__": "10M", "__REGISTRATION_OPEN__": "false"}
    assert [stored.generation for stored in world.in_force.followed] == [1]
    view = await shown(world, "max_message_size")
    assert (view.value, view.source, view.is_set) == ("10M", "setting", True)


async def test_one_bad_text_stores_nothing_of_a_change(world: World) -> None:
    outcome = await world.change.set_many({"registration_open": "no", "smtp_port": "x"})
    assert outcome == InvalidSetting(
        "__SMTP_PORT__", ("smtp_port: invalid port number: must be 1-65535",)
    )
    assert await world.change.set_many({"nonsense": "1"}) == UnknownSetting("nonsense")
    assert world.store.number == 0
    assert world.in_force.followed == []


async def test_what_does_not_fit_the_others_is_refused(world: World) -> None:
    world.in_force.misfits[("__LIMITS_SEND_BURST__", "0")] = "nobody could send"
    outcome = await world.change.set_many({"limits.send_burst": "0"})
    assert outcome == InvalidSetting("__LIMITS_SEND_BURST__", ("nobody could send",))
    assert world.store.number == 0


async def test_what_did_not_fit_before_does_not_hinder_other_changes(world: World) -> None:
    world.in_force.misfits[("__LIMITS_SEND_BURST__", "0")] = "nobody could send"
    world.store.values["__LIMITS_SEND_BURST__"] = "0"
    assert isinstance(await world.change.set_many({"language": "fa"}), Changed)
    assert isinstance(await world.change.reset(["limits_send_burst"]), Changed)


async def test_a_reset_forgets_and_a_second_one_does_no_harm(world: World) -> None:
    await world.change.set_many({"language": "fa"})
    for generation in (2, 3):
        outcome = await world.change.reset(["language"])
        assert isinstance(outcome, Changed)
        assert outcome.generation == generation
        assert outcome.settings[0].effective == "en"
    assert world.store.values == {}


async def test_rivals_are_read_anew_and_not_overwritten(world: World) -> None:
    world.store.rivals = [{"__LANGUAGE__": "ru"}, {"__LIMITS_MAX_RECIPIENTS__": "7"}]
    outcome = await world.change.set_many({"limits.max_recipients": "9"})
    assert isinstance(outcome, Changed)
    assert world.store.values == {"__LANGUAGE__": "ru", "__LIMITS_MAX_RECIPIENTS__": "9"}
    assert outcome.generation == 3


async def test_endless_rivals_are_given_way(world: World) -> None:
    world.store.rivals = [{"__LANGUAGE__": "ru"}] * 5
    assert await world.change.set_many({"limits.max_recipients": "9"}) == SettingsBusy()
    assert world.in_force.followed == []


async def test_unknown_stored_keys_are_listed_masked_and_kept(world: World) -> None:
    world.store.values["__FROM_TOMORROW__"] = "who knows"
    views = await world.change.list()
    assert len(views) == len(RULES) + 1
    last = views[-1]
    assert (last.key, last.value, last.is_known) == ("__FROM_TOMORROW__", MASK, False)
    assert await world.change.get("__FROM_TOMORROW__") == last
    assert await world.change.set_many({"__FROM_TOMORROW__": "x"}) == UnknownSetting(
        "__FROM_TOMORROW__"
    )
    await world.change.set_many({"language": "fa"})
    assert world.store.values["__FROM_TOMORROW__"] == "who knows"


async def test_an_unknown_stored_key_goes_only_when_named(world: World) -> None:
    world.store.values["__FROM_TOMORROW__"] = "who knows"
    assert await world.change.reset(["__OTHER__"]) == UnknownSetting("__OTHER__")
    assert isinstance(await world.change.reset(["__FROM_TOMORROW__"]), Changed)
    assert world.store.values == {}
    assert await world.change.get("__FROM_TOMORROW__") is None


async def test_a_bad_stored_text_is_shown_but_the_file_holds(world: World) -> None:
    world.store.values["__LIMITS_MAX_RECIPIENTS__"] = "many"
    view = await shown(world, "limits_max_recipients")
    assert (view.value, view.effective, view.source) == ("many", "1000", "file")
    world.store.values["__LOG_DISABLED__"] = "perhaps"
    assert (await shown(world, "log_disabled")).effective == "false"


async def test_secrets_are_masked(world: World) -> None:
    await world.change.set_many({"turn_secret": "hunter2"})
    view = await shown(world, "turn_secret")
    assert (view.value, view.effective) == (MASK, MASK)
    assert world.store.values["__TURN_SECRET__"] == "hunter2"


@pytest.mark.parametrize(
    ("stored", "switch", "duration"),
    [
        ({}, "true", "20d"),
        ({"message_retention_enabled": "no"}, "false", "30d"),
        ({"message_retention": "5d"}, "true", "5d"),
    ],
)
async def test_retention_is_shown_as_switch_and_duration(
    world: World, stored: dict[str, str], switch: str, duration: str
) -> None:
    if stored:
        await world.change.set_many(stored)
    view = await shown(world, "message_retention_enabled")
    assert view.effective == switch
    assert view.source == ("setting" if view.is_set else "file")
    assert (await shown(world, "message_retention")).effective == duration


async def test_a_port_that_is_not_stored_is_shown_as_nothing(world: World) -> None:
    """Spec admin 1.7: links of the panel break if it is anything else."""
    assert (await shown(world, "imap_port")).effective == ""
    await world.change.set_many({"imap_port": "1143"})
    assert (await shown(world, "imap_port")).effective == "1143"


@pytest.mark.parametrize(("mode", "mirror"), [("auto", "true"), ("on", "true"), ("off", "false")])
async def test_the_older_switch_of_push_is_written_with_the_mode(
    world: World, mode: str, mirror: str
) -> None:
    await world.change.set_many({"push_mode": mode})
    assert world.store.values == {"__PUSH_MODE__": mode, "__PUSH_ENABLED__": mirror}
    await world.change.reset(["push_mode"])
    assert world.store.values == {}
