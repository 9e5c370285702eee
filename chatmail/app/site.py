"""What the public pages, links and health checks say: facts of the running relay."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from chatmail.adapters.http.facts import Check, ShownLimits, SiteFacts
from chatmail.app.config_identity import tls_mode
from chatmail.domain.formats.account_links import BoundPorts, CertificateKind, RelayFacts

if TYPE_CHECKING:
    from chatmail.adapters.net.tls import TlsKeeper
    from chatmail.adapters.storage.store import Store
    from chatmail.adapters.system.host import SystemHost
    from chatmail.app.config_keys import BootConfig
    from chatmail.domain.model.settings import SettingsSnapshot
    from chatmail.domain.ports.system import Clock


class Site:
    """Answers the web face's questions. `bound` tells it which ports are really open."""

    def __init__(
        self,
        boot: BootConfig,
        settings: Callable[[], SettingsSnapshot],
        keeper: TlsKeeper,
        clock: Clock,
    ) -> None:
        self.boot = boot
        self._clock = clock
        self._settings = settings
        self._keeper = keeper
        self._ports: dict[str, int] = {}

    def bound(self, ports: dict[str, int]) -> None:
        """Take over what the listeners are bound to: face → port."""
        self._ports = dict(ports)

    def relay(self) -> RelayFacts:
        """Return what links and autoconfig are made of."""
        identity = self._settings().identity
        ports = {
            face: self._ports.get(face)
            for face in ("imaps", "imap", "submissions", "submission", "https", "http")
        }
        kind = CertificateKind.SELF_SIGNED if self._is_self_signed() else CertificateKind.CA
        return RelayFacts(
            mail_domain=identity.mail_domain,
            hostname=identity.hostname,
            certificate=kind,
            ports=BoundPorts(**ports, alpn_mux=self.boot.http.alpn_mux),
            host_style=self.boot.web.dcaccount_style == "host",
        )

    def facts(self) -> SiteFacts:
        """Return what the pages show."""
        settings = self._settings()
        return SiteFacts(
            relay=self.relay(),
            registration_open=settings.registration.is_open,
            jit=settings.registration.jit,
            require_token=settings.registration.require_token,
            language=self.boot.web.language,
            title=self.boot.web.title,
            contact=self.boot.web.privacy_mail,
            # No word of retention: nothing removes old mail by age yet.
            limits=ShownLimits(
                message_bytes=settings.limits.max_message_bytes,
                mailbox_bytes=settings.limits.max_mailbox_bytes,
            ),
            own_hosts=frozenset({settings.identity.hostname}),
            trusted_proxies=settings.trusted_proxies,
        )

    def checks(self, store: Store, host: SystemHost) -> list[Check]:
        """Return what /readyz reports."""
        expires_in_s = self._keeper.facts.not_after_s - self._clock.now_s()
        floor = self._settings().registration.min_free_disk_bytes // 16
        return [
            _check("database", not store.failed, self._database_remedy()),
            _check("listeners", bool(self._ports), "see the log for addresses that failed"),
            _check("certificate", expires_in_s > 0, "renew the certificate"),
            _check("disk", host.free_disk_bytes() > floor, "free some disk space"),
        ]

    def _database_remedy(self) -> str:
        if self.boot.database.url.startswith("postgres"):
            return "look at the database server; nothing else is needed"
        return "restart after the disk is repaired"

    def _is_self_signed(self) -> bool:
        # Until an ACME client is built in, its mode runs on a self-signed certificate (wiring).
        return tls_mode(self.boot) in ("self-signed", "acme")


def _check(name: str, ok: bool, remedy: str) -> Check:
    return Check(name=name, ok=ok, remedy="" if ok else remedy)
