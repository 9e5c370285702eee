from __future__ import annotations

from collections import Counter

from chatmail.adapters.system.clock import SystemClock, SystemEntropy


def test_clocks_tell_unix_time_and_never_go_back() -> None:
    clock = SystemClock()
    assert clock.now_s() > 1_700_000_000
    assert clock.monotonic_s() <= clock.monotonic_s()


def test_entropy_draws_octets_and_even_text() -> None:
    entropy = SystemEntropy()
    assert len(entropy.octets(16)) == 16
    assert entropy.octets(16) != entropy.octets(16)
    counts = Counter(entropy.text("abc", 3000))
    assert set(counts) == set("abc")
    assert all(800 < count < 1200 for count in counts.values())
