"""Methods about settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from chatmail.adapters.control.params import (
    MAX_NAMES,
    Method,
    Params,
    Result,
    as_text,
    invalid,
    names,
    only,
    text,
)
from chatmail.adapters.control.services import ControlServices
from chatmail.domain.usecases.change_settings import (
    Changed,
    ChangeOutcome,
    InvalidSetting,
    SettingsBusy,
    SettingView,
    UnknownSetting,
)
from chatmail.domain.wire.jsonrpc import ErrorCode, RpcError


async def _list_settings(services: ControlServices, params: Params) -> Result:
    only(params)
    return {"settings": [_shown(view) for view in await services.settings.list()]}


async def _get_setting(services: ControlServices, params: Params) -> Result:
    only(params, "name")
    name = text(params, "name")
    view = await services.settings.get(name)
    if view is None:
        raise _no_setting(name)
    return _shown(view)


async def _set_setting(services: ControlServices, params: Params) -> Result:
    only(params, "name", "value")
    name = text(params, "name")
    return setting_outcome(
        await services.settings.set_many({name: as_text("value", params.get("value"))})
    )


async def _set_settings(services: ControlServices, params: Params) -> Result:
    only(params, "values")
    values = params.get("values")
    if not isinstance(values, dict) or not 0 < len(values) <= MAX_NAMES:
        raise invalid("values", "is missing or not an object")
    texts = {name: as_text("values", value) for name, value in values.items()}
    return setting_outcome(await services.settings.set_many(texts))


async def _reset_settings(services: ControlServices, params: Params) -> Result:
    only(params, "name", "names")
    return setting_outcome(await services.settings.reset(names(params)))


def setting_outcome(outcome: ChangeOutcome) -> Result:
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


SETTING_METHODS: Final[Mapping[str, Method]] = {
    "setting.list": _list_settings,
    "setting.get": _get_setting,
    "setting.set": _set_setting,
    "setting.setMany": _set_settings,
    "setting.reset": _reset_settings,
    "settings.list": _list_settings,
    "settings.get": _get_setting,
    "settings.set": _set_setting,
    "settings.reset": _reset_settings,
}
