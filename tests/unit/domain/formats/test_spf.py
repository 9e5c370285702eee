"""Does a policy pass our addresses?"""

from __future__ import annotations

import pytest

from chatmail.domain.formats.spf import passes_all, referred

OURS = ("192.0.2.1", "2001:db8::1")
OWN = ("chat.example", "mx.chat.example")


@pytest.mark.parametrize(
    ("policy", "passes"),
    [
        ("v=spf1 a ~all", True),
        ("v=spf1 mx -all", True),
        ("v=spf1 a:mx.chat.example -all", True),
        ("v=spf1 +a/24 -all", True),
        ("v=spf1 a:other.example -all", False),
        ("v=spf1 ip4:192.0.2.1 -all", False),  # the other family is not passed
        ("v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all", True),
        ("v=spf1 -a +all", False),
        ("v=spf1 ?a -all", False),
        ("v=spf1 ~all", False),
        ("v=spf1 +all", True),
        ("v=spf1 exists:%{i}.example -all", False),
        ("v=spf1 ip4:nonsense all", True),
        ("v=spf1", False),
        ("v=spf1 include:all.example -all", True),
        ("v=spf1 include:none.example -all", False),
        ("v=spf1 redirect=all.example", True),
        ("v=spf1 redirect=away.example", False),
        ("v=spf1 -all redirect=all.example", False),
        ("v=spf1 include:loop.example -all", False),
        ("v=spf1 exp=why.example a", True),
    ],
)
def test_a_policy_passes_when_every_address_passes(policy: str, passes: bool) -> None:
    included = {
        "all.example": "v=spf1 +all",
        "none.example": "v=spf1 -all",
        "loop.example": "v=spf1 include:loop.example",
    }
    assert passes_all(policy, "chat.example", OURS, OWN, included) is passes


def test_without_known_addresses_its_own_name_has_to_pass() -> None:
    assert passes_all("v=spf1 a -all", "chat.example", (), OWN, {})
    assert not passes_all("v=spf1 ip4:192.0.2.1 -all", "chat.example", (), OWN, {})


def test_referred_policies_are_named() -> None:
    policy = "v=spf1 a include:One.example ?include:two.example redirect=three.example"
    assert referred(policy) == ("one.example", "two.example", "three.example")
