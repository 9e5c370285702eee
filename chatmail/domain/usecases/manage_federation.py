"""The operator's word on other relays: whom to talk to, whom to dismiss, where to send instead.

Source:  spec federation-web A2.1, A8.6, A9; policy 7.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import attrs

from chatmail.domain.model.address import AddressError, is_literal, normalise_domain
from chatmail.domain.model.federation import (
    Dismissal,
    PeerAction,
    PeerHealth,
    PeerOverride,
    PeerRecord,
    PeerRule,
)
from chatmail.domain.model.outbound import Backlog
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.policy.peer_rules import RuleBook, normalise_pattern
from chatmail.domain.ports.federation import PeerDirectory, PeerLedger, PeerMemory
from chatmail.domain.ports.outbound import OutboundQueue
from chatmail.domain.ports.system import Clock, Log

MAX_COMMENT = 200


@attrs.frozen
class BadWord:
    """What the operator said makes no sense here; `problem` is for them. Nothing was changed."""

    problem: str


@attrs.frozen(kw_only=True)
class PeerState:
    """One peer: what was counted, what was learned, what waits."""

    domain: str
    record: PeerRecord | None
    health: PeerHealth | None
    backlog: Backlog | None


@attrs.frozen(kw_only=True)
class ManageFederation:
    """All that an operator says about other relays."""

    directory: PeerDirectory
    memory: PeerMemory
    ledger: PeerLedger
    queue: OutboundQueue
    clock: Clock
    settings: Callable[[], SettingsSnapshot]
    log: Log

    # --- rules ---

    async def put_rule(self, text: str, action: PeerAction) -> PeerRule | BadWord:
        """Add or change a rule. Raises:  TransientFailure: nothing was changed."""
        pattern = self._pattern(text)
        if isinstance(pattern, BadWord):
            return pattern
        rule = PeerRule(pattern, action, int(self.clock.now_s()))
        await self.directory.put_rule(rule)
        self.log.info("federation_rule_set", action=action)
        return rule

    async def remove_rule(self, text: str) -> bool | BadWord:
        """Remove a rule; False: there was none. Raises:  TransientFailure."""
        try:
            pattern = normalise_pattern(text)
        except AddressError as error:
            return BadWord(str(error))
        return await self.directory.remove_rule(pattern)

    async def flush_rules(self) -> int:
        """Remove all rules; returns how many. Raises:  TransientFailure."""
        return await self.directory.flush_rules()

    # --- silent dismissal ---

    async def dismiss(self, text: str) -> Dismissal | BadWord:
        """Have mail to a pattern accepted and discarded. Raises:  TransientFailure."""
        pattern = self._pattern(text)
        if isinstance(pattern, BadWord):
            return pattern
        dismissal = Dismissal(pattern, int(self.clock.now_s()))
        await self.directory.put_dismissal(dismissal)
        self.log.info("federation_dismissal_set")
        return dismissal

    async def undismiss(self, text: str) -> bool | BadWord:
        """Take a pattern off that list; False: it was not on it. Raises:  TransientFailure."""
        try:
            pattern = normalise_pattern(text)
        except AddressError as error:
            return BadWord(str(error))
        return await self.directory.remove_dismissal(pattern)

    async def flush_dismissals(self) -> int:
        """Take everything off that list; returns how many. Raises:  TransientFailure."""
        return await self.directory.flush_dismissals()

    # --- overrides ---

    async def put_override(
        self, key: str, target: str, comment: str = "", *, smtp_fallback: bool = True
    ) -> PeerOverride | BadWord:
        """Send mail of a domain somewhere else. Raises:  TransientFailure: nothing was changed."""
        domain = self._domain(key)
        if isinstance(domain, BadWord):
            return domain
        place = self._target(target)
        if isinstance(place, BadWord):
            return place
        if len(comment) > MAX_COMMENT or not comment.isprintable():
            return BadWord(f"the comment has to be one line of at most {MAX_COMMENT} characters")
        override = PeerOverride(
            domain=domain,
            target=place,
            comment=comment,
            smtp_fallback=smtp_fallback,
            created_s=int(self.clock.now_s()),
        )
        await self.directory.put_override(override)
        await self._reconsider(domain)
        self.log.info("federation_override_set")
        return override

    async def remove_override(self, key: str) -> bool | BadWord:
        """Remove an override; False: there was none. Raises:  TransientFailure."""
        domain = self._domain(key)
        if isinstance(domain, BadWord):
            return domain
        removed = await self.directory.remove_override(domain)
        if removed:
            await self._reconsider(domain)
        return removed

    def override(self, key: str) -> PeerOverride | BadWord | None:
        """Return the override of a domain."""
        domain = self._domain(key)
        return domain if isinstance(domain, BadWord) else self.directory.override(domain)

    # --- what was learned ---

    async def forget(self, text: str) -> bool | BadWord:
        """Forget what attempts taught about a domain, and try what waits for it at once.

        Returns:  False: nothing was known. Raises:  TransientFailure.
        """
        domain = self._domain(text)
        if isinstance(domain, BadWord):
            return domain
        was_known = self.memory.forget(domain)
        await self.memory.save(self.clock.now_s())
        await self.queue.wake(domain, self.clock.now_s())
        return was_known

    async def peers(self) -> Sequence[PeerState]:
        """Return every peer that is counted, known or waited for. Raises:  TransientFailure."""
        records = {one.domain: one for one in self.ledger.records()}
        health = {one.domain: one for one in self.memory.all_health()}
        backlogs = {one.domain: one for one in await self.queue.backlogs()}
        domains = dict.fromkeys((*records, *backlogs, *health))
        own = self.settings().identity.local_domains
        return [
            PeerState(
                domain=domain,
                record=records.get(domain),
                health=health.get(domain),
                backlog=backlogs.get(domain),
            )
            for domain in domains
            if domain not in own
        ]

    # --- words ---

    def _pattern(self, text: str) -> str | BadWord:
        try:
            pattern = normalise_pattern(text)
        except AddressError as error:
            return BadWord(str(error))
        # A9.2, A9.3: mail among our own people is nobody's federation. `*` never means them.
        own = self.settings().identity.local_domains
        book = RuleBook.of_dismissals((Dismissal(pattern, 0),))
        if pattern != "*" and any(book.lists(domain) for domain in own):
            return BadWord("that is this relay's own domain")
        return pattern

    def _domain(self, text: str) -> str | BadWord:
        try:
            domain = normalise_domain(text.strip())
        except AddressError as error:
            return BadWord(str(error))
        if domain in self.settings().identity.local_domains:
            return BadWord("that is this relay's own domain")
        return domain

    def _target(self, text: str) -> str | BadWord:
        """Check where to send: a host, an address, or an http(s) URL (A2.1)."""
        target = text.strip()
        url = target if "://" in target else f"https://{target}" if "/" in target else ""
        host = _url_host(url) if url else target
        if isinstance(host, BadWord):
            return host
        try:
            name = normalise_domain(host)
        except AddressError as error:
            return BadWord(f"the target is no host: {error}")
        # Another relay may run on this very host, on other ports.
        has_port = bool(url) and urlsplit(url).port not in (None, 80, 443)
        if not has_port and self._is_own(name):
            return BadWord("the target is this relay itself")
        return url or (_bare(name) if is_literal(name) else name)

    def _is_own(self, name: str) -> bool:
        identity = self.settings().identity
        try:
            own_host = normalise_domain(identity.hostname)
        except AddressError:
            own_host = ""
        # A literal of ours may run a second relay on other ports: the transports look closer.
        return not is_literal(name) and name in (own_host, *identity.local_domains)

    async def _reconsider(self, domain: str) -> None:
        """What was learned about the old way says nothing about the new one."""
        self.memory.forget(domain)
        await self.memory.save(self.clock.now_s())
        await self.queue.wake(domain, self.clock.now_s())


def _url_host(url: str) -> str | BadWord:
    if not url.isprintable() or " " in url:
        return BadWord("the target is no URL")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return BadWord("the target is no URL")
    if parts.scheme not in ("https", "http"):
        return BadWord("the target is neither a host nor an http or https URL")
    if parts.username is not None or parts.query or parts.fragment:
        return BadWord("the target has to be scheme, host, port and path only")
    return parts.hostname or ""


def _bare(literal: str) -> str:
    return str(ipaddress.ip_address(literal[1:-1].removeprefix("IPv6:")))
