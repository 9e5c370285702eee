"""Logins: guesses are slowed down and refused, creations and hashes are bounded."""

from __future__ import annotations

import pytest
import trio

from chatmail.domain.model.account import Account
from chatmail.domain.model.settings import RegistrationSettings
from chatmail.domain.usecases.authenticate import LoginRefusal
from tests.unit.domain.usecases.accounts import World
from tests.unit.domain.usecases.logins import (
    ADDRESS,
    BAD,
    HERE,
    PASSWORD,
    THERE,
    UNAVAILABLE,
    gather,
    is_refused,
    log_in,
    stored,
)


async def test_delays_double_for_source_and_account() -> None:
    world = World()
    world.accounts.add(str(ADDRESS), stored())
    delays = []
    for _ in range(6):
        outcome = await log_in(world, "wrong password")
        assert isinstance(outcome, LoginRefusal)
        delays.append(outcome.delay_s)
    assert delays == [2, 4, 8, 16, 30, 30]


async def test_failure_at_one_source_does_not_delay_another() -> None:
    world = World()
    world.accounts.add(str(ADDRESS), stored())
    for _ in range(20):
        await log_in(world, "wrong password", source=HERE)
    assert await log_in(world, "wrong password", source=THERE) == LoginRefusal(BAD, 2.0)
    assert isinstance(await log_in(world, source=THERE), Account)


async def test_failure_for_one_account_does_not_delay_another() -> None:
    world = World()
    world.accounts.add(str(ADDRESS), stored())
    world.accounts.add("bobbobbob@relay.test", stored())
    for _ in range(20):
        await log_in(world, "wrong password")
    assert isinstance(await log_in(world, login="bobbobbob"), Account)


async def test_success_ends_the_row_of_failures() -> None:
    world = World()
    world.accounts.add(str(ADDRESS), stored())
    for _ in range(3):
        await log_in(world, "wrong password")
    await log_in(world)
    assert await log_in(world, "wrong password") == LoginRefusal(BAD, 2.0)


@pytest.mark.parametrize("source", [HERE, "127.0.0.1"])
async def test_eleventh_failure_is_unavailable_and_costs_no_hash(source: str) -> None:
    world = World()
    world.accounts.add(str(ADDRESS), stored())
    for _ in range(10):
        assert is_refused(await log_in(world, "wrong password", source=source))
    before = world.hasher.verified
    outcome = await log_in(world, "wrong password", source=source)
    assert outcome == LoginRefusal(UNAVAILABLE, 2.0)
    assert world.hasher.verified == before
    world.clock.advance(61)
    assert is_refused(await log_in(world, "wrong password", source=source))


@pytest.mark.parametrize("exists", [True, False])
async def test_guesses_at_the_same_time_are_counted_one_by_one(exists: bool) -> None:
    world = World(registration=RegistrationSettings(jit=False))
    if exists:
        world.accounts.add(str(ADDRESS), stored())
    refused = []

    async def guess(number: int) -> None:
        refused.append(await log_in(world, f"wrong password {number}"))

    async with trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(guess, number)
    assert sum(is_refused(outcome) for outcome in refused) == 10
    assert sum(is_refused(outcome, UNAVAILABLE) for outcome in refused) == 20


async def test_throttled_owner_still_logs_in_from_the_cache() -> None:
    world = World()
    assert isinstance(await log_in(world), Account)
    for _ in range(100):
        await log_in(world, "wrong password")
    assert isinstance(await log_in(world), Account)


async def test_60_failures_throttle_a_prefix_whatever_the_names() -> None:
    world = World(registration=RegistrationSettings(jit=False))
    for number in range(60):
        assert is_refused(await log_in(world, login=f"name{number}", source="2001:db8::1"))
    assert is_refused(await log_in(world, login="another", source="2001:db8::2"), UNAVAILABLE)
    assert is_refused(await log_in(world, login="another", source="2001:db8:0:1::2"))


@pytest.mark.parametrize("source", ["127.0.0.1", "::1", "10.0.0.7"])
async def test_loopback_and_proxies_have_no_prefix_limit(source: str) -> None:
    world = World(registration=RegistrationSettings(jit=False), trusted_proxies=("10.0.0.0/8",))
    for number in range(70):
        assert is_refused(await log_in(world, login=f"name{number}", source=source))


async def test_creations_are_60_per_hour_and_prefix() -> None:
    world = World()
    for number in range(60):
        world.clock.advance(0.1)  # below the limit of all sources together
        assert isinstance(await log_in(world, login=f"name{number:05}"), Account)
    assert is_refused(await log_in(world, login="onemore99"))
    assert isinstance(await log_in(world, login="onemore99", source=THERE), Account)
    world.clock.advance(61)
    assert isinstance(await log_in(world, login="onemore98"), Account)


async def test_creation_rate_counts_accounts_not_logins() -> None:
    world = World(registration=RegistrationSettings(rate_per_ip_hour=1))
    await gather(world, [PASSWORD] * 20)
    assert len(world.accounts.created) == 1
    assert is_refused(await log_in(world, login="onemore99"))


async def test_creation_limit_zero_is_none() -> None:
    world = World(registration=RegistrationSettings(rate_per_ip_hour=0))
    for number in range(70):
        world.clock.advance(0.1)
        assert isinstance(await log_in(world, login=f"name{number:05}"), Account)


async def test_all_sources_together_create_20_per_second() -> None:
    world = World()
    for number in range(20):
        login, source = f"name{number:05}", f"192.0.2.{number}"
        assert isinstance(await log_in(world, login=login, source=source), Account)
    outcome = await log_in(world, login="onemore99", source="192.0.2.99")
    assert is_refused(outcome, UNAVAILABLE)
    assert isinstance(await log_in(world, login="loopback9", source="127.0.0.1"), Account)


async def test_full_hash_queue_is_unavailable() -> None:
    world = World()
    world.accounts.add("oldoldold@relay.test", stored())
    world.hasher.is_overloaded = True
    assert is_refused(await log_in(world), UNAVAILABLE)
    assert is_refused(await log_in(world, login="oldoldold"), UNAVAILABLE)
    assert is_refused(await log_in(world, login="nobody"), UNAVAILABLE)
