"""Where a message for a domain goes: what the operator, DNS, MTA-STS and earlier attempts say."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import attrs

from chatmail.domain.formats.mtasts import allows_host
from chatmail.domain.model.address import is_literal
from chatmail.domain.model.federation import PeerOverride, TransportKind
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.policy import routes
from chatmail.domain.policy.retry import DAY_S, HOUR_S
from chatmail.domain.policy.routes import MAX_MAIL_HOSTS, RouteFacts, RoutePlan, TargetError
from chatmail.domain.ports.federation import PeerDirectory, PeerMemory
from chatmail.domain.ports.remote import DnsFault, Resolver
from chatmail.domain.ports.system import Clock, Log
from chatmail.domain.usecases.lookup_sts import LookupSts

NEVER_S: Final = math.inf
_STANDARD_SMTP: Final = 25
_DNS_BROKEN: Final = (DnsFault.SERVFAIL, DnsFault.TIMEOUT)


@attrs.frozen(kw_only=True)
class Unroutable:
    """There is no way now. `reply` is one clean line.

    Attributes:
        final_after_s: the age of a message, seconds, from which on there is none for good; 0.0:
            at once; `NEVER_S`: until it expires.
        is_about_now: nobody need be asked again before a pause (resolvers that fail).
    """

    reply: str
    final_after_s: float
    is_about_now: bool = False


_NULL_MX: Final = Unroutable(reply="556 5.1.10 Domain does not accept mail", final_after_s=0.0)
_NO_DOMAIN: Final = Unroutable(reply="450 4.1.2 Domain not found", final_after_s=HOUR_S)
_DNS_FAILED: Final = Unroutable(
    reply="451 4.4.3 Name resolution failed", final_after_s=NEVER_S, is_about_now=True
)
_NO_ADDRESS: Final = Unroutable(reply="450 4.4.4 No address of a mail host", final_after_s=DAY_S)
_LOOP: Final = Unroutable(reply="554 5.4.6 Mail loops back to me", final_after_s=0.0)
_FORBIDDEN: Final = Unroutable(
    reply="550 5.4.4 The host's address is not allowed", final_after_s=0.0
)
_STS_FORBIDS: Final = Unroutable(
    reply="451 4.7.5 MTA-STS policy allows none of the mail hosts", final_after_s=NEVER_S
)
_BAD_OVERRIDE: Final = Unroutable(
    reply="451 4.3.5 Endpoint override is not usable", final_after_s=NEVER_S
)


@attrs.frozen(kw_only=True)
class LookupRoute:
    """Plans attempts. `is_own(address, port)`: whether that is one of our own listeners."""

    resolver: Resolver
    directory: PeerDirectory
    memory: PeerMemory
    sts: LookupSts
    clock: Clock
    settings: Callable[[], SettingsSnapshot]
    log: Log
    is_own: Callable[[str, int], bool] = lambda address, port: False
    may_connect: Callable[[str, int, bool], bool] = lambda address, port, is_operators_word: True

    async def __call__(
        self, domain: str, preferred: TransportKind | None = None
    ) -> RoutePlan | Unroutable:
        """Plan the next attempt for a normalised remote domain.

        Args:  preferred: the transport that may have the message already (A3.4).
        Never raises for what DNS or a peer says.
        """
        override = self._override(domain)
        if override is not None:
            try:
                return routes.plan_override(
                    override,
                    self.memory.health(domain),
                    self.settings().federation,
                    self.clock.now_s(),
                )
            except TargetError:
                return _BAD_OVERRIDE
        found = await self._hosts(domain)
        if isinstance(found, Unroutable):
            return found
        return routes.plan(
            RouteFacts(
                domain=domain,
                hosts=found,
                health=self.memory.health(domain),
                federation=self.settings().federation,
                now_s=self.clock.now_s(),
                preferred=preferred,
            )
        )

    def _override(self, domain: str) -> PeerOverride | None:
        known = self.directory.override(domain)
        rewrite = self.settings().federation.endpoint_rewrite
        if known is None and rewrite:
            return PeerOverride(domain=domain, target=rewrite, smtp_fallback=False)
        return known

    async def _hosts(self, domain: str) -> tuple[str, ...] | Unroutable:
        if is_literal(domain):
            host = routes.bare_host(domain)
            if self._is_own_host(host, (host,)):
                return _LOOP
            port = self.settings().federation.smtp_port
            return (host,) if self.may_connect(host, port, False) else _FORBIDDEN
        answer = await self.resolver.mx(domain)
        hosts: Sequence[tuple[int, str]] = ((0, domain),)
        if isinstance(answer, DnsFault):
            if answer is DnsFault.NXDOMAIN:
                return _NO_DOMAIN
            if answer in _DNS_BROKEN:
                return _DNS_FAILED
        elif answer.is_null:
            return _NULL_MX
        elif answer.hosts:
            hosts = [(one.preference, one.host) for one in answer.hosts]
        allowed = await self._allowed(domain, hosts)
        return await self._reachable(allowed) if allowed else _STS_FORBIDS

    async def _allowed(
        self, domain: str, hosts: Sequence[tuple[int, str]]
    ) -> Sequence[tuple[int, str]]:
        """Leave out the hosts that MTA-STS does not name."""
        policy = await self.sts(domain, self.settings().federation.https_port)
        if policy is None or policy.mode == "none":
            return hosts
        named = [one for one in hosts if allows_host(policy.mx, one[1])]
        if policy.mode == "testing":
            if len(named) < len(hosts):
                self.log.info("mta_sts_mismatch", hosts=len(hosts) - len(named))
            return hosts
        return named

    async def _reachable(self, hosts: Sequence[tuple[int, str]]) -> tuple[str, ...] | Unroutable:
        """Leave out hosts without an address, ourselves, and whatever is no better than we are."""
        own: set[str] = set()
        useful: list[tuple[int, str]] = []
        is_broken = False
        for preference, host in hosts[:MAX_MAIL_HOSTS]:
            addresses = await self.resolver.addresses(host)
            if isinstance(addresses, DnsFault):
                is_broken |= addresses in _DNS_BROKEN
                if not self._is_own_name(host):
                    continue
                addresses = ()
            if self._is_own_host(host, addresses):
                own.add(host)
            useful.append((preference, host))
        remaining = routes.without_loops(useful, frozenset(own))
        if remaining:
            return tuple(host for _, host in remaining)
        if own:
            return _LOOP
        return _DNS_FAILED if is_broken else _NO_ADDRESS

    def _is_own_name(self, host: str) -> bool:
        settings = self.settings()
        is_standard = settings.federation.smtp_port == _STANDARD_SMTP
        return is_standard and host == settings.identity.hostname

    def _is_own_host(self, host: str, addresses: Sequence[str]) -> bool:
        port = self.settings().federation.smtp_port
        return self._is_own_name(host) or any(self.is_own(one, port) for one in addresses)
