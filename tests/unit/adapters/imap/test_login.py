"""CAPABILITY, STARTTLS, LOGIN, AUTHENTICATE, COMPRESS, ENABLE."""

from __future__ import annotations

import base64

import attrs
import pytest
import trio

from chatmail.domain.model.settings import ImapSettings, LimitSettings
from chatmail.domain.model.verdict import RefusalReason
from chatmail.domain.usecases.authenticate import LoginRefusal
from tests.unit.adapters.imap.world import SETTINGS, World

LOGIN = b'LOGIN "ann@relay.test" "secret-password"'


def capabilities(line: bytes) -> set[bytes]:
    return set(line.partition(b"CAPABILITY ")[2].partition(b"]")[0].split())


async def test_login_ok_carries_the_capabilities_and_nothing_comes_before_it() -> None:
    async with World().connect() as client:
        await client.line()
        (reply,) = await client.cmd(LOGIN)
        assert reply.startswith(b"OK [CAPABILITY IMAP4rev1 ")
        assert reply.endswith(b"] Logged in")
        assert b"AUTH=PLAIN" not in reply


async def test_capabilities_before_and_after_tls() -> None:
    async with World().connect(is_tls=False) as client:
        before = capabilities(await client.line())
        assert {b"STARTTLS", b"LOGINDISABLED", b"XCHATMAIL", b"XDELTAPUSH"} <= before
        assert b"AUTH=PLAIN" not in before
        await client.ok(b"STARTTLS")
        assert await client.quiet()  # trap T31: no second greeting
        (line,) = await client.ok(b"CAPABILITY")
        after = set(line.split())
        assert b"AUTH=PLAIN" in after
        assert not {b"STARTTLS", b"LOGINDISABLED"} & after
        await client.ok(LOGIN)


@pytest.mark.parametrize("command", [LOGIN, b"AUTHENTICATE PLAIN AGEAYg=="])
async def test_no_login_without_tls(command: bytes) -> None:
    world = World()
    async with world.connect(is_tls=False) as client:
        await client.line()
        assert await client.cmd(command) == [b"NO [PRIVACYREQUIRED] TLS required."]
        assert world.authenticate.seen == []


async def test_cleartext_behind_starttls_ends_the_connection_without_a_word() -> None:
    world = World()
    async with world.connect(is_tls=False) as client:
        await client.line()
        await client.send(b"a STARTTLS\r\nb " + LOGIN + b"\r\n")
        assert await client.line() == b""
        assert world.authenticate.seen == []


async def test_starttls_twice_is_bad() -> None:
    async with World().connect() as client:
        await client.line()
        assert (await client.cmd(b"STARTTLS"))[-1].startswith(b"BAD ")


async def test_wrong_password_is_told_after_its_delay(autojump_clock: object) -> None:
    async with World().connect() as client:
        await client.line()
        started = trio.current_time()
        reply = await client.cmd(b'LOGIN "ann@relay.test" "wrong"')
        assert reply == [b"NO [AUTHENTICATIONFAILED] Authentication failed."]
        assert trio.current_time() - started == pytest.approx(2.0)
        await client.ok(LOGIN)


async def test_a_temporary_failure_never_says_authentication(autojump_clock: object) -> None:
    world = World()
    world.authenticate.refusal = LoginRefusal(RefusalReason.LOGIN_UNAVAILABLE, 0.1)
    async with world.connect() as client:
        await client.line()
        (reply,) = await client.cmd(b"LOGIN a b")
        assert reply == b"NO [UNAVAILABLE] Temporary server problem, try again later."
        assert b"authentication" not in reply.lower()


async def test_ten_failures_end_the_connection(autojump_clock: object) -> None:
    async with World().connect() as client:
        await client.line()
        for _ in range(10):
            assert (await client.cmd(b"LOGIN a b"))[-1].startswith(b"NO ")
        assert await client.line() == b"* BYE Too many authentication failures"
        assert await client.line() == b""


async def test_a_drain_does_not_wait_for_the_delay_of_a_failure() -> None:
    world = World()
    world.authenticate.refusal = LoginRefusal(RefusalReason.BAD_CREDENTIALS, 30.0)
    async with world.connect() as client:
        await client.line()
        await client.send(b"a LOGIN a b\r\n")
        assert await client.quiet()
        world.drain.start()
        assert (await client.line()).startswith(b"* BYE [UNAVAILABLE]")


async def test_passwords_with_quotes_backslashes_and_utf8() -> None:
    world = World()
    password = 'a"b\\c d{}\xe9'.encode()
    world.authenticate.accounts["ann@relay.test", password] = world.account
    async with world.connect() as client:
        await client.line()
        await client.ok(b'LOGIN "ann@relay.test" "a\\"b\\\\c d{}\xc3\xa9"')


async def test_too_many_sessions_of_an_account() -> None:
    limits = LimitSettings(imap_sessions_per_account=1)
    world = World(attrs.evolve(SETTINGS, limits=limits))
    async with world.session(), world.connect() as second:
        await second.line()
        assert await second.cmd(LOGIN) == [b"NO [LIMIT] Too many connections."]


@pytest.mark.parametrize("authzid", [b"", b"ann@relay.test", b"Ann@relay.test"])
async def test_authenticate_plain_with_initial_response(authzid: bytes) -> None:
    async with World().connect() as client:
        await client.line()
        response = base64.b64encode(authzid + b"\0ann@relay.test\0secret-password")
        (reply,) = await client.cmd(b"AUTHENTICATE PLAIN " + response)
        assert reply.startswith(b"OK [CAPABILITY ")


async def test_authenticate_plain_with_a_challenge() -> None:
    async with World().connect() as client:
        await client.line()
        await client.send(b"a AUTHENTICATE PLAIN\r\n")
        assert await client.line() == b"+ "
        await client.send(base64.b64encode(b"\0ann@relay.test\0secret-password") + b"\r\n")
        assert (await client.line()).startswith(b"a OK [CAPABILITY ")


@pytest.mark.parametrize(("answer", "reply"), [(b"*", b"BAD"), (b"?!", b"BAD")])
async def test_authenticate_cancelled_or_broken(answer: bytes, reply: bytes) -> None:
    async with World().connect() as client:
        await client.line()
        await client.send(b"a AUTHENTICATE PLAIN\r\n")
        assert await client.line() == b"+ "
        await client.send(answer + b"\r\n")
        assert (await client.line()).startswith(b"a " + reply)
        await client.ok(LOGIN)


async def test_acting_for_somebody_else_is_an_ordinary_failure(autojump_clock: object) -> None:
    async with World().connect() as client:
        await client.line()
        response = base64.b64encode(b"bob@relay.test\0ann@relay.test\0secret-password")
        reply = await client.cmd(b"AUTHENTICATE PLAIN " + response)
        assert reply == [b"NO [AUTHENTICATIONFAILED] Authentication failed."]


async def test_other_mechanisms_are_not_offered() -> None:
    async with World().connect() as client:
        await client.line()
        assert (await client.cmd(b"AUTHENTICATE XOAUTH2 abcd"))[-1].startswith(b"NO ")


async def test_a_second_login_is_bad() -> None:
    async with World().session() as client:
        assert (await client.cmd(LOGIN))[-1].startswith(b"BAD ")


async def test_id_is_one_write() -> None:
    async with World().connect() as client:
        await client.line()
        await client.ok(b"ID NIL")
        assert client.server.writes[-1] == b'* ID ("name" "chatmail")\r\nA0001 OK ID completed\r\n'


async def test_compress_is_deflate_both_ways_from_the_next_octet() -> None:
    world = World()
    world.deliver()
    async with world.session() as client:
        assert await client.cmd(b"COMPRESS DEFLATE") == [b"OK DEFLATE active"]
        client.start_deflate()
        assert await client.ok(b"UID FETCH 1 FLAGS") == [b"* 1 FETCH (UID 1 FLAGS ())"]
        (line,) = await client.ok(b"CAPABILITY")
        assert b"COMPRESS=DEFLATE" not in line
        assert await client.cmd(b"COMPRESS DEFLATE") == [
            b"NO [COMPRESSIONACTIVE] DEFLATE is active already"
        ]


async def test_compress_can_be_switched_off() -> None:
    world = World(attrs.evolve(SETTINGS, imap=ImapSettings(compress=False)))
    async with world.session() as client:
        (line,) = await client.ok(b"CAPABILITY")
        assert b"COMPRESS=DEFLATE" not in line
        assert (await client.cmd(b"COMPRESS DEFLATE"))[-1].startswith(b"NO ")


async def test_nothing_may_follow_compress() -> None:
    async with World().session() as client:
        await client.send(b"a COMPRESS DEFLATE\r\nb NOOP\r\n")
        assert (await client.line()).startswith(b"a BAD ")
        assert await client.line() == b"b OK Noop completed"


async def test_enable_and_namespace() -> None:
    world = World()
    world.deliver()
    async with world.session() as client:
        assert await client.ok(b"ENABLE CONDSTORE X-UNKNOWN") == [b"* ENABLED CONDSTORE"]
        assert await client.ok(b"ENABLE X-UNKNOWN") == [b"* ENABLED"]
        assert await client.ok(b"UID FETCH 1 FLAGS") == [b"* 1 FETCH (UID 1 FLAGS () MODSEQ (2))"]
        assert await client.ok(b"NAMESPACE") == [b'* NAMESPACE (("" "/")) NIL NIL']
