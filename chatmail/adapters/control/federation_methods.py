"""Methods about other relays: policy, rules, dismissals, overrides, what was counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from chatmail.adapters.control.params import (
    Method,
    Params,
    Result,
    flag,
    invalid,
    missing,
    only,
    optional_text,
    text,
)
from chatmail.adapters.control.services import ControlServices
from chatmail.adapters.control.settings_methods import setting_outcome
from chatmail.domain.model.federation import (
    Dismissal,
    LedgerEvent,
    PeerAction,
    PeerHealth,
    PeerOverride,
    PeerRecord,
    PeerRule,
)
from chatmail.domain.usecases.manage_federation import BadWord, ManageFederation, PeerState
from chatmail.domain.wire.jsonrpc import ErrorCode, RpcError

_POLICY: Final = "__FEDERATION_POLICY__"
_ENABLED: Final = "__FEDERATION_ENABLED__"
_OK: Final = (LedgerEvent.OK_HTTPS, LedgerEvent.OK_HTTP, LedgerEvent.OK_SMTP)


def _federation(services: ControlServices) -> ManageFederation:
    if services.federation is None:
        raise missing("this version has no federation")
    return services.federation


# --- policy ---------------------------------------------------------------------------------------


async def _get(services: ControlServices, params: Params) -> Result:
    only(params)
    return await _policy(services)


async def _set(services: ControlServices, params: Params) -> Result:
    only(params, "enabled", "policy")
    changes: dict[str, str] = {}
    if "enabled" in params:
        changes[_ENABLED] = "true" if flag(params, "enabled") else "false"
    if "policy" in params:
        changes[_POLICY] = text(params, "policy").lower()
    if not changes:
        raise invalid("policy", "say what to change: enabled or policy")
    setting_outcome(await services.settings.set_many(changes))
    return await _policy(services)


async def _policy(services: ControlServices) -> dict[str, Any]:
    policy = await services.settings.get(_POLICY)
    enabled = await services.settings.get(_ENABLED)
    return {
        "enabled": enabled is not None and enabled.effective == "true",
        "policy": policy.effective.upper() if policy is not None else "",
    }


# --- rules ----------------------------------------------------------------------------------------


async def _list_rules(services: ControlServices, params: Params) -> Result:
    only(params)
    rules = [_rule_shown(rule) for rule in _federation(services).directory.rules()]
    return {"rules": rules, "total": len(rules)}


async def _add_rule(services: ControlServices, params: Params) -> Result:
    only(params, "domain", "action")
    action = optional_text(params, "action") or PeerAction.LISTED.value
    if action not in {one.value for one in PeerAction}:
        raise invalid("action", "is none of listed, block, allow")
    outcome = await _federation(services).put_rule(text(params, "domain"), PeerAction(action))
    rule = _sensible(outcome, "domain")
    return {**_rule_shown(rule), "total": len(_federation(services).directory.rules())}


async def _remove_rule(services: ControlServices, params: Params) -> Result:
    only(params, "domain")
    outcome = await _federation(services).remove_rule(text(params, "domain"))
    if not _sensible(outcome, "domain"):
        raise RpcError(ErrorCode.NOT_FOUND, "there is no such rule")
    return {
        "domain": text(params, "domain"),
        "remaining": len(_federation(services).directory.rules()),
    }


async def _clear_rules(services: ControlServices, params: Params) -> Result:
    only(params)
    return {"removed": await _federation(services).flush_rules()}


def _rule_shown(rule: PeerRule) -> dict[str, object]:
    return {
        "domain": rule.pattern,
        "action": rule.action.value,
        "created_at": rule.created_s,
    }


# --- dismissals -----------------------------------------------------------------------------------


async def _list_dismissals(services: ControlServices, params: Params) -> Result:
    only(params)
    found = [_dismissal_shown(one) for one in _federation(services).directory.dismissals()]
    return {"domains": found, "total": len(found)}


async def _dismiss(services: ControlServices, params: Params) -> Result:
    only(params, "domain")
    outcome = await _federation(services).dismiss(text(params, "domain"))
    dismissal = _sensible(outcome, "domain")
    total = len(_federation(services).directory.dismissals())
    return {**_dismissal_shown(dismissal), "total": total}


async def _undismiss(services: ControlServices, params: Params) -> Result:
    only(params, "domain")
    outcome = await _federation(services).undismiss(text(params, "domain"))
    if not _sensible(outcome, "domain"):
        raise RpcError(ErrorCode.NOT_FOUND, "mail to that domain is not dismissed")
    remaining = len(_federation(services).directory.dismissals())
    return {"domain": text(params, "domain"), "remaining": remaining}


async def _clear_dismissals(services: ControlServices, params: Params) -> Result:
    only(params)
    return {"removed": await _federation(services).flush_dismissals()}


def _dismissal_shown(one: Dismissal) -> dict[str, object]:
    return {"domain": one.pattern, "added": one.created_s}


# --- overrides ------------------------------------------------------------------------------------


async def _list_endpoints(services: ControlServices, params: Params) -> Result:
    only(params)
    found = [_override_shown(one) for one in _federation(services).directory.overrides()]
    return {"entries": found, "total": len(found)}


async def _set_endpoint(services: ControlServices, params: Params) -> Result:
    only(params, "lookup_key", "target_host", "comment", "smtp_fallback")
    outcome = await _federation(services).put_override(
        text(params, "lookup_key"),
        text(params, "target_host"),
        optional_text(params, "comment"),
        smtp_fallback=flag(params, "smtp_fallback", default=True),
    )
    return _override_shown(_sensible(outcome, "target_host"))


async def _get_endpoint(services: ControlServices, params: Params) -> Result:
    only(params, "lookup_key")
    outcome = _federation(services).override(text(params, "lookup_key"))
    if outcome is None:
        raise _no_override()
    return _override_shown(_sensible(outcome, "lookup_key"))


async def _remove_endpoint(services: ControlServices, params: Params) -> Result:
    only(params, "lookup_key")
    outcome = await _federation(services).remove_override(text(params, "lookup_key"))
    if not _sensible(outcome, "lookup_key"):
        raise _no_override()
    return {"deleted": text(params, "lookup_key")}


def _no_override() -> RpcError:
    return RpcError(ErrorCode.NOT_FOUND, "mail for that domain goes its usual way")


def _override_shown(one: PeerOverride) -> dict[str, object]:
    return {
        "lookup_key": one.domain,
        "target_host": one.target,
        "comment": one.comment,
        "smtp_fallback": one.smtp_fallback,
        "created_at": one.created_s,
    }


# --- what was learned and counted -----------------------------------------------------------------


async def _forget(services: ControlServices, params: Params) -> Result:
    only(params, "domain")
    outcome = await _federation(services).forget(text(params, "domain"))
    return {"domain": text(params, "domain"), "was_known": _sensible(outcome, "domain")}


async def _peers(services: ControlServices, params: Params) -> Result:
    only(params)
    peers = [_peer_shown(one) for one in await _federation(services).peers()]
    return {"servers": peers, "total": len(peers)}


def _peer_shown(peer: PeerState) -> dict[str, object]:
    record = peer.record or PeerRecord(domain=peer.domain, counts={})
    health = peer.health or PeerHealth(domain=peer.domain)
    counts = {event: record.counts.get(event, 0) for event in LedgerEvent}
    latency_ms = record.latency_sum_ms / record.latency_count if record.latency_count else 0.0
    return {
        "domain": peer.domain,
        "queued_messages": peer.backlog.entries if peer.backlog else 0,
        "success_https": counts[LedgerEvent.OK_HTTPS],
        "success_http": counts[LedgerEvent.OK_HTTP],
        "success_smtp": counts[LedgerEvent.OK_SMTP],
        "failed_https": counts[LedgerEvent.FAIL_HTTPS],
        "failed_http": counts[LedgerEvent.FAIL_HTTP],
        "failed_smtp": counts[LedgerEvent.FAIL_SMTP],
        "inbound_deliveries": counts[LedgerEvent.INBOUND_HTTP] + counts[LedgerEvent.INBOUND_SMTP],
        "successful_deliveries": sum(counts[event] for event in _OK),
        "bounced": counts[LedgerEvent.BOUNCED],
        "dismissed": counts[LedgerEvent.DISMISSED],
        "mean_latency_ms": round(latency_ms, 1),
        "last_active": max(record.last_ok_s, record.last_fail_s, health.updated_s),
        "last_error": record.last_error,
        "backoff_until": int(health.not_before_s),
    }


def _sensible(outcome: Any, field: str) -> Any:
    """Return what a use case did. Raises:  RpcError: what was said makes no sense."""
    if isinstance(outcome, BadWord):
        raise invalid(field, outcome.problem)
    return outcome


FEDERATION_METHODS: Final[Mapping[str, Method]] = {
    "federation.get": _get,
    "federation.set": _set,
    "federation.peers": _peers,
    "federation.forget": _forget,
    "federation.rule.list": _list_rules,
    "federation.rule.add": _add_rule,
    "federation.rule.remove": _remove_rule,
    "federation.rule.clear": _clear_rules,
    "federation.dismiss.list": _list_dismissals,
    "federation.dismiss.add": _dismiss,
    "federation.dismiss.remove": _undismiss,
    "federation.dismiss.clear": _clear_dismissals,
    "endpoint.list": _list_endpoints,
    "endpoint.set": _set_endpoint,
    "endpoint.get": _get_endpoint,
    "endpoint.remove": _remove_endpoint,
}
