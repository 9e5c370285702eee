from __future__ import annotations

import gc

from chatmail.adapters.system.budgets import BucketTable
from tests.unit.fakes.system import FakeClock, FakeEntropy


def make(clock: FakeClock, max_per_kind: int = 1000) -> BucketTable:
    return BucketTable(clock, FakeEntropy(), max_per_kind)


def take(table: BucketTable, key: str, kind: str = "k") -> bool:
    return table.take(kind, key, per_s=1, burst=2)


def test_bucket_empties_and_refills() -> None:
    clock = FakeClock()
    table = make(clock)
    assert [take(table, "a") for _ in range(3)] == [True, True, False]
    clock.advance(1.0)
    assert take(table, "a")
    assert not take(table, "a")


def test_refused_take_costs_nothing() -> None:
    clock = FakeClock()
    table = make(clock)
    for _ in range(50):
        take(table, "a")
    clock.advance(2.0)
    assert [take(table, "a") for _ in range(3)] == [True, True, False]


def test_cost_takes_several_tokens() -> None:
    table = make(FakeClock())
    assert not table.take("k", "a", per_s=1, burst=10, cost=11)
    assert table.take("k", "a", per_s=1, burst=10, cost=8)
    assert not table.take("k", "a", per_s=1, burst=10, cost=3)


def test_peek_takes_nothing_and_used_counts() -> None:
    table = make(FakeClock())
    for _ in range(5):
        assert table.peek("k", "a", per_s=1, burst=2)
    assert table.used("k", "a", per_s=1, burst=2) == 0
    take(table, "a")
    assert table.used("k", "a", per_s=1, burst=2) == 1
    take(table, "a")
    assert not table.peek("k", "a", per_s=1, burst=2)


def test_keys_and_kinds_are_apart() -> None:
    table = make(FakeClock())
    assert [take(table, "a"), take(table, "a"), take(table, "b")] == [True] * 3
    assert take(table, "a", kind="other")
    assert not take(table, "a")


def test_reset_fills_the_bucket() -> None:
    table = make(FakeClock())
    table.reset("k", "a")
    take(table, "a")
    take(table, "a")
    table.reset("k", "a")
    assert take(table, "a")


def test_table_is_bounded_and_the_least_recently_used_goes() -> None:
    table = make(FakeClock(), max_per_kind=3)
    for key in "abc":
        take(table, key)
        take(table, key)
    take(table, "d")
    assert len(table) == 3
    assert take(table, "a")  # forgotten
    assert not take(table, "c")  # still known


def test_full_buckets_are_forgotten_without_being_asked_for() -> None:
    clock = FakeClock()
    table = make(clock)
    for number in range(100):
        take(table, str(number))
    clock.advance(61)
    take(table, "new", kind="other")
    assert len(table) == 1


def test_keys_are_not_kept() -> None:
    table = make(FakeClock())
    take(table, "192.0.2.77-canary")
    seen: list[object] = [table]
    known = {id(table)}
    while seen:
        for part in gc.get_referents(seen.pop()):
            if id(part) not in known and isinstance(part, dict | list | tuple | bytes | str):
                known.add(id(part))
                seen.append(part)
                assert "canary" not in repr(part)


def test_any_text_is_a_key() -> None:
    assert take(make(FakeClock()), "\udcff odd \x00")
