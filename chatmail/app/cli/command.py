"""What a command is: its name, its arguments, its help, and what runs it."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import TypeAlias

import attrs

from chatmail.app.cli.context import Context
from chatmail.app.cli.output import CommandFailed, Exit, Reply

Run: TypeAlias = Callable[[Context, Namespace], Reply]
Arguments: TypeAlias = Callable[[ArgumentParser], object]


def nothing(parser: ArgumentParser) -> None:
    """Take no arguments."""


@attrs.frozen(kw_only=True)
class Command:
    """One command. `path` is what is written, such as `settings set`; `aliases` do the same.

    `is_default`: its group's name alone means it.
    """

    path: tuple[str, ...]
    run: Run
    help: str
    about: str = ""
    arguments: Arguments = nothing
    aliases: tuple[tuple[str, ...], ...] = ()
    is_default: bool = False

    @property
    def name(self) -> str:
        """Return the path as one text."""
        return " ".join(self.path)


def takes(*arguments: Arguments) -> Arguments:
    """Join descriptions of arguments."""

    def add(parser: ArgumentParser) -> None:
        for one in arguments:
            one(parser)

    return add


def action(*choices: str) -> Arguments:
    """Take one word of several."""

    def add(parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=choices, help="what to do")

    return add


def positional(name: str, help: str, *, is_optional: bool = False) -> Arguments:
    """Take one word."""

    def add(parser: ArgumentParser) -> None:
        if is_optional:
            parser.add_argument(name, metavar=name.upper(), nargs="?", default="", help=help)
        else:
            parser.add_argument(name, metavar=name.upper(), help=help)

    return add


def option(flag: str, metavar: str, help: str) -> Arguments:
    """Take `--flag VALUE`; without it: an empty text."""

    def add(parser: ArgumentParser) -> None:
        parser.add_argument(flag, metavar=metavar, default="", help=help)

    return add


def switch(flag: str, help: str) -> Arguments:
    """Take `--flag`."""

    def add(parser: ArgumentParser) -> None:
        parser.add_argument(flag, action="store_true", help=help)

    return add


ABORTED = Reply(lines=["aborted"], message="aborted")


def is_sure(options: Namespace, question: str) -> bool:
    """Ask before what cannot be undone (spec admin 4.1).

    Raises:  CommandFailed: nobody can be asked, and nobody said yes.
    """
    if options.yes:
        return True
    if not sys.stdin.isatty():
        raise CommandFailed(Exit.USAGE, f"{question} Say --yes: there is no terminal to ask on")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
