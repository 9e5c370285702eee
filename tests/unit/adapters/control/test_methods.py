"""Methods of the control socket."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from chatmail.adapters.control.methods import METHODS, SLOW_METHODS, call
from chatmail.adapters.control.services import ControlServices
from chatmail.domain.wire.jsonrpc import ErrorCode, RpcError
from tests.unit.adapters.control.world import (
    BrokenStore,
    StillRelay,
    StillTasks,
    make_services,
)
from tests.unit.fakes.settings import MemorySettingsStore


async def result(services: ControlServices, method: str, **params: Any) -> Any:
    return await call(services, method, params)


async def refused(services: ControlServices, method: str, **params: Any) -> RpcError:
    with pytest.raises(RpcError) as told:
        await call(services, method, params)
    return told.value


async def test_settings_are_listed_set_got_and_reset() -> None:
    services = make_services()
    changed = await result(services, "setting.set", name="limits.max_recipients", value=7)
    assert changed["generation"] == 1
    (view,) = changed["settings"]
    assert view == {
        "key": "__LIMITS_MAX_RECIPIENTS__",
        "name": "limits_max_recipients",
        "type": "integer",
        "value": "7",
        "effective": "7",
        "source": "setting",
        "applies": "live",
        "is_set": True,
        "is_known": True,
        "restart_required": False,
    }
    assert await result(services, "setting.get", name="limits_max_recipients") == view
    assert view in (await result(services, "setting.list"))["settings"]
    reset = await result(services, "setting.reset", name="limits_max_recipients")
    assert reset["settings"][0]["is_set"] is False


async def test_many_are_set_at_once_or_none() -> None:
    services = make_services()
    values = {"registration_open": False, "language": "fa", "registration_max_load_1m": 2.5}
    changed = await result(services, "setting.setMany", values=values)
    assert [view["value"] for view in changed["settings"]] == ["false", "fa", "2.5"]
    error = await refused(services, "setting.setMany", values={"language": "ru", "smtp_port": 0})
    assert error.code is ErrorCode.INVALID_PARAMS
    assert error.field == "__SMTP_PORT__"
    assert (await result(services, "setting.get", name="language"))["value"] == "fa"
    await result(services, "setting.reset", names=["language", "registration_open"])


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("fly", {}, ErrorCode.UNKNOWN_METHOD),
        ("setting.get", {}, ErrorCode.INVALID_PARAMS),
        ("setting.get", {"name": 7}, ErrorCode.INVALID_PARAMS),
        ("setting.get", {"name": "x", "other": 1}, ErrorCode.INVALID_PARAMS),
        ("setting.get", {"name": "nonsense"}, ErrorCode.NOT_FOUND),
        ("setting.set", {"name": "nonsense", "value": "1"}, ErrorCode.NOT_FOUND),
        ("setting.set", {"name": "language"}, ErrorCode.INVALID_PARAMS),
        ("setting.set", {"name": "language", "value": ["fa"]}, ErrorCode.INVALID_PARAMS),
        ("setting.set", {"name": "language", "value": "de"}, ErrorCode.INVALID_PARAMS),
        ("setting.setMany", {"values": {}}, ErrorCode.INVALID_PARAMS),
        ("setting.setMany", {"values": []}, ErrorCode.INVALID_PARAMS),
        ("setting.reset", {}, ErrorCode.INVALID_PARAMS),
        ("setting.reset", {"names": [1]}, ErrorCode.INVALID_PARAMS),
        ("setting.reset", {"names": ["nonsense"]}, ErrorCode.NOT_FOUND),
        ("setting.list", {"x": 1}, ErrorCode.INVALID_PARAMS),
        ("task.run", {}, ErrorCode.INVALID_PARAMS),
        ("task.run", {"task": "nonsense"}, ErrorCode.NOT_FOUND),
        ("task.run", {"task": "vacuum", "dry_run": 1}, ErrorCode.INVALID_PARAMS),
        ("task.run", {"task": "vacuum", "retention": "x"}, ErrorCode.INVALID_PARAMS),
        ("task.run", {"task": "vacuum", "retention": 0}, ErrorCode.INVALID_PARAMS),
    ],
)
async def test_wrong_calls_are_refused(method: str, params: Any, code: ErrorCode) -> None:
    error = await refused(make_services(), method, **params)
    assert error.code is code
    assert "\n" not in error.message


async def test_tasks_run_as_they_are_asked() -> None:
    services = make_services()
    tasks = services.tasks
    assert isinstance(tasks, StillTasks)
    assert (await result(services, "task.list"))["tasks"] == ["prune-old-messages", "vacuum"]
    report = await result(services, "task.run", task="vacuum", dry_run=True, retention="1d")
    assert report == {"task": "vacuum", "deleted_messages": 3, "dry_run": True}
    assert len((await result(services, "task.runAll"))["reports"]) == 2
    assert len((await result(services, "task.expire", dry_run=True))["reports"]) == 1
    assert tasks.ran == [
        ("vacuum", True, 86400),
        ("prune-old-messages", False, None),
        ("vacuum", False, None),
        ("prune-old-messages", True, None),
    ]


async def test_the_relay_tells_its_state_and_reloads() -> None:
    services = make_services()
    assert await result(services, "server.status") == {"name": "chatmail"}
    assert await result(services, "reload") == {"reloaded": True}
    assert isinstance(services.operation, StillRelay)
    services.operation.problems = ("chatmail.toml:1: bad", "chatmail.toml:2: worse")
    error = await refused(services, "server.reload")
    assert error.code is ErrorCode.CONFLICT
    assert error.reasons == services.operation.problems


async def test_what_is_not_there_is_unavailable() -> None:
    services = attrs.evolve(make_services(), tasks=None, operation=None)
    for method in ("task.list", "task.runAll", "server.status", "server.reload"):
        assert (await refused(services, method)).code is ErrorCode.UNAVAILABLE


@pytest.mark.parametrize("is_full", [True, False])
async def test_a_store_in_trouble_is_told_without_its_words(is_full: bool) -> None:
    store = BrokenStore()
    store.is_full = is_full
    error = await refused(make_services(store=store), "setting.list")
    assert error.code is ErrorCode.UNAVAILABLE
    assert "secret" not in error.message


async def test_rivals_without_end_are_a_conflict() -> None:
    store = MemorySettingsStore()
    store.rivals = [{"__LANGUAGE__": "ru"}] * 9
    error = await refused(make_services(store=store), "setting.set", name="language", value="fa")
    assert error.code is ErrorCode.CONFLICT


def test_every_method_that_walks_the_store_or_asks_name_servers_may_take_long() -> None:
    assert {"task.run", "task.runAll", "task.expire", "queue.purge", "domain.checkDns"} < (
        SLOW_METHODS
    )
    assert set(METHODS) >= SLOW_METHODS
