"""The command line: what may be said, with help that can be read."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias

import attrs

import chatmail
from chatmail.app.cli.command import Command
from chatmail.app.cli.commands import COMMANDS, GROUPS, OTHER_GROUPS
from chatmail.app.cli.output import refuse_usage

DEFAULT_PORT_BASE: Final = 2000

_DESCRIPTION: Final = """\
A chatmail relay: the mail server for Delta Chat, in one process.

  chatmail serve --demo      try it: loopback only, no configuration, no root
  chatmail serve             run with the configuration file
  chatmail status            how the running relay is
"""
_EPILOG: Final = """\
Commands act on the running relay through its control socket; without one, most work on the store
itself. `chatmail COMMAND --help` says more.
exit codes: 0 done, 1 failed, 2 wrong usage, 3 not running, 4 not found, 5 not allowed,
6 check failed
"""
_UNSET: Final = {
    "config": None,
    "state_dir": None,
    "demo": False,
    "port_base": None,
    "json": False,
    "offline": False,
    "quiet": False,
    "yes": False,
    "no_color": False,
}


@attrs.frozen(kw_only=True)
class ServeOptions:
    """`chatmail serve`. Paths are as given; None: look in the usual places."""

    config: Path | None
    state_dir: Path | None
    demo: bool
    port_base: int


@attrs.frozen(kw_only=True)
class Invocation:
    """Any other command with what was said to it."""

    command: Command
    options: argparse.Namespace
    config: Path | None
    state_dir: Path | None
    is_json: bool
    is_offline: bool
    is_quiet: bool


_Subparsers: TypeAlias = "argparse._SubParsersAction[_Parser]"


class _Parser(argparse.ArgumentParser):
    """Tells usage errors the way `--json` wants them."""

    is_json = False

    def error(self, message: str) -> NoReturn:
        refuse_usage(message, self.format_usage(), is_json=_Parser.is_json)


def parse(arguments: list[str]) -> ServeOptions | Invocation:
    """Parse the command line.

    Raises:  SystemExit: 0 after --help and --version, 2 for a usage error (told on stderr).
    """
    parser = _parser()
    _Parser.is_json = "--json" in arguments
    # Defaults stand here, not in the actions: those are shared with the subcommands, whose
    # defaults would then overwrite what was given before the command's name.
    options = parser.parse_args(arguments, argparse.Namespace(**_UNSET))
    command: Command | None = getattr(options, "run_command", None)
    if options.demo or options.port_base is not None or command is None:
        return _serving(parser, options, command)
    if len(command.path) > 1 and not hasattr(options, "action"):
        options.action = command.path[-1]
    return Invocation(
        command=command,
        options=options,
        config=options.config,
        state_dir=options.state_dir,
        is_json=options.json,
        is_offline=options.offline,
        is_quiet=options.quiet,
    )


def _serving(
    parser: argparse.ArgumentParser, options: argparse.Namespace, command: Command | None
) -> ServeOptions:
    if command is not None:
        parser.error("--demo and --port-base go with serve")
    if options.port_base is not None and not options.demo:
        parser.error("--port-base goes with --demo (in a file, set listen.* instead)")
    if options.demo and options.config is not None:
        parser.error("--demo needs no file: give either --demo or --config")
    return ServeOptions(
        config=options.config,
        state_dir=options.state_dir,
        demo=options.demo,
        port_base=DEFAULT_PORT_BASE if options.port_base is None else options.port_base,
    )


def _port_base(text: str) -> int:
    if not text.isdigit() or not 1024 <= int(text) <= 40000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1024 to 40000")
    return int(text)


def _common() -> _Parser:
    common = _Parser(add_help=False)
    common.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        default=argparse.SUPPRESS,
        help="configuration file (default: ./data/chatmail.toml, then /etc/chatmail/chatmail.toml)",
    )
    common.add_argument(
        "--state-dir",
        "--libexec",
        metavar="DIR",
        type=Path,
        default=argparse.SUPPRESS,
        help="where mail, accounts and keys are kept (default: server.state_dir of the file)",
    )
    for names, text in (
        (("--json",), "one line of JSON instead of text"),
        (("--offline",), "work on the store itself, never ask a server"),
        (("-y", "--yes"), "do not ask back"),
        (("-q", "--quiet"), "say nothing when all went well"),
        (("--no-color",), "no colours (there are none)"),
    ):
        common.add_argument(*names, action="store_true", default=argparse.SUPPRESS, help=text)
    return common


def _serving_flags() -> _Parser:
    serving = _Parser(add_help=False)
    serving.add_argument(
        "--demo",
        action="store_true",
        default=argparse.SUPPRESS,
        help="a relay for [127.0.0.1] on loopback with a self-signed certificate; "
        "state in ./chatmail-demo",
    )
    serving.add_argument(
        "--port-base",
        metavar="N",
        type=_port_base,
        default=argparse.SUPPRESS,
        help="with --demo: first port; ports are N+80 (http) … N+993 (imaps); default 2000",
    )
    return serving


def _parser() -> _Parser:
    common, serving = _common(), _serving_flags()
    parser = _Parser(
        prog="chatmail",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common, serving],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"chatmail {chatmail.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command_name")
    for name, text in (
        ("serve", "run the relay (the default command)"),
        ("run", "the same as serve"),
    ):
        commands.add_parser(
            name,
            help=text,
            description="Run the relay until SIGTERM or SIGINT; SIGHUP re-reads the configuration.",
            parents=[common, serving],
            allow_abbrev=False,
        )
    groups = _groups(commands, common)
    for command in COMMANDS:
        for path in (command.path, *command.aliases):
            inside = groups[path[0]] if len(path) > 1 else commands
            shown: dict[str, Any] = {"help": command.help} if path == command.path else {}
            added = inside.add_parser(
                path[-1],
                description=f"{_sentence(command.help)} {command.about}".strip(),
                parents=[common],
                allow_abbrev=False,
                **shown,
            )
            command.arguments(added)
            added.set_defaults(run_command=command)
    return parser


def _groups(commands: _Subparsers, common: _Parser) -> dict[str, _Subparsers]:
    """Add the words that stand before others, such as `settings`."""
    defaults = {command.path[0]: command for command in COMMANDS if command.is_default}
    groups = {}
    for name in (*GROUPS, *OTHER_GROUPS):
        text = GROUPS.get(name, "")
        shown: dict[str, Any] = {"help": text} if text else {}
        group = commands.add_parser(
            name,
            description=_sentence(text) if text else None,
            parents=[common],
            allow_abbrev=False,
            **shown,
        )
        default = defaults.get(name)
        if default is not None:
            scratch = _Parser(add_help=False)
            default.arguments(scratch)
            group.set_defaults(run_command=default, **vars(scratch.parse_args([])))
        groups[name] = group.add_subparsers(
            metavar="COMMAND", required=default is None, dest=f"{name}_name"
        )
    return groups


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
