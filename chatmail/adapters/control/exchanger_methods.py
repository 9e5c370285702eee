"""Methods about exchangers: which there are, and asking one at once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from chatmail.adapters.control.params import (
    Method,
    Params,
    Result,
    flag,
    invalid,
    missing,
    number,
    only,
    text,
)
from chatmail.adapters.control.services import ControlServices
from chatmail.domain.model.exchanger import Exchanger
from chatmail.domain.usecases.manage_exchangers import MAX_INTERVAL_S, ManageExchangers
from chatmail.domain.usecases.manage_federation import BadWord
from chatmail.domain.wire.jsonrpc import ErrorCode, RpcError


def _exchangers(services: ControlServices) -> ManageExchangers:
    if services.exchangers is None:
        raise missing("this version has no exchangers")
    return services.exchangers


async def _list(services: ControlServices, params: Params) -> Result:
    only(params)
    found = [_shown(one) for one in await _exchangers(services).all()]
    return {"exchangers": found, "total": len(found)}


async def _set(services: ControlServices, params: Params) -> Result:
    only(params, "name", "url", "poll_interval")
    desk = _exchangers(services)
    interval_s = number(params, "poll_interval", 60, MAX_INTERVAL_S)
    outcome = await desk.put(text(params, "name"), text(params, "url"), interval_s)
    if isinstance(outcome, BadWord):
        raise invalid("name or url", outcome.problem)
    return _shown(outcome)


async def _remove(services: ControlServices, params: Params) -> Result:
    only(params, "name")
    if not await _exchangers(services).remove(text(params, "name")):
        raise _unknown()
    return {"deleted": text(params, "name")}


async def _enable(services: ControlServices, params: Params) -> Result:
    only(params, "name", "enabled")
    is_enabled = flag(params, "enabled", default=True)
    if not await _exchangers(services).enable(text(params, "name"), is_enabled):
        raise _unknown()
    return {"updated": text(params, "name"), "enabled": is_enabled}


async def _poll(services: ControlServices, params: Params) -> Result:
    only(params, "name")
    desk = _exchangers(services)
    if desk.ask is None:
        raise missing("the server is not running")
    polled = await desk.poll(text(params, "name"))
    if polled is None:
        raise _unknown()
    return {
        "reached": polled.is_reached,
        "taken": polled.taken,
        "refused": polled.refused,
        "known": polled.known,
        "later": polled.later,
    }


def _unknown() -> RpcError:
    return RpcError(ErrorCode.NOT_FOUND, "there is no such exchanger")


def _shown(one: Exchanger) -> dict[str, object]:
    at = datetime.fromtimestamp(one.last_poll_s, UTC).isoformat() if one.last_poll_s else None
    return {
        "name": one.name,
        "url": one.url,
        "enabled": one.is_enabled,
        "poll_interval": one.interval_s,
        "last_poll_at": None if at is None else at.replace("+00:00", "Z"),
    }


EXCHANGER_METHODS: Final[Mapping[str, Method]] = {
    "exchanger.list": _list,
    "exchanger.set": _set,
    "exchanger.remove": _remove,
    "exchanger.enable": _enable,
    "exchanger.poll": _poll,
}
