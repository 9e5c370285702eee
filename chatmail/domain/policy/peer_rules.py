"""Which domains a pattern of the operator means, and what follows for mail to or from a domain.

Patterns are exact domains, `*.example.org` (any depth below, not the apex), `.example.org` (the
apex too), address literals with or without brackets, networks of literals (`203.0.113.0/24`) and
`*`. A `RuleBook` is compiled once per change of the list, so a look-up costs a few dictionary
accesses, however long the list is. Source: spec policy 7.1, 7.2.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

import attrs

from chatmail.domain.model.address import AddressError, is_literal, normalise_domain
from chatmail.domain.model.federation import Dismissal, PeerAction, PeerRule

EVERYTHING: Final = "*"

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


def normalise_pattern(text: str) -> str:
    """Return the one spelling of a pattern.

    Raises:  AddressError: it is none. The message never repeats the text.
    """
    pattern = text.strip()
    if pattern == EVERYTHING:
        return pattern
    if "/" in pattern:
        return str(_network(pattern))
    for prefix in ("*.", "."):
        if pattern.startswith(prefix):
            name = normalise_domain(pattern[len(prefix) :])
            if is_literal(name):
                raise AddressError("an address literal has no subdomains")
            return prefix + name
    return normalise_domain(pattern)


def _network(text: str) -> _Network:
    bare = text.removeprefix("[").removesuffix("]")
    if bare[:5].lower() == "ipv6:":
        bare = bare[5:]
    try:
        return ipaddress.ip_network(bare, strict=False)
    except ValueError:
        raise AddressError("network is malformed") from None


def literal_address(domain: str) -> str:
    """Return the bare IP address of a normalised address literal."""
    return domain[1:-1].removeprefix("IPv6:")


@attrs.frozen
class RuleBook:
    """A compiled list of patterns, each with what it says."""

    _by_pattern: Mapping[str, frozenset[PeerAction]]
    _networks: tuple[tuple[_Network, PeerAction], ...]

    @staticmethod
    def of_rules(rules: Iterable[PeerRule]) -> RuleBook:
        """Compile the federation policy."""
        return _compile((rule.pattern, rule.action) for rule in rules)

    @staticmethod
    def of_dismissals(dismissals: Iterable[Dismissal]) -> RuleBook:
        """Compile the list of what is silently dismissed."""
        return _compile((one.pattern, PeerAction.LISTED) for one in dismissals)

    def actions(self, domain: str) -> frozenset[PeerAction]:
        """Return what all patterns that mean this normalised domain say."""
        found: set[PeerAction] = set()
        for spelling in _spellings(domain):
            found |= self._by_pattern.get(spelling, frozenset())
        if self._networks and is_literal(domain):
            address = ipaddress.ip_address(literal_address(domain))
            found |= {action for network, action in self._networks if address in network}
        return frozenset(found)

    def lists(self, domain: str) -> bool:
        """Say whether any pattern means this domain."""
        return bool(self.actions(domain))

    def allows(self, domain: str, *, rejects_by_default: bool) -> bool:
        """Say whether mail may be exchanged: block wins, then allow, then the default."""
        actions = self.actions(domain)
        listed = PeerAction.ALLOW if rejects_by_default else PeerAction.BLOCK
        meanings = {listed if action is PeerAction.LISTED else action for action in actions}
        if PeerAction.BLOCK in meanings:
            return False
        return PeerAction.ALLOW in meanings or not rejects_by_default


def _compile(rules: Iterable[tuple[str, PeerAction]]) -> RuleBook:
    by_pattern: dict[str, frozenset[PeerAction]] = {}
    networks: list[tuple[_Network, PeerAction]] = []
    for pattern, action in rules:
        if "/" in pattern:
            networks.append((ipaddress.ip_network(pattern), action))
        else:
            by_pattern[pattern] = by_pattern.get(pattern, frozenset()) | {action}
    return RuleBook(MappingProxyType(by_pattern), tuple(networks))


def _spellings(domain: str) -> Iterator[str]:
    """All patterns without a network that mean a domain."""
    yield EVERYTHING
    yield domain
    if is_literal(domain):
        return
    yield "." + domain
    rest = domain
    while "." in rest:
        rest = rest.partition(".")[2]
        yield "." + rest
        yield "*." + rest
