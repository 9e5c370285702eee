"""The methods of the control socket: parameters checked, use cases called, results as JSON.

Names are those of spec admin 2; the shorter ones are aliases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from chatmail.adapters.control.account_methods import ACCOUNT_METHODS
from chatmail.adapters.control.dns_methods import DNS_METHODS
from chatmail.adapters.control.exchanger_methods import EXCHANGER_METHODS
from chatmail.adapters.control.federation_methods import FEDERATION_METHODS
from chatmail.adapters.control.params import (
    Method,
    Params,
    Result,
    as_text,
    flag,
    invalid,
    only,
    text,
)
from chatmail.adapters.control.queue_methods import QUEUE_METHODS
from chatmail.adapters.control.services import ControlServices, Operation, Tasks
from chatmail.adapters.control.settings_methods import SETTING_METHODS
from chatmail.domain.formats.amounts import read_duration
from chatmail.domain.model.errors import Overloaded, PermanentFailure, TransientFailure
from chatmail.domain.wire.jsonrpc import ErrorCode, RpcError


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
    except PermanentFailure as failure:  # a key file, say; its text is for the operator
        raise RpcError(ErrorCode.UNAVAILABLE, str(failure)) from None


# --- tasks ----------------------------------------------------------------------------------------


def _tasks(services: ControlServices) -> Tasks:
    if services.tasks is None:
        raise RpcError(ErrorCode.UNAVAILABLE, "this version has no maintenance tasks")
    return services.tasks


async def _list_tasks(services: ControlServices, params: Params) -> Result:
    only(params)
    return {"tasks": list(_tasks(services).names())}


async def _run_task(services: ControlServices, params: Params) -> Result:
    only(params, "task", "dry_run", "retention")
    name = text(params, "task")
    report = await _tasks(services).run(
        name, is_dry_run=flag(params, "dry_run"), retention_s=_retention_s(params)
    )
    if report is None:
        raise RpcError(ErrorCode.NOT_FOUND, f"there is no task {name[:64]!r}")
    return dict(report)


async def _run_all_tasks(services: ControlServices, params: Params) -> Result:
    return await _run_tasks(services, params, _tasks(services).names())


async def _expire(services: ControlServices, params: Params) -> Result:
    return await _run_tasks(services, params, _tasks(services).expiring())


async def _run_tasks(services: ControlServices, params: Params, names: Sequence[str]) -> Result:
    only(params, "dry_run")
    tasks, is_dry_run = _tasks(services), flag(params, "dry_run")
    reports = [await tasks.run(name, is_dry_run=is_dry_run, retention_s=None) for name in names]
    return {"reports": [dict(report) for report in reports if report is not None]}


def _retention_s(params: Params) -> int | None:
    given = params.get("retention")
    if given is None:
        return None
    try:
        seconds = read_duration(as_text("retention", given))
    except ValueError as problem:
        raise invalid("retention", str(problem)) from None
    if seconds < 1:
        raise invalid("retention", "is 0")
    return seconds


# --- the relay ------------------------------------------------------------------------------------


def _operation(services: ControlServices) -> Operation:
    if services.operation is None:
        raise RpcError(ErrorCode.UNAVAILABLE, "the server is not running")
    return services.operation


async def _status(services: ControlServices, params: Params) -> Result:
    only(params)
    status = dict(_operation(services).status())
    if services.queue is not None:
        queue = await services.queue.state()
        status["queue"] = {
            "count": queue.entries,
            "held": queue.held,
            "oldest_unix": queue.oldest_s,
        }
    if services.dns is not None and services.dns.last.at_s:
        last = services.dns.last
        status["dns"] = {"checked_unix": last.at_s, "missing": list(last.missing)}
    return status


async def _reload(services: ControlServices, params: Params) -> Result:
    only(params)
    problems = await _operation(services).reload()
    if problems:
        raise RpcError(ErrorCode.CONFLICT, problems[0], reasons=problems)
    return {"reloaded": True}


async def _ping(services: ControlServices, params: Params) -> Result:
    only(params)
    return "pong"


METHODS: Final[Mapping[str, Method]] = {
    "rpc.ping": _ping,
    **SETTING_METHODS,
    **QUEUE_METHODS,
    **FEDERATION_METHODS,
    **EXCHANGER_METHODS,
    **DNS_METHODS,
    **ACCOUNT_METHODS,
    "task.list": _list_tasks,
    "task.run": _run_task,
    "task.runAll": _run_all_tasks,
    "task.expire": _expire,
    "server.status": _status,
    "server.reload": _reload,
    "status.get": _status,
    "reload": _reload,
}
SLOW_METHODS: Final = frozenset(
    {
        "task.run",
        "task.runAll",
        "task.expire",
        "queue.retry",
        "queue.delete",
        "queue.purge",
        "queue.why",
        "account.list",
        "domain.checkDns",
        "dkim.check",
        "dkim.rotate",
        "exchanger.poll",
    }
)
"""They walk over the whole store, or wait for name servers."""
