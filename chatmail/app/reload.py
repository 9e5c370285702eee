"""SIGHUP: follow a changed configuration file, keep every connection that need not close."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from chatmail.adapters.net.errors import BindError, CertificateError
from chatmail.adapters.system.redaction import Public
from chatmail.app.config_identity import to_settings
from chatmail.app.listening import Listening
from chatmail.app.wiring import Relay, certificate_pair, tls_policy

if TYPE_CHECKING:
    from chatmail.app.config_keys import BootConfig
    from chatmail.app.service_notify import ServiceManager
    from chatmail.domain.model.settings import SettingsSnapshot


async def reload(
    relay: Relay,
    listening: Listening,
    reread: Callable[[], BootConfig | None],
    manager: ServiceManager,
) -> None:
    """Re-read the file and reconcile one part at a time.

    A file with problems changes nothing (each problem was logged by `reread`). A part that fails
    keeps its old state and says so; the others go on.
    Source:  contract 1, admin.md 5.5.
    """
    manager.reloading()
    boot = reread()
    if boot is not None:
        _warn_of_restart(relay, boot)
        relay.settings.current = _new_settings(relay, boot)
        relay.site.boot = boot
        _swap_certificate(relay, boot)
        try:
            await listening.follow(boot)
        except BindError as problem:
            relay.log.error("listener_failed", problem=Public(str(problem)))
        relay.log.info("reloaded")
    manager.ready()


def _swap_certificate(relay: Relay, boot: BootConfig) -> None:
    try:
        relay.keeper.reload(certificate_pair(boot), tls_policy(boot))
    except CertificateError as problem:
        relay.log.error("certificate_rejected", problem=Public(str(problem)))


def _new_settings(relay: Relay, boot: BootConfig) -> SettingsSnapshot:
    """What the file says now; who we are stays until a restart (admin.md 5.5)."""
    settings = to_settings(boot)
    old, new = relay.boot.server, boot.server
    if (old.domain, old.ip) != (new.domain, new.ip):
        return attrs.evolve(settings, identity=relay.settings().identity)
    return settings


def _warn_of_restart(relay: Relay, boot: BootConfig) -> None:
    old, new = relay.boot, boot
    fixed = {
        "server.domain": (old.server.domain, new.server.domain),
        "server.ip": (old.server.ip, new.server.ip),
        "server.state_dir": (old.server.state_dir, new.server.state_dir),
        "database.url": (old.database.url, new.database.url),
        "tls.mode": (old.tls.mode, new.tls.mode),
        "http.alpn_mux": (old.http.alpn_mux, new.http.alpn_mux),
        "registration.nocreate_file": (old.nocreate_file, new.nocreate_file),
        "log": (old.log, new.log),
    }
    for key, (before, after) in fixed.items():
        if before != after:
            relay.log.warning("restart_needed", key=Public(key))
