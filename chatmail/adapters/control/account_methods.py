"""Methods about accounts and the block list."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from chatmail.adapters.control.params import (
    Method,
    Params,
    Result,
    address,
    flag,
    invalid,
    missing,
    number,
    only,
    optional_text,
)
from chatmail.adapters.control.services import AccountDesk, ControlServices
from chatmail.domain.formats.amounts import read_duration
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.ports.accounts import AccountSummary, BarredAddress
from chatmail.domain.usecases.manage_accounts import (
    MAX_SHOWN,
    AccountOrder,
    CannotCreate,
    Created,
)
from chatmail.domain.wire.jsonrpc import ErrorCode, RpcError

MAX_REASON: Final = 200


def _desk(services: ControlServices) -> AccountDesk:
    if services.accounts is None:
        raise missing("this version does not manage accounts")
    return services.accounts


async def _status(services: ControlServices, params: Params) -> Result:
    only(params)
    desk = _desk(services)
    totals = await desk.manage.totals()
    settings = desk.manage.settings()
    return {
        "login_count": totals.accounts,
        "registration_open": settings.registration.is_open,
        "token_required": settings.registration.require_token,
        "jit_enabled": settings.registration.jit,
        "blocklisted": totals.barred,
        "mail_directories": totals.accounts,
        "state_dir": desk.state_dir,
        "database": desk.database,
    }


async def _list(services: ControlServices, params: Params) -> Result:
    only(params, "q", "limit", "inactive", "over_quota", "sort")
    desk = _desk(services)
    found = await desk.manage.find(
        optional_text(params, "q"),
        number(params, "limit", MAX_SHOWN, MAX_SHOWN),
        inactive_s=_inactive_s(params),
        is_over_quota=flag(params, "over_quota"),
        order=_order(params),
    )
    maximum = desk.manage.settings().limits.max_mailbox_bytes
    shown = [_summary_shown(one, maximum) for one in found]
    return {"accounts": shown, "total": (await desk.manage.totals()).accounts}


async def _get(services: ControlServices, params: Params) -> Result:
    only(params, "username")
    desk, wanted = _desk(services), address(params, "username")
    facts = await desk.manage.facts(wanted)
    if facts is None:
        raise _unknown()
    maximum = desk.manage.settings().limits.max_mailbox_bytes
    found: dict[str, object] = {
        "username": str(wanted),
        "credentials": facts.summary is not None,
        "blocklisted": facts.barred is not None,
        "block_reason": facts.barred.reason if facts.barred else None,
        "maildir_present": facts.summary is not None,
        "maildir_path": None,
    }
    if facts.summary is not None:
        found.update(_summary_shown(facts.summary, maximum))
    return found


async def _create(services: ControlServices, params: Params) -> Result:
    only(params, "username", "password")
    desk = _desk(services)
    if params.get("username"):
        wanted = address(params, "username")
        outcome = await desk.manage.create(wanted, optional_text(params, "password"))
    else:
        outcome = await desk.manage.create_random()
    if isinstance(outcome, CannotCreate):
        code = ErrorCode.INVALID_PARAMS
        if outcome in (CannotCreate.EXISTS, CannotCreate.BARRED, CannotCreate.NO_NAME):
            code = ErrorCode.CONFLICT
        raise RpcError(code, f"the account was not created: {outcome.value}")
    return _created_shown(outcome, desk)


async def _delete(services: ControlServices, params: Params) -> Result:
    only(params, "username", "reason")
    wanted, reason = address(params, "username"), _reason(params)
    if not await _desk(services).manage.delete(wanted, reason):
        raise _unknown()
    return {"username": str(wanted), "reason": reason, "deleted": True, "blocked": True}


async def _list_blocks(services: ControlServices, params: Params) -> Result:
    only(params)
    entries = [_barred_shown(one) for one in await _desk(services).manage.block_list()]
    return {"entries": entries, "total": len(entries)}


async def _add_block(services: ControlServices, params: Params) -> Result:
    only(params, "username", "reason")
    wanted, reason = address(params, "username"), _reason(params)
    has_account = await _desk(services).manage.ban(wanted, reason)
    return {"username": str(wanted), "reason": reason, "has_account": has_account}


async def _remove_block(services: ControlServices, params: Params) -> Result:
    only(params, "username")
    wanted: EmailAddress = address(params, "username")
    if not await _desk(services).manage.unban(wanted):
        raise RpcError(ErrorCode.NOT_FOUND, "that address is not on the block list")
    return {"username": str(wanted)}


def _inactive_s(params: Params) -> float:
    given = optional_text(params, "inactive")
    try:
        return float(read_duration(given)) if given else 0.0
    except ValueError as problem:
        raise invalid("inactive", str(problem)) from None


def _order(params: Params) -> AccountOrder:
    try:
        return AccountOrder(optional_text(params, "sort") or AccountOrder.ADDRESS)
    except ValueError:
        raise invalid("sort", f"is none of {', '.join(AccountOrder)}") from None


def _reason(params: Params) -> str:
    return optional_text(params, "reason").strip()[:MAX_REASON]


def _unknown() -> RpcError:
    return RpcError(ErrorCode.NOT_FOUND, "there is no such account")


def _summary_shown(one: AccountSummary, maximum: int) -> dict[str, object]:
    return {
        "username": str(one.address),
        "used_bytes": one.used_bytes,
        "max_bytes": maximum,
        "is_default_quota": True,
        "messages": one.used_messages,
        "blocked": one.is_blocked,
        "created_at": one.created_s,
        "first_login_at": one.first_login_s or 0,
        "last_login_at": one.last_login_s or 0,
    }


def _barred_shown(one: BarredAddress) -> dict[str, object]:
    day = datetime.fromtimestamp(one.barred_s, UTC).isoformat().replace("+00:00", "Z")
    return {"username": str(one.address), "reason": one.reason, "blocked_at": day}


def _created_shown(created: Created, desk: AccountDesk) -> dict[str, object]:
    shown: dict[str, object] = {
        "username": str(created.address),
        "email": str(created.address),
        "password": created.password,
    }
    if desk.link is not None:
        shown["dclogin"] = desk.link(str(created.address), created.password)
    return shown


ACCOUNT_METHODS: Final[Mapping[str, Method]] = {
    "account.status": _status,
    "account.list": _list,
    "account.get": _get,
    "account.create": _create,
    "account.delete": _delete,
    "block.list": _list_blocks,
    "block.add": _add_block,
    "block.remove": _remove_block,
}
