"""STARTTLS and AUTH at the SMTP face, and what ends the sessions of an account."""

from __future__ import annotations

import base64

import pytest
import trio

from chatmail.domain.model.account import AccountId, Credentials
from chatmail.domain.model.errors import Overloaded
from chatmail.domain.model.settings import LimitSettings
from chatmail.domain.model.verdict import RefusalReason
from chatmail.domain.wire.smtp.sequence import Role
from tests.unit.adapters.smtp.dialogue import ENVELOPE, MAIL
from tests.unit.adapters.smtp.fakes import AUTH, USER, LoginRefusal, World, connect


async def test_starttls_then_login_without_second_greeting(nursery: trio.Nursery) -> None:
    connection = connect(nursery, World(), tls=False)
    client = connection.client
    await client.reply()
    hello = await client.ask(b"EHLO [127.0.0.1]\r\n")
    assert b"250-STARTTLS\r\n" in hello
    assert b"AUTH" not in hello
    assert (await client.ask(AUTH)).startswith(b"530 5.7.0 Must issue a STARTTLS")
    assert (await client.ask(MAIL)).startswith(b"530 5.7.0 Must issue a STARTTLS")
    assert await client.ask(b"STARTTLS\r\n") == b"220 2.0.0 Ready to start TLS\r\n"
    hello = await client.ask(b"EHLO [127.0.0.1]\r\n")
    assert b"AUTH PLAIN LOGIN\r\n" in hello
    assert b"STARTTLS" not in hello
    assert (await client.ask(MAIL)).startswith(b"530 5.7.0 Authentication")
    assert (await client.ask(AUTH)).startswith(b"235")


@pytest.mark.parametrize("role", Role)
async def test_cleartext_behind_starttls_closes_without_a_word(
    nursery: trio.Nursery, role: Role
) -> None:
    connection = connect(nursery, World(), role, tls=False)
    await connection.client.reply()
    await connection.client.say(b"STARTTLS\r\nEHLO evil\r\n" + AUTH)
    assert await connection.client.rest() == b""
    assert connection.world.logins == []
    assert not connection.stream.is_tls


@pytest.mark.parametrize("password", ['a"b\\c d{}', "p\u00e4ssw\u00f6rt\u20ac", "  x  "])
async def test_odd_passwords_arrive_octet_for_octet(nursery: trio.Nursery, password: str) -> None:
    connection = connect(nursery, World())
    client = connection.client
    await client.ask(b"EHLO x\r\n", 2)
    assert await client.ask(b"AUTH LOGIN\r\n") == b"334 VXNlcm5hbWU6\r\n"
    await client.ask(base64.b64encode(USER.encode()) + b"\r\n")
    assert (await client.ask(base64.b64encode(password.encode()) + b"\r\n")).startswith(b"235")
    assert connection.world.logins[0][0] == Credentials(USER, password.encode())


@pytest.mark.parametrize(
    ("reason", "reply"),
    [
        (
            RefusalReason.BAD_CREDENTIALS,
            b"535 5.7.8 Error: authentication failed: Invalid credentials\r\n",
        ),
        (
            RefusalReason.LOGIN_UNAVAILABLE,
            b"454 4.7.0 Temporary server problem, try again later\r\n",
        ),
    ],
)
async def test_a_refused_login_waits_as_told(
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    reason: RefusalReason,
    reply: bytes,
) -> None:
    connection = connect(nursery, World(login=lambda _: LoginRefusal(reason, 8.0)))
    client = connection.client
    await client.ask(b"EHLO x\r\n", 2)
    start = trio.current_time()
    assert await client.ask(AUTH) == reply
    assert trio.current_time() - start == pytest.approx(8)
    assert connection.world.logged == [("smtp_login_refused", {"reason": reason.value})]


async def test_an_exchange_that_cannot_succeed_looks_like_a_wrong_password(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    connection = connect(nursery, World())
    client = connection.client
    await client.ask(b"EHLO x\r\n", 2)
    start = trio.current_time()
    forged = b"AUTH PLAIN " + base64.b64encode(b"bob@d\0alice@d\0p") + b"\r\n"
    assert (await client.ask(forged)).startswith(b"535 5.7.8 ")
    assert trio.current_time() - start == pytest.approx(2)
    assert connection.world.logins == []


async def test_a_login_that_fails_inside_is_454(nursery: trio.Nursery) -> None:
    def fail(_: Credentials) -> object:
        raise Overloaded("hash queue")

    connection = connect(nursery, World(login=fail))
    await connection.client.ask(b"EHLO x\r\n", 2)
    assert (await connection.client.ask(AUTH)).startswith(b"454 4.7.0 Temporary server problem")


async def test_ten_failed_logins_close(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    refusal = LoginRefusal(RefusalReason.BAD_CREDENTIALS, 2.0)
    connection = connect(nursery, World(login=lambda _: refusal))
    client = connection.client
    await client.ask(b"EHLO x\r\n", 2)
    for _ in range(9):
        assert (await client.ask(AUTH)).startswith(b"535")
    await client.say(AUTH)
    assert (await client.rest()).endswith(b"421 4.7.0 Too many authentication failures\r\n")
    assert len(connection.world.logins) == 10


async def test_sessions_per_account_are_limited(nursery: trio.Nursery) -> None:
    world = World(limits=LimitSettings(smtp_sessions_per_account=1))
    first = connect(nursery, world)
    await first.log_in()
    second = connect(nursery, world)
    await second.client.ask(b"EHLO x\r\n", 2)
    await second.client.say(AUTH)
    assert await second.client.rest() == b"421 4.7.0 Too many connections\r\n"
    await first.client.ask(b"QUIT\r\n")
    await first.done.wait()
    await connect(nursery, world).log_in()


async def test_a_blocked_account_loses_its_session_at_once(nursery: trio.Nursery) -> None:
    connection = connect(nursery, World())
    await connection.log_in()
    connection.world.sessions.close_all(AccountId(1))
    assert (await connection.client.rest()).startswith(b"421 4.7.0 ")
    await connection.done.wait()
    assert connection.world.sessions.open == {}


async def test_a_blocked_account_loses_a_message_it_is_sending(nursery: trio.Nursery) -> None:
    connection = connect(nursery, World())
    await connection.log_in()
    await connection.client.ask(ENVELOPE, 3)
    await connection.client.say(b"half")
    await trio.testing.wait_all_tasks_blocked()
    connection.world.sessions.close_all(AccountId(1))
    assert (await connection.client.rest()).startswith(b"421 4.7.0 ")
    assert connection.world.messages == []
    assert connection.world.sinks == ["opened", "left"]
