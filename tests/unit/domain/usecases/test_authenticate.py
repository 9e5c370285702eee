"""Logins: who is let in, what the first one creates, what many at once cost."""

from __future__ import annotations

import time

import attrs
import pytest
import trio

from chatmail.adapters.system.locks import LockTable
from chatmail.adapters.system.passwords import CachingHasher, hashing_pool
from chatmail.domain.model.account import Account, Credentials, NewAccount, day_of
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.settings import RegistrationSettings
from chatmail.domain.ports.accounts import Tombstone
from chatmail.domain.usecases.authenticate import LoginRefusal
from tests.unit.domain.usecases.accounts import World
from tests.unit.domain.usecases.logins import (
    ADDRESS,
    BAD,
    HERE,
    NAME,
    PASSWORD,
    gather,
    is_refused,
    log_in,
    make,
    stored,
)


async def test_first_login_creates_and_second_verifies() -> None:
    world = World()
    first = await log_in(world)
    second = await log_in(world)
    assert isinstance(first, Account)
    assert isinstance(second, Account)
    assert first.id == second.id
    assert world.accounts.created == [
        NewAccount(
            address=ADDRESS,
            secret=stored(),
            created_s=int(world.clock.now_s()),
            first_login_day=day_of(world.clock.now_s()),
        )
    ]
    assert world.hasher.hashed == 1
    assert world.hasher.verified == 0  # remembered since it was created


async def test_wrong_password_of_existing_account_changes_nothing() -> None:
    world = World()
    world.accounts.add(str(ADDRESS), stored())
    assert is_refused(await log_in(world, "wrong password"))
    assert world.accounts.created == []
    assert world.accounts.rows[ADDRESS].secret == stored()


@pytest.mark.parametrize("password", ["short", "a", "ab", 'x"y\\'])
async def test_existing_account_keeps_any_password(password: str) -> None:
    world = World()
    world.accounts.add("x@relay.test", stored(password))
    assert isinstance(await log_in(world, password, "X@relay.test"), Account)


@pytest.mark.parametrize(
    ("login", "password"),
    [
        ("alicealic@relay.test", "1234567"),
        ("alicealic@relay.test", "aaaaaaaaaaaa"),
        ("alicealic@relay.test", "alicealic"),
        ("abcdefgh@relay.test", PASSWORD),
        ("abcdefghij@relay.test", PASSWORD),
        ("webmaster@relay.test", PASSWORD),
        ("a/b@relay.test", PASSWORD),
        ("..@relay.test", PASSWORD),
        ("a%40bcdefgh@relay.test", PASSWORD),
        ("x@y@relay.test", PASSWORD),
        ("alicealic@foreign.test", PASSWORD),
    ],
)
async def test_refused_creation_looks_like_a_wrong_password(login: str, password: str) -> None:
    world = World()
    outcome = await log_in(world, password, login)
    assert outcome == LoginRefusal(BAD, 2.0)
    assert world.accounts.created == []
    assert (world.hasher.burnt, world.hasher.hashed) == (1, 0)  # flat timing


@pytest.mark.parametrize("refusal", ["load", "memory", "disk", "nocreate"])
async def test_machine_in_need_refuses_creation_but_not_login(refusal: str) -> None:
    world = World()
    world.accounts.add("oldoldold@relay.test", stored())
    world.host.refusal = refusal
    assert is_refused(await log_in(world))
    assert isinstance(await log_in(world, login="oldoldold"), Account)
    cause = next(f for _, e, f in world.log.records if e == "creation_refused_by_host")
    assert cause == {"cause": refusal}


@pytest.mark.parametrize(
    "registration",
    [RegistrationSettings(jit=False), RegistrationSettings(require_token=True)],
    ids=["jit-off", "token-required"],
)
async def test_closed_relay_creates_nothing_at_login(registration: RegistrationSettings) -> None:
    world = World(registration=registration)
    assert is_refused(await log_in(world))
    assert world.accounts.created == []


async def test_jit_works_while_new_is_closed() -> None:
    world = World(registration=RegistrationSettings(is_open=False))
    assert isinstance(await log_in(world), Account)


async def test_settings_are_looked_at_on_every_attempt() -> None:
    world = World(registration=RegistrationSettings(jit=False))
    assert is_refused(await log_in(world))
    world.registration = RegistrationSettings()
    assert isinstance(await log_in(world), Account)


async def test_barred_address_is_a_wrong_password() -> None:
    world = World()
    world.accounts.barred.add(ADDRESS)
    assert await log_in(world) == LoginRefusal(BAD, 2.0)
    assert world.accounts.created == []
    assert world.hasher.burnt == 1
    world.accounts.barred.clear()
    assert isinstance(await log_in(world), Account)


async def test_barred_address_with_account_cannot_log_in_from_the_cache() -> None:
    world = World()
    assert isinstance(await log_in(world), Account)
    world.accounts.barred.add(ADDRESS)
    assert is_refused(await log_in(world))


async def test_blocked_account_is_a_wrong_password_even_when_remembered() -> None:
    world = World()
    account = await log_in(world)
    assert isinstance(account, Account)
    await world.accounts.set_blocked(account.id, True)
    assert is_refused(await log_in(world))
    assert world.hasher.burnt == 1


async def test_tombstone_lets_only_the_old_password_create() -> None:
    world = World()
    until = int(world.clock.now_s()) + 1000
    world.accounts.tombstones[ADDRESS] = Tombstone(secret=stored("old password"), expires_s=until)
    assert is_refused(await log_in(world, "brand new password"))
    assert world.accounts.created == []
    assert isinstance(await log_in(world, "old password"), Account)
    assert world.accounts.created[0].secret == stored("old password")
    assert isinstance(await log_in(world, "old password"), Account)


async def test_owner_returns_although_registration_was_closed() -> None:
    world = World(registration=RegistrationSettings(jit=False, is_open=False, require_token=True))
    address = EmailAddress("old", "relay.test")  # a name of earlier rules
    until = int(world.clock.now_s()) + 1000
    world.accounts.tombstones[address] = Tombstone(secret=stored("old"), expires_s=until)
    assert isinstance(await log_in(world, "old", "old@relay.test"), Account)


async def test_machine_in_need_stops_a_returning_owner_too() -> None:
    world = World()
    until = int(world.clock.now_s()) + 1000
    world.accounts.tombstones[ADDRESS] = Tombstone(secret=stored(), expires_s=until)
    world.host.refusal = "disk"
    assert is_refused(await log_in(world))


async def test_expired_tombstone_is_none() -> None:
    world = World()
    past = int(world.clock.now_s()) - 1
    world.accounts.tombstones[ADDRESS] = Tombstone(secret=stored("old"), expires_s=past)
    assert isinstance(await log_in(world, "brand new password"), Account)


async def test_50_parallel_first_logins_cost_one_hash() -> None:
    world = World()
    outcomes = await gather(world, [PASSWORD] * 50)
    assert all(isinstance(outcome, Account) for outcome in outcomes)
    assert len(world.accounts.created) == 1
    assert (world.hasher.hashed, world.hasher.verified) == (1, 0)


async def test_parallel_first_logins_with_two_passwords_have_one_winner() -> None:
    world = World()
    outcomes = await gather(world, ["password one", "password two"])
    assert sum(isinstance(outcome, Account) for outcome in outcomes) == 1
    assert sum(is_refused(outcome) for outcome in outcomes) == 1
    assert len(world.accounts.created) == 1


@pytest.mark.parametrize(("winner", "is_let_in"), [(PASSWORD, True), ("another one", False)])
async def test_loser_of_a_race_is_judged_by_the_winners_hash(winner: str, is_let_in: bool) -> None:
    world = World()
    world.accounts.before_create = NewAccount(
        address=ADDRESS, secret=stored(winner), created_s=0, first_login_day=None
    )
    assert isinstance(await log_in(world), Account) is is_let_in


async def test_real_hasher_serves_50_parallel_first_logins_at_once() -> None:
    world = World()
    authenticate = attrs.evolve(
        make(world),
        hasher=CachingHasher(hashing_pool(), world.clock, world.entropy),
        locks=LockTable(),
    )
    outcomes: list[Account | LoginRefusal] = []

    async def one() -> None:
        outcomes.append(await authenticate(Credentials(NAME, PASSWORD.encode()), HERE))

    start = time.process_time()
    await authenticate.hasher.hash(PASSWORD.encode())
    middle = time.process_time()
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(one)
    assert all(isinstance(outcome, Account) for outcome in outcomes)
    assert time.process_time() - middle < 20 * (middle - start)  # 50 would mean a hash for each
