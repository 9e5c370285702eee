"""What the running relay offers on its control socket."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import chatmail
from chatmail.adapters.control.services import ControlServices
from chatmail.app.listening import Listening
from chatmail.app.tasks import named
from chatmail.app.wiring import Relay

if TYPE_CHECKING:
    from chatmail.domain.ports.system import Clock

_SERVICES: Final = ("smtp", "submission", "imap", "http")
"""One face of each crowd of connections."""

DAY_S: Final = 86400


class RunningRelay:
    """Status and reload of this process."""

    def __init__(
        self,
        relay: Relay,
        listening: Listening,
        clock: Clock,
        reload: Callable[[], Awaitable[tuple[str, ...]]],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._relay = relay
        self._listening = listening
        self._clock = clock
        self._reload = reload
        self._is_stopping = is_stopping
        self._started_s = clock.now_s()
        self._started_monotonic_s = clock.monotonic_s()

    async def reload(self) -> Sequence[str]:
        """Follow the changed file; returns what could not be followed."""
        if self._is_stopping():
            return ("the server is stopping",)
        return await self._reload()

    def status(self) -> Mapping[str, object]:
        """Return how the relay is (spec admin 7.4)."""
        relay, settings = self._relay, self._relay.settings()
        expires_s = relay.keeper.facts.not_after_s
        return {
            "name": "chatmail",
            "version": chatmail.__version__,
            "pid": os.getpid(),
            "domain": settings.identity.mail_domain,
            "boot_time": _utc(self._started_s),
            "uptime_seconds": int(self._clock.monotonic_s() - self._started_monotonic_s),
            "listeners": [
                {"service": face, "host": host, "port": port}
                for face, host, port in self._listening.addresses()
            ],
            "services": [self._service(name) for name in _SERVICES],
            "registered_users": relay.store.index.account_count,
            "registration": {
                "open": settings.registration.is_open,
                "jit": settings.registration.jit,
                "token_required": settings.registration.require_token,
            },
            "federation_enabled": settings.federation.is_enabled,
            "privacy_contact": settings.identity.operator_mailto or "",
            "certificate": {
                "expires_at": _utc(expires_s),
                "days_left": int((expires_s - self._clock.now_s()) // DAY_S),
            },
            "settings": {
                "generation": relay.settings.generation,
                "pending_reload": list(relay.settings.pending()),
            },
            "warnings": [_DEBUG] if relay.log.is_debugging else [],
            "checks": [
                {"name": check.name, "ok": check.ok, "remedy": check.remedy}
                for check in relay.checks()
            ],
        }

    def _service(self, name: str) -> dict[str, object]:
        crowd = self._relay.listeners[name].face.crowd
        return {"name": name, "connections": crowd.present, "unique_ips": crowd.sources}


_DEBUG: Final = "log.level is debug: more is written than an operator needs every day"
"""Spec policy 6: said for as long as it is so."""


def control_services(relay: Relay, running: RunningRelay) -> ControlServices:
    """Return what the control socket offers."""
    services = ControlServices(
        settings=relay.change_settings, operation=running, tasks=named(relay.tasks)
    )
    return relay.desks.equip(services)


def _utc(time_s: float) -> str:
    try:
        moment = datetime.fromtimestamp(int(time_s), UTC)
    except (OverflowError, ValueError, OSError):  # a self-signed certificate may end very late
        return ""
    return moment.isoformat().replace("+00:00", "Z")
