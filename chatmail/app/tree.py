"""The nursery tree: what starts after what, and what stops before what.

root → infra (store writer, watchdog) → background (reports, outbound
queue, schedule, web lifespan) → sessions (one
task per connection) → accept (one scope per listener). Life times nest, so the order of closing is
the structure: accept → sessions → background → infra → store.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from chatmail.adapters.control.server import serve_control
from chatmail.adapters.jobs.exchangers import run_exchangers
from chatmail.adapters.jobs.key_rotation import run_key_rotation
from chatmail.adapters.jobs.reports import run_reports
from chatmail.adapters.jobs.schedule import run_schedule
from chatmail.adapters.system.clock import SystemClock
from chatmail.adapters.system.redaction import Public
from chatmail.app.control import RunningRelay, control_services
from chatmail.app.keeper import keep_running
from chatmail.app.listening import Listening
from chatmail.app.reload import Reload
from chatmail.app.wiring import Relay, build

if TYPE_CHECKING:
    from chatmail.adapters.net.certificates import CertificateFacts
    from chatmail.adapters.net.errors import CertificateError
    from chatmail.adapters.system.logs import Log
    from chatmail.app.config import LoadedConfig
    from chatmail.app.service_notify import ServiceManager

DRAIN_S: Final = 15.0
"""Sessions get this long to hear BYE or 421; contract 1: the whole stop takes at most 20 s."""

WEB_GRACE_S: Final = 5.0

# A full collection with 20,000 sessions took 335 ms at the default thresholds, 9 ms with these.
GC_THRESHOLDS: Final = (20_000, 50, 1000)


async def run_relay(
    loaded: LoadedConfig,
    log: Log,
    manager: ServiceManager,
    *,
    reread: Callable[[], LoadedConfig],
    announce: Callable[[Relay, list[tuple[str, str, int]]], None],
) -> None:
    """Run the relay until SIGTERM or SIGINT; a second one ends the process at once.

    Args:  reread: loads the configuration anew for a reload; raises ConfigError.
        announce: called once everything is bound.
    Raises:  BindError, CertificateError, StoreError: it could not start. An exception group when
        something that must not fail did.
    """
    signals = _Signals(log)
    async with (
        _running(signals.listen),
        build(loaded, log) as relay,
        _infra(relay, manager),
    ):
        relay.settings.start_with(await relay.store.settings.all())
        listening = Listening(relay)
        following = Reload(relay, listening, reread, manager)
        running = RunningRelay(relay, listening, SystemClock(), following, signals.stop.is_set)
        async with trio.open_nursery() as background:
            await background.start(relay.http.run)
            reports = partial(run_reports, relay.reports, relay.store.queue)
            background.start_soon(keep_running, "reports", reports, log)
            schedule = partial(
                run_schedule,
                relay.tasks,
                lambda: relay.settings().retention,
                relay.entropy,
                log,
            )
            background.start_soon(keep_running, "schedule", schedule, log)
            _start_federation(relay, background, log)
            background.start_soon(keep_running, "recount", partial(_recount, relay), log)
            background.start_soon(keep_running, "settings", relay.settings_follower.run, log)
            async with trio.open_nursery() as sessions:
                async with trio.open_nursery() as accept:
                    listening.live_in(accept, sessions)
                    await listening.follow(relay.settings.boot)
                    relay.settings.open_early = listening.open_early
                    await _start_control(relay, running, background)
                    _tune_gc()
                    signals.on_hangup = following
                    announce(relay, listening.addresses())
                    manager.ready()
                    log.info("ready")
                    await signals.stop.wait()
                    manager.stopping()
                    log.info("stopping")
                    accept.cancel_scope.cancel()
                sessions.cancel_scope.deadline = trio.current_time() + DRAIN_S
                relay.drain.start()
                await relay.http.drain(WEB_GRACE_S)
            background.cancel_scope.cancel()
    log.info("stopped")


def _start_federation(relay: Relay, background: trio.Nursery, log: Log) -> None:
    jobs: dict[str, Callable[[], Awaitable[None]]] = {
        "outbound": relay.federation.runner.run,
        "outward": relay.federation.outward.serve,
        "exchangers": partial(run_exchangers, relay.ask, relay.store.exchangers, SystemClock()),
    }
    if (rotate := relay.desks.rotate_keys()) is not None:
        jobs["key rotation"] = partial(run_key_rotation, rotate, log)
    for name, job in jobs.items():
        background.start_soon(keep_running, name, job, log)


async def _start_control(relay: Relay, running: RunningRelay, background: trio.Nursery) -> None:
    """Have the control socket answer before anybody is told that the relay is ready."""
    started = trio.Event()
    serve = partial(
        serve_control,
        relay.boot.runtime_dir,
        control_services(relay, running),
        relay.log,
        started,
    )
    background.start_soon(keep_running, "control", serve, relay.log)
    await started.wait()


@asynccontextmanager
async def _running(
    service: Callable[..., Awaitable[None]],
) -> AsyncIterator[None]:
    """Have a service run while the context is open."""
    async with trio.open_nursery() as nursery:
        await nursery.start(service)
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _infra(relay: Relay, manager: ServiceManager) -> AsyncIterator[None]:
    async with trio.open_nursery() as infra:
        await infra.start(relay.store.run)
        infra.start_soon(manager.keep_alive)
        infra.start_soon(_watch_certificate, relay)
        yield
        infra.cancel_scope.cancel()


class _Signals:
    """What the operator asks for. Heard from the very start: SIGHUP must not kill a start."""

    def __init__(self, log: Log) -> None:
        self.stop = trio.Event()
        self.on_hangup: Callable[[], Awaitable[object]] | None = None
        self._log = log

    async def listen(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Hear signals until cancelled."""
        watched = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)
        with trio.open_signal_receiver(*watched) as arriving:
            task_status.started()
            async for number in arriving:
                if number == signal.SIGUSR2:
                    self._log.reopen()
                elif number != signal.SIGHUP:
                    self._end()
                elif self.on_hangup is not None and not self.stop.is_set():
                    # While stopping there is no nursery left for a listener to start in.
                    await self.on_hangup()

    def _end(self) -> None:
        if self.stop.is_set():
            os._exit(1)  # asked twice: no ceremony; whatever was acknowledged is on disk
        self.stop.set()


async def _recount(relay: Relay) -> None:
    """Mend counters once after the start (spec mail T42); what it mends is in the log."""
    await relay.store.recount()


async def _watch_certificate(relay: Relay) -> None:
    def reloaded(facts: CertificateFacts) -> None:
        relay.log.info("certificate_loaded", expires_s=facts.not_after_s)

    def rejected(problem: CertificateError) -> None:
        relay.log.error("certificate_rejected", problem=Public(str(problem)))

    await relay.keeper.watch(reloaded, rejected)


def _tune_gc() -> None:
    """What lives now lives as long as the process; later garbage is mostly short-lived."""
    gc.set_threshold(*GC_THRESHOLDS)
    gc.collect()
    gc.freeze()
