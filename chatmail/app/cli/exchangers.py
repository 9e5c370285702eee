"""`exchanger`: servers that keep mail for this relay, and asking them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Final

from chatmail.app.cli.command import Command, positional
from chatmail.app.cli.context import Context
from chatmail.app.cli.output import CommandFailed, Exit, Reply


def show(context: Context, options: Namespace) -> Reply:
    """List all exchangers."""
    found = context.call("exchanger.list")
    lines = [
        f"{one['name']:20} {'on ' if one['enabled'] else 'off'} every {one['poll_interval']} s"
        f"  {one['url']}  last asked: {one['last_poll_at'] or 'never'}"
        for one in found["exchangers"]
    ]
    return Reply(lines=lines or ["no exchanger is asked for mail"], data=found)


def add(context: Context, options: Namespace) -> Reply:
    """Add an exchanger, or change it."""
    params = {"name": options.name, "url": options.url, "poll_interval": options.interval}
    result = context.call("exchanger.set", params)
    line = f"{result['name']} is asked every {result['poll_interval']} s"
    return Reply(lines=[line], data=result)


def remove(context: Context, options: Namespace) -> Reply:
    """Remove an exchanger."""
    result = context.call("exchanger.remove", {"name": options.name})
    return Reply(lines=[f"{result['deleted']} was removed"], data=result)


def switch_exchanger(context: Context, options: Namespace) -> Reply:
    """Have an exchanger asked, or not."""
    is_enabled = options.action == "enable"
    result = context.call("exchanger.enable", {"name": options.name, "enabled": is_enabled})
    said = "is asked again" if is_enabled else "is not asked any more"
    return Reply(lines=[f"{result['updated']} {said}"], data=result)


def poll(context: Context, options: Namespace) -> Reply:
    """Ask an exchanger now."""
    result = context.call("exchanger.poll", {"name": options.name})
    if not result["reached"]:
        raise CommandFailed(Exit.FAILURE, "the exchanger does not answer as one")
    counts = f"{result['taken']} taken, {result['refused']} refused, {result['known']} known before"
    return Reply(lines=[counts], data=result)


def _add_arguments(parser: ArgumentParser) -> None:
    _name(parser)
    parser.add_argument("url", metavar="URL", help="https://host, perhaps with port and path")
    parser.add_argument(
        "--interval", metavar="SECONDS", type=int, default=60, help="how often it is asked: 60"
    )


_name = positional("name", "what you call it")

EXCHANGER_COMMANDS: Final[Sequence[Command]] = (
    Command(
        path=("exchanger", "list"),
        run=show,
        help="servers that keep mail for this relay",
        is_default=True,
    ),
    Command(
        path=("exchanger", "add"),
        run=add,
        help="ask a server for mail from now on",
        about="What it gives is checked like all mail from outside.",
        arguments=_add_arguments,
    ),
    Command(path=("exchanger", "remove"), run=remove, help="forget a server", arguments=_name),
    *(
        Command(path=("exchanger", word), run=switch_exchanger, help=text, arguments=_name)
        for word, text in {
            "enable": "ask a server again",
            "disable": "do not ask a server for now",
        }.items()
    ),
    Command(path=("exchanger", "poll"), run=poll, help="ask a server now", arguments=_name),
)
