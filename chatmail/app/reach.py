"""Where this relay may connect to, and what its own listeners are: both follow what is bound."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from chatmail.adapters.dns.own_addresses import machine_addresses, public_addresses
from chatmail.domain.model.address import is_literal
from chatmail.domain.policy.reachable import AddressScope, address_scope, may_connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from chatmail.app.config_keys import BootConfig
    from chatmail.domain.model.settings import SettingsSnapshot


class Reach:
    """Answers for the transports. Until something is bound nothing private is allowed."""

    def __init__(self, boot: BootConfig, settings: Callable[[], SettingsSnapshot]) -> None:
        self.boot = boot
        self._settings = settings
        self._scope = AddressScope()

    def bound(self, listeners: Iterable[tuple[str, int]]) -> None:
        """Take over what the listeners are bound to: (IP address, port)."""
        self._scope = address_scope(
            self.boot.federation.private_peers,
            listeners,
            mail_domain=self._settings().identity.mail_domain,
            public_ips=self.public_addresses(),
            own_addresses=machine_addresses(),
        )

    def may_connect(self, host: str, port: int, is_operators_word: bool) -> bool:
        """Say whether a connection to an IP address may be made."""
        return may_connect(self._scope, host, port, is_operators_word)

    def is_own(self, host: str, port: int) -> bool:
        """Say whether that is one of our own listeners."""
        return not may_connect(self._scope, host, port, is_operators_word=True)

    def public_addresses(self) -> tuple[str, ...]:
        """Return the addresses the world knows this relay by."""
        configured = [str(address) for address in self.boot.server.public_ips]
        if not configured and self.boot.server.ip is not None:
            configured = [str(self.boot.server.ip)]
        return public_addresses(configured, with_ipv6=self.boot.server.ipv6)

    def hello_name(self) -> str:
        """Return our name for EHLO (federation-web.md A6.1)."""
        identity = self._settings().identity
        return identity.mail_domain if is_literal(identity.mail_domain) else identity.hostname
