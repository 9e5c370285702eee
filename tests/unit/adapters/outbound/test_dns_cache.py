from __future__ import annotations

from chatmail.adapters.outbound.dns_cache import DnsCache
from tests.unit.fakes.system import FakeClock


def test_values_are_kept_by_name_and_kind_until_they_expire() -> None:
    clock = FakeClock()
    cache: DnsCache[str] = DnsCache(clock)
    cache.put("a", "MX", "mx", ttl_s=30, octets=1)
    cache.put("a", "A", "a", ttl_s=60, octets=1)
    assert (cache.get("a", "MX"), cache.get("a", "A"), cache.get("a", "TXT")) == ("mx", "a", None)
    clock.advance(30)
    assert (cache.get("a", "MX"), cache.get("a", "A")) == (None, "a")
    assert len(cache) == 1


def test_the_least_recently_used_goes_first() -> None:
    cache: DnsCache[str] = DnsCache(FakeClock(), max_entries=2)
    for name in ("a", "b"):
        cache.put(name, "A", name, ttl_s=30, octets=1)
    cache.get("a", "A")
    cache.put("c", "A", "c", ttl_s=30, octets=1)
    assert [cache.get(name, "A") for name in "abc"] == ["a", None, "c"]


def test_octets_are_bounded() -> None:
    cache: DnsCache[str] = DnsCache(FakeClock(), max_octets=10)
    for name in ("a", "b", "c"):
        cache.put(name, "TXT", name, ttl_s=30, octets=4)
    assert [cache.get(name, "TXT") for name in "abc"] == [None, "b", "c"]
    cache.put("c", "TXT", "C", ttl_s=30, octets=10)
    assert [cache.get(name, "TXT") for name in "abc"] == [None, None, "C"]


def test_a_value_that_is_too_large_is_not_kept() -> None:
    cache: DnsCache[str] = DnsCache(FakeClock(), max_octets=10)
    cache.put("a", "TXT", "a", ttl_s=30, octets=11)
    assert len(cache) == 0
