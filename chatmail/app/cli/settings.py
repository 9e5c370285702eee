"""`settings`, and the commands that are settings under another name."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any, Final

from chatmail.app.cli.context import Context
from chatmail.app.cli.output import Reply, table
from chatmail.domain.formats.amounts import read_size

PENDING: Final = "waits for: chatmail reload"
_SIZES: Final = ("__APPENDLIMIT__", "__MAX_MESSAGE_SIZE__")
_QUOTA: Final = "__GLOBAL_DEFAULT__"

Setting = Mapping[str, Any]


# --- settings -------------------------------------------------------------------------------------


def list_settings(context: Context, options: Namespace) -> Reply:
    """Show every setting that means something in this version, or really all."""
    settings = context.call("setting.list")["settings"]
    shown = [one for one in settings if options.all or one["applies"] != "-" or one["is_set"]]
    rows = [("NAME", "VALUE", "FROM", "APPLIES")]
    rows += [(one["name"], _line(one["effective"]), one["source"], _applies(one)) for one in shown]
    return Reply(lines=table(rows), data={"settings": settings})


def get_setting(context: Context, options: Namespace) -> Reply:
    """Show one setting."""
    one = context.call("setting.get", {"name": options.name})
    return Reply(lines=[f"{one['name']} = {_described(one)}"], data=one)


def set_setting(context: Context, options: Namespace) -> Reply:
    """Store one setting."""
    params = {"name": options.name, "value": options.value}
    return _changed(context.call("setting.set", params))


def reset_settings(context: Context, options: Namespace) -> Reply:
    """Forget stored settings."""
    return _changed(context.call("setting.reset", {"names": options.names}))


def _changed(result: Mapping[str, Any]) -> Reply:
    settings = result["settings"]
    lines = [f"{one['name']} = {_described(one)}" for one in settings]
    return Reply(
        lines=lines or ["done"],
        data={**result, "reload_required": any(one["restart_required"] for one in settings)},
    )


def _described(one: Setting) -> str:
    remarks = [str(one["source"])]
    if one["restart_required"]:
        remarks.append(PENDING)
    elif one["applies"] == "-":
        remarks.append("has no effect in this version")
    elif one["value"] and one["value"] != one["effective"]:
        remarks.append(f"stored: {_line(one['value'])}")
    return f"{_line(one['effective'])} ({', '.join(remarks)})"


def _applies(one: Setting) -> str:
    return PENDING if one["restart_required"] else str(one["applies"])


def _line(text: str) -> str:
    return ", ".join(text.splitlines()) or "-"


# --- registration ---------------------------------------------------------------------------------


def registration(context: Context, options: Namespace) -> Reply:
    """Open, close or show `/new`."""
    one = _switch(context, "__REGISTRATION_OPEN__", {"open": True, "close": False}, options.action)
    is_open = one["effective"] == "true"
    lines = [f"registration is {'open' if is_open else 'closed'}"]
    if options.action == "status":
        for name, text in (
            ("__JIT_REGISTRATION_ENABLED__", "a first login creates its account (jit)"),
            ("__REGISTRATION_TOKEN_REQUIRED__", "a token is required"),
        ):
            is_on = context.call("setting.get", {"name": name})["effective"] == "true"
            lines.append(f"{text}: {'yes' if is_on else 'no'}")
    return Reply(lines=lines, data={"open": is_open, "reload_required": False})


def registration_jit(context: Context, options: Namespace) -> Reply:
    """Enable, disable or show accounts by first login."""
    words = {"enable": True, "disable": False}
    one = _switch(context, "__JIT_REGISTRATION_ENABLED__", words, options.action)
    is_on = one["effective"] == "true"
    return Reply(
        lines=[f"accounts by first login (jit): {'enabled' if is_on else 'disabled'}"],
        data={"enabled": is_on, "reload_required": False},
    )


def _switch(context: Context, key: str, words: Mapping[str, bool], action: str) -> Setting:
    if action in words:
        params = {"name": key, "value": words[action]}
        changed: Setting = context.call("setting.set", params)["settings"][0]
        return changed
    found: Setting = context.call("setting.get", {"name": key})
    return found


# --- sizes ----------------------------------------------------------------------------------------


def message_size(context: Context, options: Namespace) -> Reply:
    """Show, set or reset how large a message may be."""
    if options.action == "set":
        context.call("setting.setMany", {"values": dict.fromkeys(_SIZES, options.size)})
    elif options.action == "reset":
        context.call("setting.reset", {"names": list(_SIZES)})
    limit, size = (context.call("setting.get", {"name": key}) for key in _SIZES)
    source = "setting" if "setting" in (limit["source"], size["source"]) else size["source"]
    return Reply(
        lines=[f"messages may have {size['effective']} ({source})"],
        data={
            "appendlimit": limit["value"] or None,
            "max_message_size": size["value"] or None,
            "effective_bytes": read_size(size["effective"]),
            "source": source,
            "reload_required": False,
        },
    )


def federation_size(context: Context, options: Namespace) -> Reply:
    """Show, set or reset how large a message from another relay may be."""
    key = "__MAX_FEDERATION_SIZE__"
    if options.action == "set":
        context.call("setting.set", {"name": key, "value": options.size})
    elif options.action == "reset":
        context.call("setting.reset", {"name": key})
    one = context.call("setting.get", {"name": key})
    return Reply(
        lines=[f"messages from other relays may have {one['effective']} ({one['source']})"],
        data={
            "max_federation_size": one["value"] or None,
            "effective_bytes": read_size(one["effective"]),
            "source": one["source"],
            "reload_required": False,
        },
    )


def default_quota(context: Context, options: Namespace) -> Reply:
    """Show, set or reset what an account may hold."""
    if options.reset:
        context.call("setting.reset", {"name": _QUOTA})
    elif options.size is not None:
        context.call("setting.set", {"name": _QUOTA, "value": options.size})
    one = context.call("setting.get", {"name": _QUOTA})
    octets = int(one["effective"])
    return Reply(
        lines=[f"an account may hold {octets} octets ({one['source']})"],
        data={"default_quota_bytes": octets, "source": one["source"], "reload_required": False},
    )
