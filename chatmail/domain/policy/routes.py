"""Where a message for a domain is to be handed over, and in which order.

A plan is a function of what DNS, the operator and earlier attempts said; nothing is asked here.
Source: federation-web.md A2, A3, A5.1, A5.4, A8.3.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import SplitResult, urlsplit

import attrs

from chatmail.domain.model.address import AddressError, is_literal, normalise_domain
from chatmail.domain.model.federation import Hop, PeerHealth, PeerOverride, TlsRule, TransportKind
from chatmail.domain.model.settings import FederationSettings
from chatmail.domain.policy.peer_rules import literal_address

MAX_POST_HOSTS: Final = 3
MAX_MAIL_HOSTS: Final = 5
MXDELIV: Final = "/mxdeliv"
_PORTS: Final = {"https": 443, "http": 80}


class TargetError(ValueError):
    """The target of an override is neither a host nor a URL. Never repeats the text."""


@attrs.frozen
class HostTarget:
    """Another host takes the place of the domain, for all transports. A bare address or name."""

    host: str


@attrs.frozen(kw_only=True)
class UrlTarget:
    """One place to POST to."""

    hop: Hop


def parse_target(text: str) -> HostTarget | UrlTarget:
    """Read the target of an override or of `federation.endpoint_rewrite` (A2.1, A2.2).

    A host or IP address; or a URL, with `https` and `/mxdeliv` supplied.
    Raises:  TargetError: it is neither.
    """
    target = text.strip()
    if not target.isprintable() or any(letter in target for letter in ' "<>\\'):
        raise TargetError("target has a character no host or URL has")
    if "://" not in target:
        host = _host(target)
        if host is not None:
            return HostTarget(host)
        target = f"https://{target}"
    return UrlTarget(hop=_url_hop(target))


def _host(text: str) -> str | None:
    try:
        domain = normalise_domain(text)
    except AddressError:
        return None
    return bare_host(domain)


def _url_hop(target: str) -> Hop:
    try:
        url = urlsplit(target)
        port = url.port
    except ValueError:
        raise TargetError("target is no URL") from None
    host = _host(url.hostname or "")
    if url.scheme not in _PORTS or host is None or url.query or url.fragment or "@" in url.netloc:
        raise TargetError("target is no URL to post to")
    if port == 0:
        raise TargetError("target has a port that is none")
    return Hop(
        transport=TransportKind(url.scheme),
        host=host,
        port=port or _PORTS[url.scheme],
        tls=TlsRule.NONE if url.scheme == "http" else TlsRule.VERIFY,
        path=_path(url),
        is_operators_word=True,
    )


def _path(url: SplitResult) -> str:
    if not url.path.isascii():
        raise TargetError("path is not ASCII")
    return MXDELIV if url.path in ("", "/") else url.path


def bare_host(domain: str) -> str:
    """Return a normalised domain as something to connect to: a name, or an IP address."""
    return literal_address(domain) if is_literal(domain) else domain


def is_address(host: str) -> bool:
    """Say whether a host of a hop is an IP address."""
    if ":" not in host and not host[-1:].isdigit():
        return False  # the last label of a name is never a number; that is most of what is asked
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@attrs.frozen(kw_only=True)
class RouteFacts:
    """What a plan is made of.

    Attributes:
        hosts: mail hosts in the order to try, own ones and those MTA-STS forbids left out; for a
            literal its address, for a domain without MX the domain itself.
        preferred: the transport that may have the message already (A3.4).
    """

    domain: str
    hosts: tuple[str, ...]
    health: PeerHealth
    federation: FederationSettings
    now_s: float
    preferred: TransportKind | None = None


@attrs.frozen(kw_only=True)
class RoutePlan:
    """Hops in order. `last_resorts` are for when no mail host could be connected to."""

    hops: tuple[Hop, ...]
    last_resorts: tuple[Hop, ...] = ()


def plan(facts: RouteFacts) -> RoutePlan:
    """Plan an attempt along MX hosts or to a literal."""
    domain = bare_host(facts.domain)
    hosts = facts.hosts
    # Reference relays serve /mxdeliv on the MX name, others on the domain (A3): the domain is asked
    # first if that worked before, and else when there is no other way.
    post_hosts = list(hosts[:MAX_POST_HOSTS])
    strays = [] if domain in post_hosts else [domain]
    learned = facts.health.learned_host
    if learned in post_hosts or learned in strays:
        post_hosts = [learned, *(host for host in post_hosts if host != learned)]
        strays = [host for host in strays if host != learned]
    post = [_post(facts, host) for host in post_hosts]
    smtp = [_smtp(facts, host) for host in hosts[:MAX_MAIL_HOSTS]]
    rest = [_post(facts, host) for host in strays]
    rest += [
        _in_clear(facts, host) for host in (*post_hosts, *strays) if _may_go_in_clear(facts, host)
    ]
    if (
        facts.health.https_block_until_s > facts.now_s
        and facts.preferred is not TransportKind.HTTPS
    ):
        return RoutePlan(hops=tuple(smtp), last_resorts=(*post, *rest))
    hops = [*post, *smtp]
    if facts.preferred is TransportKind.SMTP:
        hops = [*smtp, *post]
    return RoutePlan(hops=tuple(hops), last_resorts=tuple(rest))


def plan_override(
    override: PeerOverride, health: PeerHealth, federation: FederationSettings, now_s: float
) -> RoutePlan:
    """Plan an attempt by the operator's word. Raises:  TargetError: the target means nothing."""
    target = parse_target(override.target)
    if isinstance(target, HostTarget):
        facts = RouteFacts(
            domain=normalise_domain(target.host),
            hosts=(target.host,),
            health=attrs.evolve(health, learned_host=""),
            federation=federation,
            now_s=now_s,
        )
        made = plan(facts)
        return RoutePlan(hops=_by_order(made.hops), last_resorts=_by_order(made.last_resorts))
    hop = attrs.evolve(
        target.hop,
        tls=_ruled(target.hop, override.domain, federation),
        takes_one=_takes_one(override.domain, target.hop.host, federation),
    )
    if not override.smtp_fallback:
        return RoutePlan(hops=(hop,))
    return RoutePlan(
        hops=(
            hop,
            Hop(
                transport=TransportKind.SMTP,
                host=hop.host,
                port=federation.smtp_port,
                tls=tls_rule(override.domain, hop.host, federation, TransportKind.SMTP),
                is_operators_word=True,
            ),
        )
    )


def _by_order(hops: Iterable[Hop]) -> tuple[Hop, ...]:
    return tuple(attrs.evolve(hop, is_operators_word=True) for hop in hops)


def _ruled(hop: Hop, domain: str, federation: FederationSettings) -> TlsRule:
    if hop.transport is TransportKind.HTTP:
        return TlsRule.NONE
    return tls_rule(domain, hop.host, federation, TransportKind.HTTPS)


def tls_rule(
    domain: str, host: str, federation: FederationSettings, transport: TransportKind
) -> TlsRule:
    """Say what a connection to a host for a domain demands (A5.1 to A5.3)."""
    names = {domain, host}
    # Encryption is optional in SMTP alone: HTTPS without TLS would be another transport.
    if transport is TransportKind.SMTP and names & federation.tls_optional:
        return TlsRule.OPTIONAL
    if _is_unverifiable(domain) or _is_unverifiable(host) or not federation.verifies_tls:
        return TlsRule.ENCRYPT
    return TlsRule.ENCRYPT if names & federation.tls_noverify else TlsRule.VERIFY


def _is_unverifiable(name: str) -> bool:
    """Nobody certifies an IP address or a name whose first label starts with `_`."""
    return name.startswith("_") or is_literal(name) or is_address(name)


def _post(facts: RouteFacts, host: str) -> Hop:
    return Hop(
        transport=TransportKind.HTTPS,
        host=host,
        port=facts.federation.https_port,
        tls=tls_rule(facts.domain, host, facts.federation, TransportKind.HTTPS),
        takes_one=_takes_one(facts.domain, host, facts.federation),
    )


def _takes_one(domain: str, host: str, federation: FederationSettings) -> bool:
    return bool({domain, host} & federation.single_rcpt)


def _smtp(facts: RouteFacts, host: str) -> Hop:
    return Hop(
        transport=TransportKind.SMTP,
        host=host,
        port=facts.federation.smtp_port,
        tls=tls_rule(facts.domain, host, facts.federation, TransportKind.SMTP),
    )


def _in_clear(facts: RouteFacts, host: str) -> Hop:
    return Hop(
        transport=TransportKind.HTTP,
        host=host,
        port=facts.federation.http_port,
        tls=TlsRule.NONE,
        takes_one=_takes_one(facts.domain, host, facts.federation),
    )


def _may_go_in_clear(facts: RouteFacts, host: str) -> bool:
    rule = facts.federation.http_fallback
    return rule == "always" or (
        rule == "literal" and (_is_unverifiable(host) or _is_unverifiable(facts.domain))
    )


def without_loops(
    hosts: Sequence[tuple[int, str]], own: frozenset[str]
) -> tuple[tuple[int, str], ...]:
    """Leave out the own hosts, and all others of equal or worse preference (A2.6).

    Args:  hosts: (preference, host), best first. own: those that are this relay.
    """
    limit = min((preference for preference, host in hosts if host in own), default=None)
    return tuple(one for one in hosts if limit is None or one[0] < limit)
