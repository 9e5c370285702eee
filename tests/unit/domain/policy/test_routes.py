"""Plans: which hosts, over which transport, under which rule (A2, A3, A5)."""

from __future__ import annotations

import attrs
import pytest

from chatmail.domain.model.federation import (
    Hop,
    PeerHealth,
    PeerOverride,
    TlsRule,
    TransportKind,
)
from chatmail.domain.model.settings import FederationSettings
from chatmail.domain.policy import routes
from chatmail.domain.policy.routes import HostTarget, RouteFacts, TargetError, UrlTarget

NOW = 1_000_000
HTTPS, SMTP, HTTP = TransportKind.HTTPS, TransportKind.SMTP, TransportKind.HTTP
PEER = "peer.test"
FEDERATION = FederationSettings(smtp_port=2525, https_port=8443)


def facts(*hosts: str, domain: str = PEER, **changes: object) -> RouteFacts:
    return attrs.evolve(
        RouteFacts(
            domain=domain,
            hosts=hosts,
            health=PeerHealth(domain=domain),
            federation=FEDERATION,
            now_s=NOW,
        ),
        **changes,
    )


def shown(hops: tuple[Hop, ...]) -> list[str]:
    return [f"{hop.transport.value}:{hop.host}" for hop in hops]


def test_https_to_the_best_three_then_smtp_then_the_domain_itself() -> None:
    made = routes.plan(facts("a.test", "b.test", "c.test", "d.test"))
    assert shown(made.hops) == [
        "https:a.test",
        "https:b.test",
        "https:c.test",
        "smtp:a.test",
        "smtp:b.test",
        "smtp:c.test",
        "smtp:d.test",
    ]
    assert shown(made.last_resorts) == ["https:peer.test"]
    assert {hop.port for hop in made.hops if hop.transport is HTTPS} == {8443}
    assert {hop.port for hop in made.hops if hop.transport is SMTP} == {2525}
    assert {hop.path for hop in made.hops} == {"/mxdeliv"}
    assert not any(hop.is_operators_word for hop in made.hops)


@pytest.mark.parametrize("named", [PEER, "a.test"])
def test_peers_that_take_one_recipient_are_known_by_domain_or_host(named: str) -> None:
    rules = attrs.evolve(FEDERATION, single_rcpt=frozenset((named,)), http_fallback="always")
    made = routes.plan(facts("a.test", federation=rules))
    posts = [hop for hop in (*made.hops, *made.last_resorts) if hop.transport is not SMTP]
    assert {hop.host for hop in posts if hop.takes_one} >= {"a.test"}
    assert not any(hop.takes_one for hop in made.hops if hop.transport is SMTP)
    assert not any(hop.takes_one for hop in routes.plan(facts("a.test")).hops)
    override = PeerOverride(domain=named, target="https://there.test/mxdeliv")
    (hop, *_) = routes.plan_override(override, PeerHealth(domain=named), rules, NOW).hops
    assert hop.takes_one


def test_plain_http_has_a_port_of_its_own() -> None:
    rules = attrs.evolve(FEDERATION, http_port=8080)
    made = routes.plan(facts("192.0.2.1", domain="[192.0.2.1]", federation=rules))
    assert [hop.port for hop in made.last_resorts if hop.transport is HTTP] == [8080]
    made = routes.plan(facts("192.0.2.1", domain="[192.0.2.1]"))
    assert [hop.port for hop in made.last_resorts if hop.transport is HTTP] == [80]


def test_a_domain_that_is_its_own_mail_host_is_tried_once() -> None:
    made = routes.plan(facts(PEER))
    assert shown(made.hops) == ["https:peer.test", "smtp:peer.test"]
    assert made.last_resorts == ()


@pytest.mark.parametrize(
    ("learned", "first", "last"),
    [
        (PEER, ["https:peer.test", "https:a.test", "https:b.test"], []),
        ("b.test", ["https:b.test", "https:a.test", "smtp:a.test"], ["https:peer.test"]),
        ("gone.test", ["https:a.test", "https:b.test", "smtp:a.test"], ["https:peer.test"]),
    ],
)
def test_the_host_that_worked_before_is_first(
    learned: str, first: list[str], last: list[str]
) -> None:
    health = PeerHealth(domain=PEER, learned_host=learned)
    made = routes.plan(facts("a.test", "b.test", health=health))
    assert shown(made.hops)[:3] == first
    assert shown(made.last_resorts) == last


def test_https_that_is_left_alone_waits_for_smtp_to_be_unreachable() -> None:
    health = PeerHealth(domain=PEER, https_block_until_s=NOW + 1)
    made = routes.plan(facts("a.test", health=health))
    assert shown(made.hops) == ["smtp:a.test"]
    assert shown(made.last_resorts) == ["https:a.test", "https:peer.test"]
    over = PeerHealth(domain=PEER, https_block_until_s=NOW)
    assert shown(routes.plan(facts("a.test", health=over)).hops)[0] == "https:a.test"


def test_the_transport_that_may_have_delivered_is_first() -> None:
    made = routes.plan(facts("a.test", preferred=SMTP))
    assert shown(made.hops) == ["smtp:a.test", "https:a.test"]
    health = PeerHealth(domain=PEER, https_block_until_s=NOW + 1)
    made = routes.plan(facts("a.test", preferred=HTTPS, health=health))
    assert shown(made.hops)[0] == "https:a.test"


@pytest.mark.parametrize(
    ("rule", "domain", "is_tried"),
    [
        ("literal", "[203.0.113.7]", True),
        ("literal", "[IPv6:2001:db8::7]", True),
        ("literal", "_relay.test", True),
        ("literal", PEER, False),
        ("always", PEER, True),
        ("never", "[203.0.113.7]", False),
    ],
)
def test_plain_http_is_the_last_step_where_it_is_allowed(
    rule: str, domain: str, is_tried: bool
) -> None:
    federation = attrs.evolve(FEDERATION, http_fallback=rule)
    host = routes.bare_host(domain)
    made = routes.plan(facts(host, domain=domain, federation=federation))
    assert HTTP not in {hop.transport for hop in made.hops}
    clear = [hop for hop in made.last_resorts if hop.transport is HTTP]
    assert bool(clear) is is_tried
    assert all((hop.port, hop.tls) == (80, TlsRule.NONE) for hop in clear)


def test_literals_are_connected_to_without_brackets() -> None:
    made = routes.plan(facts("2001:db8::7", domain="[IPv6:2001:db8::7]"))
    assert {hop.host for hop in (*made.hops, *made.last_resorts)} == {"2001:db8::7"}
    assert {hop.tls for hop in made.hops} == {TlsRule.ENCRYPT}


# --- TLS (A5.1) -----


@pytest.mark.parametrize(
    ("domain", "host", "changes", "https", "smtp"),
    [
        (PEER, "mx.test", {}, TlsRule.VERIFY, TlsRule.VERIFY),
        ("_x.test", "_x.test", {}, TlsRule.ENCRYPT, TlsRule.ENCRYPT),
        (PEER, "_mx.test", {}, TlsRule.ENCRYPT, TlsRule.ENCRYPT),
        ("[203.0.113.7]", "203.0.113.7", {}, TlsRule.ENCRYPT, TlsRule.ENCRYPT),
        (PEER, "2001:db8::1", {}, TlsRule.ENCRYPT, TlsRule.ENCRYPT),
        ("nauta.cu", "mx.nauta.cu", {}, TlsRule.VERIFY, TlsRule.OPTIONAL),
        (PEER, "mx.test", {"tls_optional": frozenset({"mx.test"})}, TlsRule.VERIFY,
         TlsRule.OPTIONAL),
        (PEER, "mx.test", {"tls_noverify": frozenset({PEER})}, TlsRule.ENCRYPT, TlsRule.ENCRYPT),
        (PEER, "mx.test", {"tls_noverify": frozenset({"mx.test"})}, TlsRule.ENCRYPT,
         TlsRule.ENCRYPT),
        (PEER, "mx.test", {"verifies_tls": False}, TlsRule.ENCRYPT, TlsRule.ENCRYPT),
    ],
)  # fmt: skip
def test_the_rule_for_a_host(
    domain: str, host: str, changes: dict[str, object], https: TlsRule, smtp: TlsRule
) -> None:
    federation = attrs.evolve(FEDERATION, **changes)
    assert routes.tls_rule(domain, host, federation, HTTPS) is https
    assert routes.tls_rule(domain, host, federation, SMTP) is smtp


# --- overrides (A2.1) -----


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("relay.test", "relay.test"),
        ("Relay.Test.", "relay.test"),
        ("203.0.113.7", "203.0.113.7"),
        ("[203.0.113.7]", "203.0.113.7"),
        ("2001:DB8::7", "2001:db8::7"),
        ("[IPv6:2001:db8::7]", "2001:db8::7"),
    ],
)
def test_a_target_that_is_a_host(text: str, host: str) -> None:
    assert routes.parse_target(text) == HostTarget(host)


@pytest.mark.parametrize(
    ("text", "transport", "host", "port", "path"),
    [
        ("https://x.test", HTTPS, "x.test", 443, "/mxdeliv"),
        ("https://x.test/", HTTPS, "x.test", 443, "/mxdeliv"),
        ("https://x.test:8443/in", HTTPS, "x.test", 8443, "/in"),
        ("http://x.test", HTTP, "x.test", 80, "/mxdeliv"),
        ("x.test/in", HTTPS, "x.test", 443, "/in"),
        ("x.test:8443", HTTPS, "x.test", 8443, "/mxdeliv"),
        ("https://[2001:db8::7]:8443", HTTPS, "2001:db8::7", 8443, "/mxdeliv"),
        ("http://203.0.113.7:8080/", HTTP, "203.0.113.7", 8080, "/mxdeliv"),
    ],
)
def test_a_target_that_is_a_url(
    text: str, transport: TransportKind, host: str, port: int, path: str
) -> None:
    target = routes.parse_target(text)
    assert isinstance(target, UrlTarget)
    hop = target.hop
    assert (hop.transport, hop.host, hop.port, hop.path) == (transport, host, port, path)
    assert hop.is_operators_word


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ftp://x.test",
        "https://",
        "https://x.test:99999",
        "https://x.test:0",
        "https://u:p@x.test/",
        "https://x.test/?a=b",
        "https://x.test/#a",
        "https://x.test/a b",
        "https://x.test/\r\nHost: y",
        "https://x.test/ü",
        "a..b",
    ],
)
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(TargetError):
        routes.parse_target(text)


def plan_override(target: str, **changes: object) -> routes.RoutePlan:
    override = PeerOverride(domain=PEER, target=target, **changes)  # type: ignore[arg-type]
    return routes.plan_override(override, PeerHealth(domain=PEER), FEDERATION, NOW)


def test_a_host_takes_the_place_of_the_domain_for_all_transports() -> None:
    made = plan_override("other.test")
    assert shown(made.hops) == ["https:other.test", "smtp:other.test"]
    assert all(hop.is_operators_word for hop in made.hops)
    literal = plan_override("203.0.113.7")
    assert shown(literal.last_resorts) == ["http:203.0.113.7"]
    assert all(hop.is_operators_word for hop in literal.last_resorts)


def test_a_url_is_posted_to_and_its_host_takes_smtp_if_allowed() -> None:
    made = plan_override("https://other.test/in")
    assert shown(made.hops) == ["https:other.test", "smtp:other.test"]
    assert made.last_resorts == ()
    assert shown(plan_override("https://other.test", smtp_fallback=False).hops) == [
        "https:other.test"
    ]
    assert plan_override("http://other.test").hops[0].tls is TlsRule.NONE


# --- loops (A2.6) -----


@pytest.mark.parametrize(
    ("own", "left"),
    [
        (set(), ["a", "b", "c"]),
        ({"a"}, []),
        ({"b"}, ["a"]),
        ({"c"}, ["a"]),
    ],
)
def test_ourselves_and_whatever_is_no_better_is_left_out(own: set[str], left: list[str]) -> None:
    hosts = [(10, "a"), (20, "b"), (20, "c")]
    assert [host for _, host in routes.without_loops(hosts, frozenset(own))] == left
