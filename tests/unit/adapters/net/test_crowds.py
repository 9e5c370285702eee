from __future__ import annotations

import pytest

from chatmail.adapters.net.crowds import ConnectionLimits, Crowd, source_of


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("127.0.0.1", ""),
        ("127.9.9.9", ""),
        ("::1", ""),
        ("::ffff:127.0.0.1", ""),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "20010db800010002"),
        ("fe80::1%eth0", "fe80000000000000"),
    ],
)
def test_source_is_an_ipv4_address_or_an_ipv6_network(host: str, source: str) -> None:
    assert source_of(host) == source


def test_a_source_gets_a_fifth_by_default() -> None:
    crowd = Crowd(lambda: ConnectionLimits(10))
    assert [crowd.enter("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert crowd.enter("192.0.2.2")
    assert (crowd.present, crowd.refused) == (3, 1)


def test_addresses_of_one_ipv6_network_are_one_source() -> None:
    crowd = Crowd(lambda: ConnectionLimits(100, 2))
    assert [crowd.enter(f"2001:db8::{i}") for i in range(3)] == [True, True, False]


def test_loopback_is_exempt_from_the_limit_per_source_only() -> None:
    crowd = Crowd(lambda: ConnectionLimits(4, 1))
    assert [crowd.enter("127.0.0.1") for _ in range(5)] == [True] * 4 + [False]


def test_who_leaves_makes_room_and_is_forgotten() -> None:
    crowd = Crowd(lambda: ConnectionLimits(10, 2))
    for _ in range(2):
        crowd.enter("192.0.2.1")
    crowd.leave("192.0.2.1")
    assert crowd.enter("192.0.2.1")
    crowd.leave("192.0.2.1")
    crowd.leave("192.0.2.1")
    crowd.enter("127.0.0.1")
    crowd.leave("127.0.0.1")
    assert crowd.present == 0
    assert not crowd._by_source


def test_changed_limits_hold_at_once() -> None:
    limits = ConnectionLimits(0)
    crowd = Crowd(lambda: limits)
    assert not crowd.enter("192.0.2.1")
    limits = ConnectionLimits(10)
    assert crowd.enter("192.0.2.1")


def test_a_small_total_still_lets_one_of_each_source_in() -> None:
    assert ConnectionLimits(3).of_one_source() == 1
