"""`chatmail serve`: configuration in, a running relay, exit code out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from chatmail.adapters.net.errors import BindError, CertificateError
from chatmail.adapters.storage.errors import StoreFailed
from chatmail.adapters.system.clock import SystemClock, SystemEntropy
from chatmail.adapters.system.logs import open_log
from chatmail.adapters.system.redaction import exception_place
from chatmail.app import demo
from chatmail.app.allocator import tune_allocator
from chatmail.app.cli.parser import ServeOptions
from chatmail.app.config import LoadedConfig, load_chosen, load_config
from chatmail.app.config_choice import ConfigError
from chatmail.app.config_identity import tls_mode
from chatmail.app.limits import raise_file_limit
from chatmail.app.service_notify import ServiceManager, announce, ready_line
from chatmail.app.tree import run_relay
from chatmail.domain.model.errors import PermanentFailure

if TYPE_CHECKING:
    from chatmail.adapters.system.logs import Log
    from chatmail.app.config_keys import BootConfig
    from chatmail.app.wiring import Relay

STARTED_BADLY = 1

# The store's writer is a thread and asks for the interpreter some ten times per commit; from a
# busy loop it gets it after 5 ms each time by default. With somebody flooding one session, mail of
# others took 300 to 700 ms (p99); with this 26 to 180 ms. Throughput and CPU stay the same.
SWITCH_S: Final = 0.0005


def serve(options: ServeOptions) -> int:
    """Run the relay until it is told to stop; returns the contract's exit code."""
    tune_allocator()
    raise_file_limit()
    sys.setswitchinterval(SWITCH_S)
    load = partial(_load, options)
    try:
        loaded = load()
    except ConfigError as error:
        return _complain(*error.problems)
    boot = loaded.boot
    for warning in (*loaded.warnings, *_not_built_yet(boot)):
        sys.stderr.write(f"warning: {warning}\n")
    clock = SystemClock()
    log = open_log(
        clock,
        SystemEntropy(),
        boot.log.target,
        level=boot.log.level,
        format_name=boot.log.format,
        addresses=boot.log.addresses,
        ip=boot.log.ip,
    )
    manager = ServiceManager(os.environ, os.getpid())
    starting = partial(
        run_relay,
        loaded,
        log,
        manager,
        reread=load,
        announce=partial(_announce, options),
    )
    try:
        trio.run(starting, strict_exception_groups=True)
    except Exception as problem:  # noqa: BLE001 - the last place: nothing above it but the shell
        return _explain(problem, log)
    return 0


def _explain(problem: Exception, log: Log) -> int:
    leaves = list(_leaves(problem))
    if all(isinstance(leaf, (BindError, CertificateError, PermanentFailure)) for leaf in leaves):
        return _complain(*map(str, leaves))
    if any(isinstance(leaf, StoreFailed) for leaf in leaves):
        return _complain("chatmail: the store failed; look at the disk before starting again")
    log.error("stopped_by_a_bug", error=problem)
    return _complain(f"chatmail: stopped by an internal error: {exception_place(problem)}")


def _load(options: ServeOptions) -> LoadedConfig:
    """Raises:  ConfigError."""
    now_s = SystemClock().now_s()
    if options.demo:
        chosen = demo.overrides(_demo_state(options), options.port_base)
        return load_config(None, os.environ, chosen, now_s=now_s)
    return load_chosen(options.config, options.state_dir, os.environ, now_s)


def _not_built_yet(boot: BootConfig) -> Iterator[str]:
    """What the file asks for and this release cannot do: said, never silently ignored."""
    if tls_mode(boot) == "acme":
        yield (
            "tls.mode acme: certificates cannot be fetched yet; using a self-signed one "
            "(set tls.cert and tls.key to files that another ACME client renews)"
        )


def _demo_state(options: ServeOptions) -> Path:
    return options.state_dir or Path(demo.STATE_DIR)


def _announce(options: ServeOptions, relay: Relay, addresses: list[tuple[str, str, int]]) -> None:
    if options.demo:
        said = demo.welcome(
            relay, state_dir=str(_demo_state(options)), is_terminal=sys.stdout.isatty()
        )
        sys.stdout.write(said + "\n")
    announce(sys.stdout, ready_line(addresses))


def _complain(*problems: str) -> int:
    for problem in problems:
        sys.stderr.write(problem + "\n")
    return STARTED_BADLY


def _leaves(problem: BaseException) -> Iterator[BaseException]:
    if isinstance(problem, BaseExceptionGroup):
        for inner in problem.exceptions:
            yield from _leaves(inner)
    else:
        yield problem
