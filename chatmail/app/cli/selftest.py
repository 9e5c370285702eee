"""`test`: does the relay do what it has to, seen by a client and by another relay?"""

from __future__ import annotations

import contextlib
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from chatmail.app.cli.command import Command
from chatmail.app.cli.context import Context
from chatmail.app.cli.output import CommandFailed, Exit, Reply, table

if TYPE_CHECKING:
    from chatmail.app.selftest.checks import Account, Result, Trial

_WILDCARDS: Final = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared
_STANDARD: Final = {"smtp": 25, "submissions": 465, "imaps": 993, "https": 443}


def test_relay(context: Context, options: Namespace) -> Reply:
    """Run the checks against this machine's server, or against any relay."""
    # Only now: no other command needs clients for every protocol.
    from chatmail.app.selftest.checks import CHECKS, run_checks

    names = [name for name in CHECKS if options.expression.lower() in name]
    if not names:
        known = ", ".join(CHECKS)
        raise CommandFailed(Exit.USAGE, f"no check has that in its name; there are: {known}")
    trial = _online(options.online) if options.online else _local(context)
    try:
        results = list(run_checks(trial, names))
    finally:
        if not options.online:
            _clean(context, trial.accounts)
    return _told(results)


def _told(results: Sequence[Result]) -> Reply:
    rows = [
        ("ok" if one.is_ok else "FAILED", one.name, f"{one.seconds:.2f} s", one.detail)
        for one in results
    ]
    failed = [one.name for one in results if not one.is_ok]
    checks = [
        {"name": one.name, "ok": one.is_ok, "detail": one.detail, "seconds": round(one.seconds, 3)}
        for one in results
    ]
    verdict = f"{len(failed)} of {len(results)} checks failed" if failed else "all is well"
    return Reply(
        lines=[*table(rows), verdict],
        data={"checks": checks, "failed": failed},
        code=Exit.CHECK_FAILED if failed else Exit.OK,
    )


def _local(context: Context) -> Trial:
    from chatmail.app.selftest.checks import Trial
    from chatmail.app.selftest.clients import Target, unverified

    status = context.call_running("server.status")
    domain = str(status["domain"])
    target = Target(
        domain=domain,
        hostname=domain.strip("[]").removeprefix("IPv6:"),
        ports=_ports(status["listeners"]),
        # The certificate is nobody's business here: `status` and `dns check` look at it.
        context=unverified(),
    )
    registration = status["registration"]

    def create() -> Account:
        made = context.call("account.create", {})
        return str(made["email"]), str(made["password"])

    is_jit = registration["jit"] and not registration["token_required"]
    return Trial(target=target, expects_jit=is_jit, create=create)


def _ports(listeners: Sequence[dict[str, Any]]) -> dict[str, tuple[str, int]]:
    found: dict[str, tuple[str, int]] = {}
    for one in listeners:
        host = str(one["host"]).strip("[]")
        found.setdefault(one["service"], (_WILDCARDS.get(host, host), int(one["port"])))
    return found


def _online(host: str) -> Trial:
    from chatmail.app.selftest.checks import Trial
    from chatmail.app.selftest.clients import Target, verified

    ports = {face: (host, port) for face, port in _STANDARD.items()}
    target = Target(domain=host, hostname=host, ports=ports, context=verified())
    return Trial(target=target, expects_jit=True)


def _clean(context: Context, accounts: Sequence[Account]) -> None:
    """Leave nothing behind. An account that stays is removed when it is unused for a day."""
    for address, _ in accounts:
        with contextlib.suppress(CommandFailed):
            context.call("account.delete", {"username": address, "reason": "self-test"})
            context.call("block.remove", {"username": address})


def _arguments(parser: ArgumentParser) -> None:
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--local", action="store_true", help="this machine's server (the default)")
    way.add_argument("--online", metavar="HOST", default="", help="a relay at its public ports")
    parser.add_argument(
        "-k",
        dest="expression",
        metavar="EXPR",
        default="",
        help="only checks with this in their name, e.g. federation",
    )


TEST_COMMANDS: Final[Sequence[Command]] = (
    Command(
        path=("test",),
        run=test_relay,
        help="try the relay out: logins, mail, encryption, other relays",
        about="Exit code 6: a check failed. Accounts are made for it and removed again.",
        arguments=_arguments,
    ),
)
