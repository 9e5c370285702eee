"""SIGHUP and `chatmail reload`: follow a changed file, keep every connection that can stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from chatmail.adapters.net.errors import BindError, CertificateError
from chatmail.adapters.system.redaction import Public
from chatmail.app.config_choice import ConfigError
from chatmail.app.listening import Listening
from chatmail.app.wiring import Relay
from chatmail.app.wiring_tls import certificate_pair, tls_policy
from chatmail.domain.model.errors import TransientFailure

if TYPE_CHECKING:
    from chatmail.app.config import LoadedConfig
    from chatmail.app.config_keys import BootConfig
    from chatmail.app.service_notify import ServiceManager


class Reload:
    """Re-reads the file and reconciles one part at a time; one reload after the other.

    A file with problems changes nothing. A part that fails keeps its old state and says so; the
    others go on.
    Source:  contract 1, admin.md 5.5.
    """

    def __init__(
        self,
        relay: Relay,
        listening: Listening,
        reread: Callable[[], LoadedConfig],
        manager: ServiceManager,
    ) -> None:
        """Args:  reread: loads the configuration anew; raises ConfigError."""
        self._relay = relay
        self._listening = listening
        self._reread = reread
        self._manager = manager
        self._turn = trio.Lock()

    async def __call__(self) -> tuple[str, ...]:
        """Reload; returns what could not be followed, one line each for the operator."""
        async with self._turn:
            self._manager.reloading()
            problems = await self._follow()
            self._manager.ready()
        return problems

    async def _follow(self) -> tuple[str, ...]:
        relay = self._relay
        try:
            loaded = self._reread()
        except ConfigError as error:
            for problem in error.problems:
                relay.log.error("configuration_rejected", problem=Public(problem))
            return error.problems
        await self._follow_settings(loaded)
        problems = [*_swap_certificate(relay, loaded.boot)]
        for problem in relay.federation.follow(relay.settings.boot):
            relay.log.error("federation_unchanged", problem=Public(problem))
            problems.append(problem)
        relay.desks.follow()
        try:
            await self._listening.follow(relay.settings.boot)
        except BindError as error:
            relay.log.error("listener_failed", problem=Public(str(error)))
            problems.append(str(error))
        relay.log.info("reloaded")
        return tuple(problems)

    async def _follow_settings(self, loaded: LoadedConfig) -> None:
        relay = self._relay
        _warn_of_restart(relay, loaded.boot)
        try:
            relay.settings.follow(await relay.store.settings.all())
        except TransientFailure:
            relay.log.warning("settings_unread")
        relay.settings.follow_file(loaded)


def _swap_certificate(relay: Relay, boot: BootConfig) -> tuple[str, ...]:
    try:
        relay.keeper.reload(certificate_pair(boot), tls_policy(boot))
    except CertificateError as problem:
        relay.log.error("certificate_rejected", problem=Public(str(problem)))
        return (str(problem),)
    return ()


def _warn_of_restart(relay: Relay, boot: BootConfig) -> None:
    old, new = relay.boot, boot
    fixed = {
        "server.domain": (old.server.domain, new.server.domain),
        "server.ip": (old.server.ip, new.server.ip),
        "server.state_dir": (old.server.state_dir, new.server.state_dir),
        "server.runtime_dir": (old.server.runtime_dir, new.server.runtime_dir),
        "database.url": (old.database.url, new.database.url),
        "tls.mode": (old.tls.mode, new.tls.mode),
        "http.alpn_mux": (old.http.alpn_mux, new.http.alpn_mux),
        "registration.nocreate_file": (old.nocreate_file, new.nocreate_file),
        "log": (old.log, new.log),
    }
    for key, (before, after) in fixed.items():
        if before != after:
            relay.log.warning("restart_needed", key=Public(key))
