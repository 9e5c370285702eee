"""Methods about the outbound queue. Addresses are shown: the operator asked; content never is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from chatmail.adapters.control.params import (
    Method,
    Params,
    Result,
    domain,
    invalid,
    missing,
    number,
    only,
    optional_text,
    text,
)
from chatmail.adapters.control.services import ControlServices
from chatmail.domain.model.address import AddressError, EmailAddress
from chatmail.domain.model.outbound import (
    OutboundEntry,
    OutboundMessageId,
    QueueFilter,
    parse_queue_name,
    queue_name,
)
from chatmail.domain.usecases.manage_queue import (
    MAX_SHOWN,
    PAGE,
    Cursor,
    Diagnostic,
    Explanation,
    ManageQueue,
    QueueState,
)
from chatmail.domain.wire.jsonrpc import ErrorCode, RpcError

_WANTED: Final = ("id", "domain", "sender", "recipient")


def _queue(services: ControlServices) -> ManageQueue:
    if services.queue is None:
        raise missing("this version has no queue")
    return services.queue


# --- parameters -----------------------------------------------------------------------------------


def _message(params: Params) -> OutboundMessageId:
    try:
        return parse_queue_name(text(params, "id").strip())
    except ValueError:
        raise invalid("id", "is no queue id (see: queue list)") from None


def _wanted(params: Params) -> QueueFilter:
    """Read which entries are meant; nothing said means all of them."""
    try:
        return QueueFilter(
            message=_message(params) if "id" in params else None,
            domain=domain(params, "domain") if params.get("domain") else "",
            sender=_address(params, "sender"),
            recipient=_address(params, "recipient"),
        )
    except AddressError as error:
        raise invalid("address", str(error)) from None


def _address(params: Params, name: str) -> str:
    given = optional_text(params, name).strip()
    return str(EmailAddress.parse(given)) if given else ""


def _named(params: Params) -> QueueFilter:
    """Like `_wanted`, but something has to be said: what follows cannot be undone."""
    if not any(params.get(name) for name in _WANTED):
        raise invalid("id", "say which: id, domain, sender or recipient")
    return _wanted(params)


def _cursor(params: Params) -> Cursor | None:
    given = optional_text(params, "cursor")
    if not given:
        return None
    id, _, recipient = given.partition(" ")
    try:
        return parse_queue_name(id), EmailAddress.parse(recipient)
    except ValueError:
        raise invalid("cursor", "is none of this list") from None


# --- methods --------------------------------------------------------------------------------------


async def _status(services: ControlServices, params: Params) -> Result:
    only(params)
    return _state_shown(await _queue(services).state())


async def _list(services: ControlServices, params: Params) -> Result:
    only(params, *_WANTED, "limit", "cursor")
    page = await _queue(services).page(
        _wanted(params), number(params, "limit", PAGE, MAX_SHOWN), _cursor(params)
    )
    last = page.entries[-1] if page.is_cut else None
    return {
        "entries": [_entry_shown(entry) for entry in page.entries],
        "cursor": f"{queue_name(last.message.id)} {last.recipient}" if last else None,
    }


async def _get(services: ControlServices, params: Params) -> Result:
    only(params, "id")
    found = await _queue(services).show(_message(params))
    if found is None:
        raise _unknown_message()
    message, entries = found
    return {
        "id": queue_name(message.id),
        "mail_from": str(message.reverse_path or ""),
        "size_bytes": message.size,
        "queued_at_unix": message.created_s,
        "is_report": message.is_report,
        "recipients": [_entry_shown(entry) for entry in entries],
    }


async def _retry(services: ControlServices, params: Params) -> Result:
    only(params, *_WANTED)
    wanted = _wanted(params)
    count = await _queue(services).retry(wanted)
    return {"retried": _some(count, wanted)}


async def _hold(services: ControlServices, params: Params) -> Result:
    only(params, *_WANTED)
    wanted = _named(params)
    return {"held": await _queue(services).hold(wanted, is_held=True)}


async def _release(services: ControlServices, params: Params) -> Result:
    only(params, *_WANTED)
    return {"released": await _queue(services).hold(_wanted(params), is_held=False)}


async def _delete(services: ControlServices, params: Params) -> Result:
    only(params, *_WANTED)
    wanted = _named(params)
    return {"removed": _some(await _queue(services).remove(wanted), wanted)}


async def _purge(services: ControlServices, params: Params) -> Result:
    only(params, *_WANTED)
    return {"removed": await _queue(services).remove(_wanted(params))}


async def _why(services: ControlServices, params: Params) -> Result:
    only(params, "domain")
    return _explanation_shown(await _queue(services).why(domain(params, "domain")))


def _some(count: int, wanted: QueueFilter) -> int:
    if wanted.message is not None and count == 0:
        raise _unknown_message()
    return count


def _unknown_message() -> RpcError:
    return RpcError(ErrorCode.NOT_FOUND, "there is no such message in the queue")


# --- shown ----------------------------------------------------------------------------------------


def _state_shown(state: QueueState) -> Result:
    settings = state.settings
    return {
        # The members of other servers' `queue status`; what has no meaning here is null.
        "path": "",
        "count": state.entries,
        "max_tries": None,
        "max_parallelism": settings.parallelism,
        "initial_retry_secs": settings.schedule_s[0],
        "retry_time_scale": None,
        "max_delivery_secs": settings.max_age_s,
        "post_init_delay_secs": settings.start_delay_s,
        "held": state.held,
        "oldest_unix": state.oldest_s,
        "destinations": [
            {
                "domain": one.backlog.domain,
                "entries": one.backlog.entries,
                "held": one.backlog.held,
                "oldest_unix": one.backlog.oldest_s,
                "next_due_unix": _whole(one.backlog.next_due_s),
                "backoff_until_unix": _whole(one.not_before_s or None),
            }
            for one in state.destinations
        ],
    }


def _entry_shown(entry: OutboundEntry) -> dict[str, object]:
    last = entry.last
    return {
        "id": queue_name(entry.message.id),
        "mail_from": str(entry.message.reverse_path or ""),
        "rcpt_to": str(entry.recipient),
        "domain": entry.domain,
        "size_bytes": entry.message.size,
        "tries_count": entry.attempts,
        "queued_at_unix": entry.message.created_s,
        "last_attempt_unix": last.at_s if last else None,
        "next_attempt_unix": _whole(entry.due_s),
        "held": entry.is_held,
        "last_error": last.reply if last else "",
        "last_transport": last.transport.value if last and last.transport else "",
        "last_host": last.host if last else "",
    }


def _explanation_shown(found: Explanation) -> Result:
    health, override = found.health, found.override
    return {
        "domain": found.domain,
        "entries": found.entries,
        "held": found.held,
        "oldest_unix": found.oldest_s,
        "next_due_unix": _whole(found.next_due_s),
        "backoff_until_unix": _whole(health.not_before_s or None),
        "unreachable_since_unix": health.connect_fail_since_s or None,
        "failed_connects": health.connect_fail_streak,
        "https_skipped_until_unix": health.https_block_until_s or None,
        "last_ok": {
            "https": health.last_ok_https_s or None,
            "http": health.last_ok_http_s or None,
            "smtp": health.last_ok_smtp_s or None,
        },
        "override": override.target if override else None,
        "last_error": found.record.last_error if found.record else "",
        "diagnostics": [_diagnostic_shown(one) for one in found.diagnostics],
        "cut": found.is_cut,
    }


def _diagnostic_shown(one: Diagnostic) -> dict[str, object]:
    return {
        "reply": one.reply,
        "transport": one.transport.value if one.transport else "",
        "host": one.host,
        "entries": one.entries,
        "last_unix": one.last_s,
    }


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)


QUEUE_METHODS: Final[Mapping[str, Method]] = {
    "queue.status": _status,
    "queue.list": _list,
    "queue.get": _get,
    "queue.retry": _retry,
    "queue.hold": _hold,
    "queue.release": _release,
    "queue.delete": _delete,
    "queue.purge": _purge,
    "queue.why": _why,
}
