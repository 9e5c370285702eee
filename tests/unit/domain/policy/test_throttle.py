from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.policy import throttle
from chatmail.domain.policy.throttle import client_prefix, failure_delay_s


def drain(rate: throttle.Rate, now_s: float = 1000.0) -> tuple[int, float]:
    """Take until refused; return how often it went well and the state."""
    state, count = now_s, 0
    while (after := throttle.take(state, now_s, per_s=rate.per_s, burst=rate.burst)) is not None:
        state, count = after, count + 1
    return count, state


@pytest.mark.parametrize(
    ("rate", "burst", "one_more_after_s"),
    [
        pytest.param(throttle.FAILURES_PER_PAIR, 10, 60, id="pair"),
        pytest.param(throttle.FAILURES_PER_PREFIX, 60, 10, id="prefix"),
        pytest.param(throttle.creations_per_prefix(60), 60, 60, id="creations"),
        pytest.param(throttle.CREATIONS, 20, 0.05, id="all-creations"),
        pytest.param(throttle.NEW_REQUESTS, 5, 0.5, id="new"),
        pytest.param(throttle.TOKEN_FAILURES, 10, 6, id="tokens"),
    ],
)
def test_rates_are_those_of_the_specification(
    rate: throttle.Rate, burst: int, one_more_after_s: float
) -> None:
    count, state = drain(rate)
    assert count == burst
    early, late = 1000 + one_more_after_s * 0.9, 1000 + one_more_after_s * 1.01
    assert throttle.take(state, early, per_s=rate.per_s, burst=rate.burst) is None
    assert throttle.take(state, late, per_s=rate.per_s, burst=rate.burst) is not None


def test_creation_limit_zero_is_none() -> None:
    assert throttle.creations_per_prefix(0) is None


@given(
    st.lists(st.floats(0, 120), max_size=60),
    st.floats(0.01, 50),
    st.integers(1, 60),
)
def test_no_window_holds_more_than_burst_and_refill(
    gaps: list[float], per_s: float, burst: int
) -> None:
    now_s, state, taken = 0.0, 0.0, 0
    for gap in gaps:
        now_s += gap
        after = throttle.take(state, now_s, per_s=per_s, burst=burst)
        if after is not None:
            state, taken = after, taken + 1
        assert throttle.drained(state, now_s, per_s) <= burst * 1.001
    assert taken <= burst + now_s * per_s + 1e-3 * (burst + now_s * per_s) + 1


def test_failures_wait_2_s_doubling_to_30_s() -> None:
    assert [failure_delay_s(n) for n in range(1, 11)] == [2, 4, 8, 16, 30, 30, 30, 30, 30, 30]


def test_refill_while_waiting_does_not_shorten_the_next_delay() -> None:
    rate = throttle.FAILURES_PER_PAIR
    state, now_s, delays = 0.0, 0.0, []
    for _ in range(5):
        after = throttle.take(state, now_s, per_s=rate.per_s, burst=rate.burst)
        assert after is not None
        state = after
        delays.append(failure_delay_s(throttle.drained(state, now_s, rate.per_s)))
        now_s += delays[-1]
    assert delays == [2, 4, 8, 16, 30]


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
    ],
)
def test_prefixes_are_ipv4_32_and_ipv6_64(one: str, other: str, is_same: bool) -> None:
    assert (client_prefix(one).key == client_prefix(other).key) is is_same
    assert not client_prefix(one).is_exempt


@pytest.mark.parametrize("source", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", ""])
def test_loopback_is_exempt(source: str) -> None:
    assert client_prefix(source).is_exempt


def test_trusted_proxies_are_exempt() -> None:
    proxies = ("10.0.0.0/8", "2001:db8::/32")
    assert client_prefix("10.1.2.3", proxies).is_exempt
    assert client_prefix("::ffff:10.1.2.3", proxies).is_exempt
    assert client_prefix("2001:db8::9", proxies).is_exempt
    assert not client_prefix("192.0.2.1", proxies).is_exempt


def test_unreadable_source_is_limited_as_one() -> None:
    assert not client_prefix("nonsense").is_exempt


def test_prefix_never_shows_in_a_repr() -> None:
    assert "192.0.2.1" not in repr(client_prefix("192.0.2.1"))
