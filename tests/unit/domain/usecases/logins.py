"""Logins with the accounts and hashes of a test, and what is said to them."""

from __future__ import annotations

import trio

from chatmail.domain.model.account import Account, Credentials
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.verdict import RefusalReason
from chatmail.domain.usecases.authenticate import Authenticate, LoginRefusal
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


async def gather(world: World, passwords: list[str]) -> list[Account | LoginRefusal]:
    outcomes: list[Account | LoginRefusal] = []
    authenticate = make(world)

    async def one(password: str) -> None:
        outcomes.append(await authenticate(Credentials(str(ADDRESS), password.encode()), HERE))

    async with trio.open_nursery() as nursery:
        for password in passwords:
            nursery.start_soon(one, password)
    return outcomes
