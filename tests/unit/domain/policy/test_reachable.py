from __future__ import annotations

import pytest

from chatmail.domain.policy.reachable import (
    AddressClass,
    AddressScope,
    address_class,
    address_scope,
    may_connect,
)

PUBLIC, LOOPBACK, PRIVATE, NEVER = AddressClass


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("8.8.8.8", PUBLIC),
        ("2a00:1450::1", PUBLIC),
        # Documentation: nothing is there.
        ("192.0.2.1", PUBLIC),
        ("198.51.100.7", PUBLIC),
        ("203.0.113.9", PUBLIC),
        ("2001:db8::1", PUBLIC),
        ("127.0.0.1", LOOPBACK),
        ("127.255.0.1", LOOPBACK),
        ("::1", LOOPBACK),
        ("10.1.2.3", PRIVATE),
        ("172.16.0.1", PRIVATE),
        ("172.32.0.1", PUBLIC),
        ("192.168.1.1", PRIVATE),
        ("100.64.0.1", PRIVATE),
        ("100.127.255.255", PRIVATE),
        ("198.18.0.1", PRIVATE),
        ("fd12:3456::1", PRIVATE),
        ("fc00::1", PRIVATE),
        ("fec0::1", PRIVATE),
        ("0.0.0.0", NEVER),
        ("0.1.2.3", NEVER),
        ("::", NEVER),
        ("169.254.169.254", NEVER),
        ("fd00:ec2::254", NEVER),
        ("100.100.100.200", NEVER),
        ("168.63.129.16", NEVER),
        ("192.0.0.192", NEVER),
        ("224.0.0.1", NEVER),
        ("239.1.1.1", NEVER),
        ("240.0.0.1", NEVER),
        ("255.255.255.255", NEVER),
        ("fe80::1", NEVER),
        ("fe80::1%eth0", NEVER),
        ("ff02::1", NEVER),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", NEVER),
        ("64:ff9b:1::a00:1", NEVER),
        # IPv4 in IPv6: mapped, 6to4, NAT64, compatible.
        ("::ffff:127.0.0.1", LOOPBACK),
        ("::ffff:10.0.0.1", PRIVATE),
        ("::ffff:169.254.169.254", NEVER),
        ("::ffff:8.8.8.8", PUBLIC),
        ("2002:7f00:1::", LOOPBACK),
        ("2002:c0a8:101::1", PRIVATE),
        ("2002:808:808::", PUBLIC),
        ("64:ff9b::7f00:1", LOOPBACK),
        ("64:ff9b::a00:1", PRIVATE),
        ("64:ff9b::808:808", PUBLIC),
        ("::7f00:1", LOOPBACK),
        ("::10.0.0.1", PRIVATE),
        ("localhost", NEVER),
        ("", NEVER),
        ("1.2.3", NEVER),
    ],
)
def test_every_address_has_its_class(host: str, expected: AddressClass) -> None:
    assert address_class(host) is expected


def test_only_public_addresses_are_allowed_at_first() -> None:
    scope = AddressScope()
    assert may_connect(scope, "8.8.8.8", 25)
    for host in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "nonsense"):
        assert not may_connect(scope, host, 25)


def test_allowances_are_separate() -> None:
    assert may_connect(AddressScope(allows_loopback=True), "127.0.0.1", 25)
    assert not may_connect(AddressScope(allows_loopback=True), "10.0.0.1", 25)
    assert may_connect(AddressScope(allows_private=True), "10.0.0.1", 25)
    assert not may_connect(AddressScope(allows_private=True), "127.0.0.1", 25)


def test_nothing_but_the_operator_allows_link_local() -> None:
    scope = AddressScope(allows_loopback=True, allows_private=True)
    assert not may_connect(scope, "169.254.1.1", 25)
    assert may_connect(scope, "169.254.1.1", 25, is_operators_word=True)


def test_the_operators_word_opens_private_addresses_but_not_our_own_listeners() -> None:
    scope = AddressScope(own_listeners=frozenset({("127.0.0.1", 25)}))
    assert may_connect(scope, "127.0.0.1", 2525, is_operators_word=True)
    assert not may_connect(scope, "127.0.0.1", 25, is_operators_word=True)


def test_two_relays_on_one_loopback_with_different_ports() -> None:
    scope = address_scope("auto", [("127.0.0.1", 2525)], mail_domain="[127.0.0.1]")
    assert may_connect(scope, "127.0.0.1", 3525)
    assert not may_connect(scope, "127.0.0.1", 2525)
    assert not may_connect(scope, "::ffff:127.0.0.1", 2525)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.5", "::1", "203.0.113.5", "0.0.0.0"])
def test_a_wildcard_listener_is_at_every_own_address(host: str) -> None:
    scope = AddressScope(
        allows_loopback=True,
        own_listeners=frozenset({("0.0.0.0", 25), ("::", 25)}),
        own_addresses=frozenset({"203.0.113.5"}),
    )
    assert not may_connect(scope, host, 25)
    assert not may_connect(scope, host, 25, is_operators_word=True)
    assert may_connect(scope, "203.0.113.6", 25)


def test_the_unspecified_address_leads_to_a_loopback_listener() -> None:
    scope = AddressScope(own_listeners=frozenset({("127.0.0.1", 25)}))
    assert not may_connect(scope, "0.0.0.0", 25, is_operators_word=True)


@pytest.mark.parametrize(
    ("mode", "listener", "domain", "public_ip", "loopback", "private"),
    [
        pytest.param("auto", "127.0.0.1", "a.test", "", True, False, id="all-on-loopback"),
        pytest.param("auto", "0.0.0.0", "a.test", "", False, False, id="public"),
        pytest.param("auto", "0.0.0.0", "[127.0.0.1]", "", True, False, id="loopback-literal"),
        pytest.param("auto", "0.0.0.0", "[IPv6:::1]", "", True, False, id="loopback-literal-6"),
        pytest.param("auto", "0.0.0.0", "[10.0.0.1]", "", False, True, id="private-literal"),
        pytest.param("auto", "*", "[IPv6:fd00::1]", "", False, True, id="ula-literal"),
        pytest.param("auto", "0.0.0.0", "a.test", "192.168.0.2", False, True, id="private-ip"),
        pytest.param("auto", "10.0.0.1", "a.test", "", False, False, id="private-listener"),
        pytest.param("allow", "0.0.0.0", "a.test", "", True, True, id="allow"),
        pytest.param("refuse", "127.0.0.1", "[127.0.0.1]", "", False, False, id="refuse"),
    ],
)
def test_auto_allows_what_we_are_ourselves(
    mode: str, listener: str, domain: str, public_ip: str, loopback: bool, private: bool
) -> None:
    scope = address_scope(
        mode,
        [(listener, 25)],
        mail_domain=domain,
        public_ips=[public_ip] if public_ip else [],
    )
    assert (scope.allows_loopback, scope.allows_private) == (loopback, private)


def test_one_public_listener_ends_the_loopback_rule() -> None:
    scope = address_scope("auto", [("127.0.0.1", 25), ("*", 443)], mail_domain="a.test")
    assert not scope.allows_loopback
