"""`status`, `reload`, `version`."""

from __future__ import annotations

import platform
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import chatmail
from chatmail.adapters.control.client import NotRunning
from chatmail.app.cli.context import Context
from chatmail.app.cli.output import CommandFailed, Exit, Reply
from chatmail.app.cli.queue import ago
from chatmail.domain.formats.amounts import show_duration


def show_status(context: Context, options: Namespace) -> Reply:
    """Show how the relay is; with `check` the exit code says whether it is well."""
    try:
        if context.is_offline:
            raise NotRunning
        status = context.call_server("server.status", {})
    except NotRunning:
        if options.check:
            raise CommandFailed(Exit.NOT_RUNNING, "the server is not running") from None
        return Reply(lines=["chatmail is not running"], data={"running": False})
    failing = [check for check in status["checks"] if not check["ok"]]
    code = Exit.CHECK_FAILED if options.check and failing else Exit.OK
    return Reply(
        lines=_lines(status, has_details=options.details),
        data={"running": True, **status},
        code=code,
    )


def _lines(status: Mapping[str, Any], *, has_details: bool) -> list[str]:
    registration, certificate = status["registration"], status["certificate"]
    ways = [
        name
        for name, is_on in (
            ("/new", registration["open"]),
            ("first login", registration["jit"]),
        )
        if is_on and not registration["token_required"]
    ]
    lines = [
        f"domain: {status['domain']}",
        f"chatmail {status['version']}, pid {status['pid']}, "
        f"up {show_duration(status['uptime_seconds'])}",
        f"accounts: {status['registered_users']}",
        f"new accounts: {' and '.join(ways) or 'none'}",
        f"certificate: {certificate['days_left']} days left",
        f"privacy contact: {status['privacy_contact'].removeprefix('mailto:') or 'missing'}",
    ]
    for service in status["services"]:
        ports = [
            f"{one['host']}:{one['port']}"
            for one in status["listeners"]
            if has_details and one["service"].startswith(service["name"])
        ]
        shown = f" on {', '.join(ports)}" if ports else ""
        lines.append(f"{service['name']}: {service['connections']} connections{shown}")
    lines += _federation_lines(status)
    pending = status["settings"]["pending_reload"]
    lines += [f"warning: {key} waits for: chatmail reload" for key in pending]
    lines += [f"warning: {text}" for text in status["warnings"]]
    lines += [
        f"warning: {check['name']}: {check['remedy']}"
        for check in status["checks"]
        if not check["ok"]
    ]
    return lines


def _federation_lines(status: Mapping[str, Any]) -> list[str]:
    lines = []
    if "queue" in status and status["queue"]["count"]:
        queue = status["queue"]
        lines.append(f"queue: {queue['count']} deliveries wait, oldest {ago(queue['oldest_unix'])}")
    if "dns" in status:
        dns = status["dns"]
        wrong = ", ".join(dns["missing"])
        state = f"missing or wrong: {wrong}" if wrong else "all required records are there"
        lines.append(f"dns ({ago(dns['checked_unix'])}): {state}")
    return lines


def reload(context: Context, options: Namespace) -> Reply:
    """Have the server follow its file."""
    return Reply(lines=["reloaded"], data=context.call_running("server.reload"))


def show_version(context: Context, options: Namespace) -> Reply:
    """Show what this program is."""
    python = platform.python_version()
    return Reply(
        lines=[f"chatmail {chatmail.__version__} (Python {python})"],
        data={"name": "chatmail", "version": chatmail.__version__, "python": python},
    )
