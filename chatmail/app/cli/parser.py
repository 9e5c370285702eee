"""The command line: what may be said, with help that can be read."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import attrs

import chatmail

DEFAULT_PORT_BASE: Final = 2000

_DESCRIPTION = """\
A chatmail relay: the mail server for Delta Chat, in one process.

  chatmail serve --demo      try it: loopback only, no configuration, no root
  chatmail serve             run with the configuration file
"""


@attrs.frozen(kw_only=True)
class ServeOptions:
    """`chatmail serve`. Paths are as given; None: look in the usual places."""

    config: Path | None
    state_dir: Path | None
    demo: bool
    port_base: int


def parse(arguments: list[str]) -> ServeOptions:
    """Parse the command line.

    Raises:  SystemExit: 0 after --help and --version, 2 for a usage error (told on stderr).
    """
    parser = _parser()
    # Defaults stand here, not in the actions: those are shared with the subcommands, whose
    # defaults would then overwrite what was given before the command's name.
    unset = argparse.Namespace(config=None, state_dir=None, demo=False, port_base=None)
    options = parser.parse_args(arguments, unset)
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


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        default=argparse.SUPPRESS,
        help="configuration file (default: ./data/chatmail.toml, then /etc/chatmail/chatmail.toml)",
    )
    common.add_argument(
        "--state-dir",
        metavar="DIR",
        type=Path,
        default=argparse.SUPPRESS,
        help="where mail, accounts and keys are kept (default: server.state_dir of the file)",
    )
    serving = argparse.ArgumentParser(add_help=False)
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
    parser = argparse.ArgumentParser(
        prog="chatmail",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common, serving],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"chatmail {chatmail.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
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
    return parser
