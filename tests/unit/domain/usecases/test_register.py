from __future__ import annotations

import pytest

from chatmail.domain.model.settings import RegistrationSettings
from chatmail.domain.policy.registration import judge_name, judge_password
from chatmail.domain.ports.accounts import Tombstone
from chatmail.domain.usecases.register import Register, Registered, RegistrationProblem
from tests.unit.domain.usecases.accounts import World

HERE = "192.0.2.1"
CLOSED_JIT = RegistrationSettings(jit=False)


def make(world: World) -> Register:
    return Register(
        accounts=world.accounts,
        hasher=world.hasher,
        budgets=world.budgets,
        host=world.host,
        clock=world.clock,
        entropy=world.entropy,
        settings=world.settings,
        log=world.log,
    )


async def test_new_is_stateless_while_first_logins_create() -> None:
    world = World()
    outcome = await make(world)(HERE)
    assert isinstance(outcome, Registered)
    assert not outcome.is_stored
    assert world.accounts.rows == {}
    assert world.hasher.hashed == 0
    assert judge_name(outcome.address.local, world.registration) is None
    password = outcome.password.encode()
    assert judge_password(password, outcome.address, world.registration) is None
    assert (len(outcome.address.local), len(outcome.password)) == (9, 22)
    assert outcome.address.domain == "relay.test"


async def test_new_creates_the_account_while_jit_is_off() -> None:
    world = World(registration=CLOSED_JIT)
    outcome = await make(world)(HERE)
    assert isinstance(outcome, Registered)
    assert outcome.is_stored
    (new,) = world.accounts.created
    assert new.address == outcome.address
    assert new.first_login_day is None
    account = world.accounts.rows[outcome.address]
    assert world.hasher.is_verified(account.id, account.secret, outcome.password.encode())


@pytest.mark.parametrize(
    ("settings", "token", "expected"),
    [
        (RegistrationSettings(require_token=True), None, RegistrationProblem.TOKEN_REQUIRED),
        (
            RegistrationSettings(require_token=True, is_open=False),
            None,
            RegistrationProblem.TOKEN_REQUIRED,
        ),
        (RegistrationSettings(is_open=False), None, RegistrationProblem.CLOSED),
        (RegistrationSettings(), "unknown", RegistrationProblem.TOKEN_UNKNOWN),
        (RegistrationSettings(is_open=False), "unknown", RegistrationProblem.TOKEN_UNKNOWN),
    ],
)
async def test_refusals_follow_the_decision_table(
    settings: RegistrationSettings, token: str | None, expected: RegistrationProblem
) -> None:
    world = World(registration=settings)
    assert await make(world)(HERE, token) is expected
    assert world.accounts.created == []


def test_texts_are_those_people_read() -> None:
    assert RegistrationProblem.TOKEN_REQUIRED.value == "Registration token is required"
    assert RegistrationProblem.CLOSED.value == "Registration is closed"
    assert RegistrationProblem.TOKEN_UNKNOWN.value == "registration token not found"


@pytest.mark.parametrize("settings", [RegistrationSettings(), CLOSED_JIT])
async def test_machine_in_need_refuses(settings: RegistrationSettings) -> None:
    world = World(registration=settings)
    world.host.refusal = "nocreate"
    assert await make(world)(HERE) is RegistrationProblem.SYSTEM_LIMIT


async def test_requests_are_2_per_second_with_a_burst_of_5() -> None:
    world = World()
    outcomes = [await make(world)(HERE) for _ in range(6)]
    assert sum(isinstance(outcome, Registered) for outcome in outcomes) == 5
    assert outcomes[5] is RegistrationProblem.TOO_MANY
    assert isinstance(await make(world)("192.0.2.2"), Registered)
    world.clock.advance(0.6)
    assert isinstance(await make(world)(HERE), Registered)


async def test_loopback_has_no_rate() -> None:
    world = World(registration=CLOSED_JIT)
    for _ in range(70):
        assert isinstance(await make(world)("127.0.0.1"), Registered)


async def test_wrong_tokens_are_10_per_minute() -> None:
    world = World()
    outcomes = []
    for _ in range(11):
        outcomes.append(await make(world)(HERE, "guess"))
        world.clock.advance(0.5)
    assert outcomes[9] is RegistrationProblem.TOKEN_UNKNOWN
    assert outcomes[10] is RegistrationProblem.TOO_MANY


async def test_accounts_really_created_count_per_hour() -> None:
    world = World(registration=RegistrationSettings(jit=False, rate_per_ip_hour=2))
    outcomes = [await make(world)(HERE) for _ in range(3)]
    assert outcomes[2] is RegistrationProblem.TOO_MANY
    assert len(world.accounts.created) == 2


async def test_taken_barred_and_buried_names_are_drawn_again() -> None:
    world = World()
    names = iter(["takentake", "barredbar", "buriedbur", "freefreef"])
    passwords = world.entropy.text
    world.entropy.text = (  # type: ignore[method-assign]
        lambda alphabet, length: next(names) if length == 9 else passwords(alphabet, length)
    )
    world.accounts.add("takentake@relay.test", "x")
    address = world.accounts.rows.copy().popitem()[0]
    world.accounts.barred.add(type(address)("barredbar", "relay.test"))
    world.accounts.tombstones[type(address)("buriedbur", "relay.test")] = Tombstone(
        secret="x", expires_s=int(world.clock.now_s()) + 10
    )
    outcome = await make(world)(HERE)
    assert isinstance(outcome, Registered)
    assert outcome.address.local == "freefreef"


async def test_no_free_name_is_temporary() -> None:
    world = World()
    world.entropy.text = lambda _alphabet, length: "abcdefghi" * (length // 9)  # type: ignore[method-assign]
    world.accounts.add("abcdefghi@relay.test", "x")
    assert await make(world)(HERE) is RegistrationProblem.TEMPORARY


@pytest.mark.parametrize("method", ["get", "create"])
async def test_broken_store_is_temporary(method: str) -> None:
    world = World(registration=CLOSED_JIT)
    world.accounts.broken.add(method)
    assert await make(world)(HERE) is RegistrationProblem.TEMPORARY


async def test_full_hash_queue_is_temporary() -> None:
    world = World(registration=CLOSED_JIT)
    world.hasher.is_overloaded = True
    assert await make(world)(HERE) is RegistrationProblem.TEMPORARY


async def test_credentials_never_show_in_logs_or_reprs() -> None:
    world = World(registration=CLOSED_JIT)
    outcome = await make(world)(HERE)
    assert isinstance(outcome, Registered)
    assert outcome.password not in repr(outcome)
    assert outcome.password not in repr(world.log.records)
