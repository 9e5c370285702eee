"""Every command but `serve`: its name, its arguments, its help, and what runs it."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Final

from chatmail.app.cli import settings, status, tasks
from chatmail.app.cli.accounts import ACCOUNT_COMMANDS
from chatmail.app.cli.command import Command, Run, action, nothing
from chatmail.app.cli.dns import DNS_COMMANDS
from chatmail.app.cli.exchangers import EXCHANGER_COMMANDS
from chatmail.app.cli.federation import FEDERATION_COMMANDS
from chatmail.app.cli.queue import QUEUE_COMMANDS
from chatmail.app.cli.segments import SEGMENT_COMMANDS
from chatmail.app.cli.selftest import TEST_COMMANDS
from chatmail.app.cli.uidvalidity import UIDVALIDITY_COMMANDS


def _setting_name(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="e.g. max_message_size; see: settings list")


def _setting_value(parser: ArgumentParser) -> None:
    _setting_name(parser)
    parser.add_argument("value", metavar="VALUE", help="e.g. 50M, 20d, true")


def _setting_names(parser: ArgumentParser) -> None:
    parser.add_argument("names", metavar="NAME", nargs="+", help="see: settings list")


def _all(parser: ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="those of features not built, too")


def _optional_size(parser: ArgumentParser) -> None:
    parser.add_argument("size", metavar="SIZE", nargs="?", help="e.g. 1G; without it: show")
    parser.add_argument("--reset", action="store_true", help="go back to the file's value")


def _size(parser: ArgumentParser) -> None:
    parser.add_argument("size", metavar="SIZE", help="e.g. 50M")


def _task(parser: ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK", help="see: tasks list")
    parser.add_argument("--retention", metavar="DURATION", help="e.g. 20d, for this run only")
    _dry_run(parser)


def _dry_run(parser: ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="count, remove nothing")


def _expire(parser: ArgumentParser) -> None:
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--dry-run", action="store_true", help="count, remove nothing (the default)")
    way.add_argument("--remove", action="store_true", help="really remove")


def _status(parser: ArgumentParser) -> None:
    parser.add_argument("-d", "--details", action="store_true", help="with addresses")
    parser.add_argument(
        "--check", action="store_true", help="exit 3 when not running, 6 when something is wrong"
    )


def _scope(parser: ArgumentParser) -> None:
    parser.add_argument("--scope", choices=("full",), default="full", help=argparse.SUPPRESS)


def _sized(path: str, run: Run, what: str) -> tuple[Command, ...]:
    """Describe a size with its `status`, `set` and `reset`."""
    helps = {"status": f"show {what}", "set": f"change {what}", "reset": "use the file's value"}
    return tuple(
        Command(
            path=(path, word),
            run=run,
            help=text,
            arguments=_size if word == "set" else nothing,
        )
        for word, text in helps.items()
    )


COMMANDS: Final[Sequence[Command]] = (
    Command(path=("status",), run=status.show_status, help="how the relay is", arguments=_status),
    Command(
        path=("reload",),
        run=status.reload,
        help="follow the changed configuration file",
        about="The same as SIGHUP, but problems of the file are told here.",
        arguments=_scope,
    ),
    Command(
        path=("settings", "list"),
        run=settings.list_settings,
        help="all settings with their values",
        arguments=_all,
    ),
    Command(
        path=("settings", "get"),
        run=settings.get_setting,
        help="one setting",
        arguments=_setting_name,
    ),
    Command(
        path=("settings", "set"),
        run=settings.set_setting,
        help="change a setting; it wins over the file",
        about="NAME is a name of `settings list`, a __KEY__, or a key of the file.",
        arguments=_setting_value,
    ),
    Command(
        path=("settings", "reset"),
        run=settings.reset_settings,
        help="forget a change: the file's value holds again",
        arguments=_setting_names,
    ),
    *(
        Command(path=("registration", word), run=settings.registration, help=text)
        for word, text in {
            "open": "the web page and /new give accounts",
            "close": "the web page and /new give no accounts",
            "status": "who may get an account",
        }.items()
    ),
    Command(
        path=("registration", "jit"),
        run=settings.registration_jit,
        help="accounts by first login: enable, disable, status",
        arguments=action("enable", "disable", "status"),
    ),
    *_sized("message-size", settings.message_size, "how large a message may be"),
    *_sized("federation-size", settings.federation_size, "the limit for other relays"),
    Command(
        path=("quota", "default"),
        run=settings.default_quota,
        help="show or change what an account may hold",
        arguments=_optional_size,
    ),
    Command(path=("tasks", "list"), run=tasks.list_tasks, help="names of all tasks"),
    Command(path=("tasks", "run"), run=tasks.run_task, help="run one task", arguments=_task),
    Command(
        path=("tasks", "run-all"),
        run=tasks.run_all_tasks,
        help="run every task",
        arguments=_dry_run,
    ),
    Command(
        path=("expire",),
        run=tasks.expire,
        help="what retention would remove; --remove removes it",
        arguments=_expire,
    ),
    *ACCOUNT_COMMANDS,
    *QUEUE_COMMANDS,
    *FEDERATION_COMMANDS,
    *EXCHANGER_COMMANDS,
    *DNS_COMMANDS,
    *TEST_COMMANDS,
    *SEGMENT_COMMANDS,
    *UIDVALIDITY_COMMANDS,
    Command(path=("version",), run=status.show_version, help="name and version"),
)

GROUPS: Final = {
    "settings": "show and change settings while the relay runs",
    "registration": "who may get an account",
    "message-size": "how large a message may be",
    "federation-size": "how large a message from another relay may be",
    "quota": "what an account may hold",
    "tasks": "maintenance by hand",
    "segments": "files of mail that the database has never known",
    "uidvalidity": "what tells clients that a mailbox was put back",
    "accounts": "who has an account, and who may have one",
    "queue": "mail that waits for other relays",
    "federation": "with which relays mail is exchanged, and how that goes",
    "endpoint-cache": "domains whose mail goes another way",
    "exchanger": "servers that keep mail for this relay",
    "openrelay": "there is none",
    "dns": "what DNS has to say about this relay",
    "dkim": "the keys mail is signed with",
}
OTHER_GROUPS: Final = ("blocklist", "dns-cache")
"""Groups of old names; help does not list them."""
