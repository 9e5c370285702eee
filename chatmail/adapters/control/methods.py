"""The methods of the control socket: parameters checked, use cases called, results as JSON.

Names are those of spec admin 2; the shorter ones are aliases.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import attrs

from chatmail.adapters.control.services import ControlServices, Operation, Tasks
from chatmail.domain.formats.amounts import read_duration
from chatmail.domain.model.errors import Overloaded, TransientFailure
from chatmail.domain.usecases.change_settings import (
    Changed,
    ChangeOutcome,
    InvalidSetting,
    SettingsBusy,
    SettingView,
    UnknownSetting,
)
from chatmail.domain.wire.jsonrpc import ErrorCode, RpcError

Params: TypeAlias = Mapping[str, Any]
Result: TypeAlias = object
Method: TypeAlias = Callable[[ControlServices, Params], Awaitable[Result]]

MAX_NAMES: Final = 200


async def call(services: ControlServices, method: str, params: Params) -> Result:
    """Run one method.

    Raises:  RpcError: with what the caller is to be told.
    """
    found = METHODS.get(method)
    if found is None:
        raise RpcError(ErrorCode.UNKNOWN_METHOD, f"there is no method {method[:64]!r}")
    try:
        return await found(services, params)
    except Overloaded:
        raise RpcError(ErrorCode.UNAVAILABLE, "too much is waiting; try again") from None
    except TransientFailure:
        raise RpcError(ErrorCode.UNAVAILABLE, "the store is not available; try again") from None


# --- parameters -----------------------------------------------------------------------------------


def _only(params: Params, *names: str) -> None:
    for name in params:
        if name not in names:
            raise _invalid(str(name)[:64], "there is no such parameter")


def _invalid(field: str, message: str) -> RpcError:
    return RpcError(ErrorCode.INVALID_PARAMS, f"{field}: {message}", field=field)


def _text(params: Params, name: str) -> str:
    value = params.get(name)
    if not isinstance(value, str) or not value:
        raise _invalid(name, "is missing or not a text")
    return value


def _as_text(field: str, value: object) -> str:
    """Take texts, numbers and switches as values of settings (spec admin 1.7)."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
    raise _invalid(field, "is neither a text, a number nor a switch")


def _names(params: Params) -> list[str]:
    if "name" in params:
        return [_text(params, "name")]
    names = params.get("names")
    if (
        not isinstance(names, list)
        or not 0 < len(names) <= MAX_NAMES
        or not all(isinstance(name, str) for name in names)
    ):
        raise _invalid("names", "is missing or not a list of texts")
    return names


# --- settings -------------------------------------------------------------------------------------


async def _list_settings(services: ControlServices, params: Params) -> Result:
    _only(params)
    return {"settings": [_shown(view) for view in await services.settings.list()]}


async def _get_setting(services: ControlServices, params: Params) -> Result:
    _only(params, "name")
    name = _text(params, "name")
    view = await services.settings.get(name)
    if view is None:
        raise _no_setting(name)
    return _shown(view)


async def _set_setting(services: ControlServices, params: Params) -> Result:
    _only(params, "name", "value")
    name = _text(params, "name")
    return _outcome(
        await services.settings.set_many({name: _as_text("value", params.get("value"))})
    )


async def _set_settings(services: ControlServices, params: Params) -> Result:
    _only(params, "values")
    values = params.get("values")
    if not isinstance(values, dict) or not 0 < len(values) <= MAX_NAMES:
        raise _invalid("values", "is missing or not an object")
    texts = {name: _as_text("values", value) for name, value in values.items()}
    return _outcome(await services.settings.set_many(texts))


async def _reset_settings(services: ControlServices, params: Params) -> Result:
    _only(params, "name", "names")
    return _outcome(await services.settings.reset(_names(params)))


def _outcome(outcome: ChangeOutcome) -> Result:
    match outcome:
        case Changed():
            views = [_shown(view) for view in outcome.settings]
            return {"generation": outcome.generation, "settings": views}
        case UnknownSetting():
            raise _no_setting(outcome.name)
        case InvalidSetting():
            raise RpcError(
                ErrorCode.INVALID_PARAMS,
                outcome.problems[0],
                field=outcome.key,
                reasons=outcome.problems,
            )
        case SettingsBusy():
            raise RpcError(ErrorCode.CONFLICT, "somebody else changes settings; try again")


def _no_setting(name: str) -> RpcError:
    return RpcError(ErrorCode.NOT_FOUND, f"there is no setting {name[:64]!r}")


def _shown(view: SettingView) -> dict[str, object]:
    shown = attrs.asdict(view)
    shown["type"] = shown.pop("kind")
    shown["restart_required"] = shown.pop("is_pending")
    return shown


# --- tasks ----------------------------------------------------------------------------------------


def _tasks(services: ControlServices) -> Tasks:
    if services.tasks is None:
        raise RpcError(ErrorCode.UNAVAILABLE, "this version has no maintenance tasks")
    return services.tasks


async def _list_tasks(services: ControlServices, params: Params) -> Result:
    _only(params)
    return {"tasks": list(_tasks(services).names())}


async def _run_task(services: ControlServices, params: Params) -> Result:
    _only(params, "task", "dry_run", "retention")
    name = _text(params, "task")
    report = await _tasks(services).run(
        name, is_dry_run=_dry_run(params), retention_s=_retention_s(params)
    )
    if report is None:
        raise RpcError(ErrorCode.NOT_FOUND, f"there is no task {name[:64]!r}")
    return dict(report)


async def _run_all_tasks(services: ControlServices, params: Params) -> Result:
    return await _run_tasks(services, params, _tasks(services).names())


async def _expire(services: ControlServices, params: Params) -> Result:
    return await _run_tasks(services, params, _tasks(services).expiring())


async def _run_tasks(services: ControlServices, params: Params, names: Sequence[str]) -> Result:
    _only(params, "dry_run")
    tasks, is_dry_run = _tasks(services), _dry_run(params)
    reports = [await tasks.run(name, is_dry_run=is_dry_run, retention_s=None) for name in names]
    return {"reports": [dict(report) for report in reports if report is not None]}


def _dry_run(params: Params) -> bool:
    is_dry_run = params.get("dry_run", False)
    if not isinstance(is_dry_run, bool):
        raise _invalid("dry_run", "is not true or false")
    return is_dry_run


def _retention_s(params: Params) -> int | None:
    text = params.get("retention")
    if text is None:
        return None
    try:
        seconds = read_duration(_as_text("retention", text))
    except ValueError as problem:
        raise _invalid("retention", str(problem)) from None
    if seconds < 1:
        raise _invalid("retention", "is 0")
    return seconds


# --- the relay ------------------------------------------------------------------------------------


def _operation(services: ControlServices) -> Operation:
    if services.operation is None:
        raise RpcError(ErrorCode.UNAVAILABLE, "the server is not running")
    return services.operation


async def _status(services: ControlServices, params: Params) -> Result:
    _only(params)
    return dict(_operation(services).status())


async def _reload(services: ControlServices, params: Params) -> Result:
    _only(params)
    problems = await _operation(services).reload()
    if problems:
        raise RpcError(ErrorCode.CONFLICT, problems[0], reasons=problems)
    return {"reloaded": True}


async def _ping(services: ControlServices, params: Params) -> Result:
    _only(params)
    return "pong"


METHODS: Final[Mapping[str, Method]] = {
    "rpc.ping": _ping,
    "setting.list": _list_settings,
    "setting.get": _get_setting,
    "setting.set": _set_setting,
    "setting.setMany": _set_settings,
    "setting.reset": _reset_settings,
    "task.list": _list_tasks,
    "task.run": _run_task,
    "task.runAll": _run_all_tasks,
    "task.expire": _expire,
    "server.status": _status,
    "server.reload": _reload,
    "settings.list": _list_settings,
    "settings.get": _get_setting,
    "settings.set": _set_setting,
    "settings.reset": _reset_settings,
    "status.get": _status,
    "reload": _reload,
}
SLOW_METHODS: Final = frozenset({"task.run", "task.runAll", "task.expire"})
"""They walk over the whole store."""
