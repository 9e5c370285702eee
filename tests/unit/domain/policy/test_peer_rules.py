"""Patterns of the federation policy (spec policy 7.1)."""

from __future__ import annotations

import pytest

from chatmail.domain.model.address import AddressError
from chatmail.domain.model.federation import Dismissal, PeerAction, PeerRule
from chatmail.domain.policy.peer_rules import RuleBook, normalise_pattern


def book(*patterns: str, action: PeerAction = PeerAction.LISTED) -> RuleBook:
    return RuleBook.of_rules(PeerRule(normalise_pattern(text), action, 0) for text in patterns)


@pytest.mark.parametrize(
    ("pattern", "domain", "is_meant"),
    [
        pytest.param("peer.test", "peer.test", True, id="exact"),
        pytest.param("peer.test", "a.peer.test", False, id="exact-not-below"),
        pytest.param("PEER.Test.", "peer.test", True, id="normalised"),
        pytest.param("bücher.test", "xn--bcher-kva.test", True, id="a-labels"),
        pytest.param("*.peer.test", "a.peer.test", True, id="star-below"),
        pytest.param("*.peer.test", "a.b.peer.test", True, id="star-any-depth"),
        pytest.param("*.peer.test", "peer.test", False, id="star-not-the-apex"),
        pytest.param("*.peer.test", "notpeer.test", False, id="star-whole-labels"),
        pytest.param(".peer.test", "peer.test", True, id="dot-apex"),
        pytest.param(".peer.test", "a.b.peer.test", True, id="dot-below"),
        pytest.param(".peer.test", "notpeer.test", False, id="dot-whole-labels"),
        pytest.param("203.0.113.7", "[203.0.113.7]", True, id="bare-literal"),
        pytest.param("[203.0.113.7]", "[203.0.113.7]", True, id="literal"),
        pytest.param("2001:db8::0", "[IPv6:2001:db8::]", True, id="ipv6"),
        pytest.param("203.0.113.0/24", "[203.0.113.9]", True, id="network"),
        pytest.param("203.0.113.9/24", "[203.0.113.1]", True, id="network-host-bits"),
        pytest.param("203.0.113.0/24", "[203.0.114.9]", False, id="network-outside"),
        pytest.param("203.0.113.0/24", "[IPv6:2001:db8::1]", False, id="network-other-family"),
        pytest.param("[IPv6:2001:db8::/32]", "[IPv6:2001:db8::1]", True, id="network-ipv6"),
        pytest.param("203.0.113.0/24", "peer.test", False, id="network-no-name"),
        pytest.param("*", "peer.test", True, id="everything"),
        pytest.param("*", "[203.0.113.9]", True, id="everything-literals"),
    ],
)
def test_a_pattern_means(pattern: str, domain: str, is_meant: bool) -> None:
    assert book(pattern).lists(domain) is is_meant
    assert RuleBook.of_dismissals([Dismissal(normalise_pattern(pattern), 0)]).lists(domain) is (
        is_meant
    )


@pytest.mark.parametrize(
    "text", ["", "*.", ".", "a b", "*.203.0.113.7", ".[203.0.113.7]", "1.2.3.4/99", "x/24", "*x*"]
)
def test_what_is_no_pattern_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(AddressError) as caught:
        normalise_pattern(text)
    assert len(text) < 3 or text not in str(caught.value)


def test_the_default_decides_what_a_listed_domain_means() -> None:
    rules = book("peer.test")
    assert not rules.allows("peer.test", rejects_by_default=False)
    assert rules.allows("other.test", rejects_by_default=False)
    assert rules.allows("peer.test", rejects_by_default=True)
    assert not rules.allows("other.test", rejects_by_default=True)


@pytest.mark.parametrize("rejects", [False, True])
def test_block_wins_then_allow_then_the_default(rejects: bool) -> None:
    rules = RuleBook.of_rules(
        [
            PeerRule("*.peer.test", PeerAction.ALLOW, 0),
            PeerRule("bad.peer.test", PeerAction.BLOCK, 0),
        ]
    )
    assert not rules.allows("bad.peer.test", rejects_by_default=rejects)
    assert rules.allows("good.peer.test", rejects_by_default=rejects)
    assert rules.allows("other.test", rejects_by_default=rejects) is not rejects


def test_one_domain_may_have_rules_of_both_kinds() -> None:
    rules = RuleBook.of_rules(
        [
            PeerRule("peer.test", PeerAction.ALLOW, 0),
            PeerRule("peer.test", PeerAction.LISTED, 0),
        ]
    )
    assert not rules.allows("peer.test", rejects_by_default=False)
    assert rules.allows("peer.test", rejects_by_default=True)
