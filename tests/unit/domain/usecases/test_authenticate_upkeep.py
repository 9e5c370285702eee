"""Logins: their day, better hashes, changed passwords, trouble, cost."""

from __future__ import annotations

import time

import attrs
import pytest

from chatmail.adapters.system.passwords import CachingHasher, hashing_pool
from chatmail.domain.model.account import Account, Credentials, day_of
from chatmail.domain.usecases.authenticate import Authenticate
from tests.pace import slowdown
from tests.unit.domain.usecases.accounts import World
from tests.unit.domain.usecases.logins import (
    ADDRESS,
    HERE,
    NAME,
    PASSWORD,
    UNAVAILABLE,
    is_refused,
    log_in,
    make,
    stored,
)


@pytest.mark.parametrize("method", ["get", "create", "is_barred", "tombstone"])
async def test_broken_store_is_unavailable(method: str) -> None:
    world = World()
    world.accounts.broken.add(method)
    assert is_refused(await log_in(world), UNAVAILABLE)


async def test_login_day_is_written_once_per_day() -> None:
    world = World()
    world.accounts.add(str(ADDRESS), stored())
    for _ in range(3):
        outcome = await log_in(world)
        assert isinstance(outcome, Account)
        assert outcome.last_login_day == day_of(world.clock.now_s())
    world.clock.advance(86400)
    await log_in(world)
    assert world.accounts.touched == [
        day_of(world.clock.now_s() - 86400),
        day_of(world.clock.now_s()),
    ]
    assert all(day % 86400 == 0 for day in world.accounts.touched)


async def test_session_that_stays_connected_is_touched_daily() -> None:
    world = World()
    authenticate = make(world)
    account = await log_in(world)
    assert isinstance(account, Account)
    for _ in range(5):
        world.clock.advance(86400 / 2)
        account = await authenticate.touch_daily(account)
    assert len(world.accounts.touched) == len(set(world.accounts.touched)) == 4


async def test_login_day_that_cannot_be_written_does_not_matter() -> None:
    world = World()
    world.accounts.add(str(ADDRESS), stored())
    world.accounts.broken.add("touch")
    assert isinstance(await log_in(world), Account)


async def test_weak_hash_is_replaced_at_login() -> None:
    world = World()
    weak = f"sha256:{PASSWORD.encode().hex()}"
    world.accounts.add(str(ADDRESS), weak)
    assert is_refused(await log_in(world, "wrong password"))
    assert world.accounts.rows[ADDRESS].secret == weak
    assert isinstance(await log_in(world), Account)
    assert world.accounts.rows[ADDRESS].secret == stored()
    before = world.hasher.verified
    assert isinstance(await log_in(world), Account)
    assert world.hasher.verified == before


async def test_hash_that_cannot_be_replaced_still_lets_in() -> None:
    world = World()
    world.accounts.add(str(ADDRESS), f"sha256:{PASSWORD.encode().hex()}")
    world.accounts.broken.add("set_secret")
    assert isinstance(await log_in(world), Account)


async def test_password_change_makes_the_old_one_worthless() -> None:
    world = World()
    account = await log_in(world)
    assert isinstance(account, Account)
    await world.accounts.set_secret(account.id, stored("changed password"))
    assert is_refused(await log_in(world))
    assert isinstance(await log_in(world, "changed password"), Account)


async def test_nothing_private_reaches_log_fields() -> None:
    world = World()
    await log_in(world)
    await log_in(world, "wrong password")
    await log_in(world, login="a%b@relay.test")
    for _, _, fields in world.log.records:
        for value in fields.values():
            # Addresses pass as their type, which the log turns into pseudonyms.
            assert not (isinstance(value, str) and (NAME in value or HERE in value))
            assert PASSWORD not in repr(value)
            assert "wrong" not in repr(value)


async def test_repeated_login_is_cheap() -> None:
    world = World()
    world.accounts.add(str(ADDRESS), stored())
    hasher = CachingHasher(hashing_pool(), world.clock, world.entropy)
    account = world.accounts.rows[ADDRESS]
    world.accounts.rows[ADDRESS] = attrs.evolve(account, last_login_day=day_of(world.clock.now_s()))
    hasher.remember(account.id, account.secret, PASSWORD.encode())
    authenticate = attrs.evolve(make(world), hasher=hasher)
    credentials = Credentials(str(ADDRESS), PASSWORD.encode())
    world.accounts._step = _no_step  # type: ignore[method-assign]
    best = min([await _timed(authenticate, credentials) for _ in range(200)])
    assert best < 50e-6 * slowdown()


async def _no_step(name: str) -> None:
    """A store that answers from memory."""


async def _timed(authenticate: Authenticate, credentials: Credentials) -> float:
    start = time.perf_counter()
    assert isinstance(await authenticate(credentials, HERE), Account)
    return time.perf_counter() - start
