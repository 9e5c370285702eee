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
from chatmail.domain.model.verdict import RefusalReason
from chatmail.domain.ports.accounts import Tombstone
from chatmail.domain.usecases.authenticate import Authenticate, LoginRefusal
from tests.pace import slowdown
from tests.unit.domain.usecases.accounts import World

PASSWORD = "correct horse"
NAME = "alicealic"
ADDRESS = EmailAddress(NAME, "relay.test")
HERE = "192.0.2.1"
THERE = "192.0.2.2"
BAD = RefusalReason.BAD_CREDENTIALS
UNAVAILABLE = RefusalReason.LOGIN_UNAVAILABLE


def make(world: World) -> Authenticate:
    return Authenticate(
        accounts=world.accounts,
        hasher=world.hasher,
        budgets=world.budgets,
        locks=world.locks,
        host=world.host,
        clock=world.clock,
        settings=world.settings,
        log=world.log,
    )


async def log_in(
    world: World, password: str = PASSWORD, login: str = str(ADDRESS), source: str = HERE
) -> Account | LoginRefusal:
    return await make(world)(Credentials(login, password.encode()), source)


def stored(password: str = PASSWORD) -> str:
    return f"fake:{password.encode().hex()}"


def is_refused(outcome: Account | LoginRefusal, reason: RefusalReason = BAD) -> bool:
    return isinstance(outcome, LoginRefusal) and outcome.reason is reason


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


async def gather(world: World, passwords: list[str]) -> list[Account | LoginRefusal]:
    outcomes: list[Account | LoginRefusal] = []
    authenticate = make(world)

    async def one(password: str) -> None:
        outcomes.append(await authenticate(Credentials(str(ADDRESS), password.encode()), HERE))

    async with trio.open_nursery() as nursery:
        for password in passwords:
            nursery.start_soon(one, password)
    return outcomes


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
