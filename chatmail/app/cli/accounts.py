"""`accounts`: who has one, who may have one."""

from __future__ import annotations

import getpass
import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from chatmail.app.cli.command import (
    ABORTED,
    Command,
    is_sure,
    option,
    positional,
    switch,
    takes,
)
from chatmail.app.cli.context import Context
from chatmail.app.cli.output import CommandFailed, Exit, Reply, table

Account = Mapping[str, Any]

_ORDERS: Final = ("address", "used", "created", "last-login")  # `AccountOrder`


def show_accounts(context: Context, options: Namespace) -> Reply:
    """Show how many accounts there are, and who may get one."""
    found = context.call("account.status")
    ways = [
        name
        for name, is_on in (
            ("/new", found["registration_open"]),
            ("first login", found["jit_enabled"]),
        )
        if is_on and not found["token_required"]
    ]
    lines = [
        f"{found['login_count']} accounts, {found['blocklisted']} addresses blocked",
        f"new accounts: {' and '.join(ways) or 'none'}",
        f"state: {found['state_dir']}, database: {found['database']}",
    ]
    return Reply(lines=lines, data=found)


def list_accounts(context: Context, options: Namespace) -> Reply:
    """Show accounts by address."""
    params: dict[str, object] = {
        "q": options.q,
        "inactive": options.inactive,
        "over_quota": options.over_quota,
        "sort": options.sort,
    }
    if options.limit:
        params["limit"] = options.limit
    found = context.call("account.list", params)
    rows = [("ADDRESS", "OCTETS", "MESSAGES", "CREATED", "LAST LOGIN", "")]
    rows += [
        (
            one["username"],
            str(one["used_bytes"]),
            str(one["messages"]),
            _day(one["created_at"]),
            _day(one["last_login_at"]),
            "blocked" if one["blocked"] else "",
        )
        for one in found["accounts"]
    ]
    lines = table(rows) if found["accounts"] else ["there are no such accounts"]
    return Reply(lines=lines, data=found)


def show_account(context: Context, options: Namespace) -> Reply:
    """Show what is known of an address."""
    one = context.call("account.get", {"username": options.user})
    lines = [one["username"]]
    if one["credentials"]:
        lines += [
            f"holds {one['messages']} messages, {one['used_bytes']} of {one['max_bytes']} octets",
            f"created {_day(one['created_at'])}, first login {_day(one['first_login_at'])}, "
            f"last login {_day(one['last_login_at'])}",
        ]
    else:
        lines.append("has no account")
    if one["blocklisted"]:
        lines.append(f"is on the block list: {one['block_reason']}")
    return Reply(lines=lines, data=one)


def create(context: Context, options: Namespace) -> Reply:
    """Create an account."""
    params = {"username": options.user, "password": _password(options)}
    made = context.call("account.create", params)
    if options.json_only:
        return _bare_link(made)
    lines = [f"{made['username']} was created"]
    if not params["password"]:
        lines.append(f"password: {made['password']}")
        return Reply(lines=lines, data=made)
    shown = {key: value for key, value in made.items() if key not in ("password", "dclogin")}
    return Reply(lines=lines, data=shown)


def create_random(context: Context, options: Namespace) -> Reply:
    """Create an account with a drawn name and password."""
    made = context.call("account.create", {})
    if options.json_only:
        return _bare_link(made)
    lines = [f"address: {made['email']}", f"password: {made['password']}"]
    if "dclogin" in made:
        lines.append(f"for Delta Chat: {made['dclogin']}")
    return Reply(lines=lines, data=made)


def _bare_link(made: Account) -> Reply:
    link = {"dclogin": made.get("dclogin", "")}
    return Reply(lines=[json.dumps(link)], data=link)


def _password(options: Namespace) -> str:
    if options.password_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if options.password:
        # spec admin 4.1: it works, but others see it in the list of processes.
        sys.stderr.write("warning: a password on the command line can be seen by others\n")
        return str(options.password)
    if options.ask_password:
        if not sys.stdin.isatty():
            raise CommandFailed(Exit.USAGE, "there is no terminal to ask on: --password-stdin")
        return getpass.getpass("Password: ")
    return ""


def delete(context: Context, options: Namespace) -> Reply:
    """Delete an account with all its mail, and block its address."""
    question = f"Delete {options.user} with all its mail, and block the address?"
    if not is_sure(options, question):
        return ABORTED
    result = context.call("account.delete", _named(options))
    lines = [f"{result['username']} was deleted; nobody can register the address"]
    return Reply(lines=lines, data=result)


def ban(context: Context, options: Namespace) -> Reply:
    """Block an address."""
    result = context.call("block.add", _named(options))
    lines = [f"{result['username']} is blocked: no login, no mail, no new account"]
    if not result["has_account"]:
        lines.append("there is no account of this address")
    return Reply(lines=lines, data=result)


def unban(context: Context, options: Namespace) -> Reply:
    """Lift a block."""
    result = context.call("block.remove", {"username": options.user})
    return Reply(lines=[f"{result['username']} is not blocked any more"], data=result)


def list_bans(context: Context, options: Namespace) -> Reply:
    """Show the block list."""
    found = context.call("block.list")
    rows = [(one["username"], one["blocked_at"][:10], one["reason"]) for one in found["entries"]]
    return Reply(lines=table(rows) if rows else ["nobody is blocked"], data=found)


def _named(options: Namespace) -> dict[str, object]:
    reason = " ".join(options.reason) or options.why
    return {"username": options.user, "reason": reason}


def _day(unix: int) -> str:
    return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d}" if unix else "never"


def _reason(parser: ArgumentParser) -> None:
    parser.add_argument("reason", metavar="REASON", nargs="*", help="for the block list")
    parser.add_argument("--reason", dest="why", metavar="REASON", default="", help="the same")


def _passwords(parser: ArgumentParser) -> None:
    way = parser.add_mutually_exclusive_group()
    way.add_argument("-p", "--password", metavar="X", default="", help="can be seen by others")
    way.add_argument("--password-stdin", action="store_true", help="read it from a pipe")
    way.add_argument("--ask-password", action="store_true", help="ask on the terminal")


def _limit(parser: ArgumentParser) -> None:
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="at most so many")
    parser.add_argument(
        "--sort",
        choices=_ORDERS,
        default=_ORDERS[0],
        help="most octets, newest, longest unused first",
    )


_user = positional("user", "an address of this relay")
_json_only = switch("--json-only", 'print {"dclogin": ...} alone')

ACCOUNT_COMMANDS: Final[Sequence[Command]] = (
    Command(path=("accounts", "status"), run=show_accounts, help="how many there are"),
    Command(
        path=("accounts", "list"),
        run=list_accounts,
        help="accounts by address",
        arguments=takes(
            option("--q", "TEXT", "only addresses with this in them"),
            option("--inactive", "DURATION", "only those nobody used for so long, e.g. 90d"),
            switch("--over-quota", "only those that hold more than they may"),
            _limit,
        ),
    ),
    Command(
        path=("accounts", "info"),
        run=show_account,
        help="what is known of an address",
        arguments=_user,
    ),
    Command(
        path=("accounts", "create"),
        run=create,
        help="create an account",
        about="Without a password one is drawn and shown once.",
        arguments=takes(_user, _passwords, _json_only),
        aliases=(("create-user",),),
    ),
    Command(
        path=("accounts", "create-random"),
        run=create_random,
        help="create an account with a drawn name",
        arguments=_json_only,
    ),
    Command(
        path=("accounts", "delete"),
        run=delete,
        help="delete an account with all its mail; its address is blocked",
        arguments=takes(_user, _reason),
        aliases=(("delete",),),
    ),
    Command(
        path=("accounts", "ban"),
        run=ban,
        help="block an address",
        arguments=takes(_user, _reason),
        aliases=(("blocklist", "add"),),
    ),
    Command(
        path=("accounts", "unban"),
        run=unban,
        help="lift a block",
        arguments=_user,
        aliases=(("blocklist", "remove"),),
    ),
    Command(
        path=("accounts", "ban-list"),
        run=list_bans,
        help="blocked addresses",
        aliases=(("ban-list",), ("blocklist", "list")),
    ),
)
