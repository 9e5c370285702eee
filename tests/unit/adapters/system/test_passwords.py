from __future__ import annotations

import os
import time

import pytest
import trio

from chatmail.adapters.system import password_schemes
from chatmail.adapters.system.passwords import (
    MAX_REMEMBERED,
    REMEMBER_S,
    CachingHasher,
    hashing_pool,
)
from chatmail.adapters.system.threads import ThreadPool
from chatmail.domain.model.account import AccountId
from chatmail.domain.model.errors import Overloaded
from tests.unit.fakes.system import FakeClock, FakeEntropy

ALICE, BOB = AccountId(1), AccountId(2)
PASSWORD = b"correct horse"
CHEAP = "sha256:cmVsYXktc2FsdC0wMDAx:GHtCKcv/6+aDkK2PNLaCBjf4vJ7TsSVyG7ImLn4kzYY="


def make(clock: FakeClock | None = None, max_remembered: int = 100) -> CachingHasher:
    pool = ThreadPool("hash", 1, 100)
    return CachingHasher(pool, clock or FakeClock(), FakeEntropy(), max_remembered)


async def test_hash_verifies_and_salts_differ() -> None:
    hasher = make()
    one, other = await hasher.hash(PASSWORD), await hasher.hash(PASSWORD)
    assert one != other
    assert await hasher.verify(None, one, PASSWORD)
    assert not await hasher.verify(None, one, b"wrong")


async def test_success_is_remembered_and_failure_is_not() -> None:
    hasher = make()
    assert not await hasher.verify(ALICE, CHEAP, b"wrong")
    assert len(hasher) == 0
    assert await hasher.verify(ALICE, CHEAP, PASSWORD)
    assert hasher.is_verified(ALICE, CHEAP, PASSWORD)
    assert not hasher.is_verified(ALICE, CHEAP, b"wrong")
    assert not hasher.is_verified(BOB, CHEAP, PASSWORD)
    assert not hasher.is_verified(ALICE, CHEAP + "x", PASSWORD)


async def test_check_without_account_is_not_remembered() -> None:
    hasher = make()
    await hasher.verify(None, CHEAP, PASSWORD)
    assert len(hasher) == 0


def test_memory_lasts_a_week_after_the_last_use() -> None:
    clock = FakeClock()
    hasher = make(clock)
    hasher.remember(ALICE, CHEAP, PASSWORD)
    clock.advance(REMEMBER_S - 1)
    assert hasher.is_verified(ALICE, CHEAP, PASSWORD)
    clock.advance(REMEMBER_S - 1)
    assert hasher.is_verified(ALICE, CHEAP, PASSWORD)
    clock.advance(REMEMBER_S)
    assert not hasher.is_verified(ALICE, CHEAP, PASSWORD)
    assert len(hasher) == 0
    assert REMEMBER_S == 7 * 86400


def test_forget_drops_at_once() -> None:
    hasher = make()
    hasher.remember(ALICE, CHEAP, PASSWORD)
    hasher.forget(ALICE)
    hasher.forget(BOB)
    assert not hasher.is_verified(ALICE, CHEAP, PASSWORD)


def test_memory_is_bounded_and_the_least_recently_used_goes() -> None:
    hasher = make(max_remembered=2)
    hasher.remember(ALICE, CHEAP, PASSWORD)
    hasher.remember(BOB, CHEAP, PASSWORD)
    assert hasher.is_verified(ALICE, CHEAP, PASSWORD)
    hasher.remember(AccountId(3), CHEAP, PASSWORD)
    assert len(hasher) == 2
    assert hasher.is_verified(ALICE, CHEAP, PASSWORD)
    assert not hasher.is_verified(BOB, CHEAP, PASSWORD)
    assert MAX_REMEMBERED == 50_000


def test_memory_holds_no_password() -> None:
    hasher = make()
    hasher.remember(ALICE, CHEAP, b"canary-password")
    assert b"canary" not in repr(hasher._verified).encode()


async def test_sessions_in_line_profit_from_the_first_one(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bytes] = []

    def verify(stored: str, password: bytes) -> bool:
        calls.append(password)
        return password == PASSWORD

    monkeypatch.setattr(password_schemes, "verify", verify)
    hasher = make()
    results: list[bool] = []

    async def one() -> None:
        results.append(await hasher.verify(ALICE, CHEAP, PASSWORD))

    async with trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(one)
    assert results == [True] * 30
    assert len(calls) == 1


async def test_full_line_is_overloaded() -> None:
    hasher = CachingHasher(ThreadPool("hash", 1, 0), FakeClock(), FakeEntropy())
    with pytest.raises(Overloaded):
        await hasher.hash(PASSWORD)
    with pytest.raises(Overloaded):
        await hasher.verify(ALICE, CHEAP, PASSWORD)
    with pytest.raises(Overloaded):
        await hasher.verify_nothing(PASSWORD)


async def test_verifying_nothing_takes_as_long_as_verifying() -> None:
    hasher = make()
    stored = await hasher.hash(PASSWORD)
    real, nothing = [], []
    for _ in range(3):
        start = time.perf_counter()
        await hasher.verify(None, stored, b"wrong")
        middle = time.perf_counter()
        await hasher.verify_nothing(b"wrong")
        real.append(middle - start)
        nothing.append(time.perf_counter() - middle)
    assert min(nothing) > min(real) / 3


async def test_pool_has_half_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    for processors, slots in ((1, 1), (2, 1), (8, 4), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda count=processors: count)
        assert hashing_pool()._slots.total_tokens == slots
