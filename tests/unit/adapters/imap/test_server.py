"""The connection as a whole: greeting, order of replies, trouble, timeouts, shutdown."""

from __future__ import annotations

import pytest
import trio

from chatmail.adapters.imap.server import HANDLERS
from chatmail.domain.model.account import AccountId
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.wire.imap import commands
from tests.unit.adapters.imap.world import MESSAGE, World
from tests.unit.fakes.open_mailbox import MemoryOpenMailbox


def test_every_command_has_a_handler() -> None:
    values = commands.Command.__args__  # type: ignore[attr-defined]
    assert set(values) == set(HANDLERS)


async def test_greeting_tells_capabilities() -> None:
    async with World().connect() as client:
        greeting = await client.line()
        assert greeting.startswith(b"* OK [CAPABILITY IMAP4rev1 ")
        for name in (b"XCHATMAIL", b"XDELTAPUSH", b"IDLE", b"MOVE", b"QUOTA", b"METADATA"):
            assert b" %b " % name in greeting


async def test_pipelined_commands_are_answered_in_order_and_in_one_write() -> None:
    world = World()
    world.deliver()
    async with world.connect() as client:
        await client.line()
        before = len(client.server.writes)
        await client.send(
            b'a LOGIN "ann@relay.test" "secret-password"\r\nb SELECT INBOX\r\n'
            b"c UID FETCH 1:* (UID FLAGS)\r\n"
        )
        assert (await client.until(b"a"))[-1].startswith(b"a OK")
        assert (await client.until(b"b"))[-1].startswith(b"b OK")
        assert await client.until(b"c") == [b"* 1 FETCH (UID 1 FLAGS ())", b"c OK Fetch completed"]
        assert len(client.server.writes) == before + 1


async def test_core_session_byte_for_byte() -> None:
    world = World()
    world.deliver()
    async with world.connect() as client:
        await client.login()
        assert await client.cmd(b'ID ("name" "Delta Chat")') == [
            b'* ID ("name" "chatmail")',
            b"OK ID completed",
        ]
        await client.ok(b'GETQUOTAROOT "INBOX"')
        await client.select()
        (headers,) = await client.ok(
            b"UID FETCH 1:500 (UID RFC822.SIZE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID FROM)])"
        )
        fields = b"From: ann@relay.test\r\nMessage-ID: <m1@relay.test>\r\n\r\n"
        assert headers == (
            b"* 1 FETCH (UID 1 RFC822.SIZE %d BODY[HEADER.FIELDS (MESSAGE-ID FROM)] {%d}\r\n%b)"
            % (len(MESSAGE), len(fields), fields)
        )
        (line,) = await client.ok(b"UID FETCH 1 (FLAGS BODY.PEEK[])")
        assert line == b"* 1 FETCH (UID 1 FLAGS () BODY[] {%d}\r\n%b)" % (len(MESSAGE), MESSAGE)
        assert await client.ok(b"UID STORE 1 +FLAGS (\\Deleted)") == [
            b"* 1 FETCH (UID 1 FLAGS (\\Deleted))"
        ]
        assert await client.ok(b"CLOSE") == []
        told = await client.select()
        assert b"* 0 EXISTS" in told
        assert b"* OK [UIDNEXT 2] Predicted next UID" in told
        await client.send(b"i IDLE\r\n")
        assert await client.line() == b"+ idling"
        await client.send(b"DONE\r\n")
        assert await client.line() == b"i OK Idle completed"


async def test_unknown_commands_are_bad_and_the_connection_stays() -> None:
    async with World().connect() as client:
        await client.login()
        assert (await client.cmd(b"XYZZY"))[-1].startswith(b"BAD ")
        assert (await client.cmd(b"UID FETCH 1 FLAGS"))[-1].startswith(b"BAD ")
        await client.ok(b"NOOP")


async def test_too_many_bad_commands_end_the_connection() -> None:
    async with World().connect() as client:
        await client.line()
        await client.send(b"a XYZZY\r\n" * 20)
        lines = []
        while line := await client.line():
            lines.append(line)
        assert lines[-1] == b"* BYE Too many errors"


async def test_logout() -> None:
    world = World()
    async with world.session() as client:
        assert await client.cmd(b"LOGOUT") == [b"* BYE Logging out", b"OK Logout completed"]
        assert await client.line() == b""
    assert world.sessions.closers == {}
    assert world.state.hints.subscribers(world.inbox) == 0


async def test_an_abrupt_end_leaves_nothing_behind() -> None:
    world = World()
    async with world.session():
        assert world.state.hints.subscribers(world.inbox) == 1
    assert world.state.hints.subscribers(world.inbox) == 0
    assert world.sessions.closers == {}


@pytest.mark.parametrize(
    "command",
    [
        b"UID FETCH 1 BODY.PEEK[]",
        b"UID STORE 1 +FLAGS (\\Deleted)",
        b"SELECT INBOX",
        b"EXPUNGE",
        b"UID MOVE 1 INBOX",
        b"CLOSE",
    ],
)
async def test_trouble_where_no_would_lose_mail_ends_the_connection(command: bytes) -> None:
    world = World()
    world.deliver(MESSAGE, "\\Deleted")
    async with world.session() as client:
        world.state.fail = 1
        await client.send(b"a " + command + b"\r\n")
        assert (await client.line()).startswith(b"* BYE [UNAVAILABLE] ")
        assert await client.line() == b""
    assert "imap_command_failed" in world.log.events


@pytest.mark.parametrize("command", [b"NOOP", b"IDLE"])
async def test_news_that_cannot_be_read_ends_the_connection(
    command: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    async with world.session() as client:
        world.deliver()

        async def fail(*_: object) -> None:
            raise TransientFailure

        monkeypatch.setattr(MemoryOpenMailbox, "changes_since", fail)
        await client.send(b"a " + command + b"\r\n")
        lines = await client.until(b"a")
        assert lines[-2:] == [
            b"* BYE [UNAVAILABLE] Temporary server problem, try again later.",
            b"",
        ]


@pytest.mark.parametrize(
    "command", [b'GETQUOTAROOT "INBOX"', b"STATUS INBOX (UIDNEXT)", b"CREATE x"]
)
async def test_other_trouble_is_a_temporary_no(command: bytes) -> None:
    world = World()
    async with world.session() as client:
        world.state.fail = 1
        reply = await client.cmd(command)
        assert reply == [b"NO [UNAVAILABLE] Temporary server problem, try again later."]
        await client.ok(b"NOOP")


async def test_no_command_within_a_minute_ends_the_connection(autojump_clock: object) -> None:
    async with World().connect() as client:
        await client.line()
        started = trio.current_time()
        assert (await client.line()).startswith(b"* BYE ")
        assert trio.current_time() - started == pytest.approx(60)


async def test_no_login_within_three_minutes_ends_the_connection(autojump_clock: object) -> None:
    async with World().connect() as client:
        await client.line()
        started = trio.current_time()
        await client.ok(b"NOOP")
        await trio.sleep(100)
        await client.ok(b"NOOP")
        assert (await client.line()).startswith(b"* BYE ")
        assert trio.current_time() - started == pytest.approx(180)


async def test_half_an_hour_of_silence_ends_a_session(autojump_clock: object) -> None:
    async with World().session() as client:
        started = trio.current_time()
        assert (await client.line()).startswith(b"* BYE ")
        assert 1800 <= trio.current_time() - started <= 1831


async def test_drain_tells_waiting_and_idle_sessions_at_once() -> None:
    world = World()
    async with world.session() as waiting, world.session() as idle:
        await idle.send(b"i IDLE\r\n")
        assert await idle.line() == b"+ idling"
        assert await waiting.quiet()
        world.drain.start()
        for client in (waiting, idle):
            assert await client.line() == b"* BYE [UNAVAILABLE] Server restarting"
            assert await client.line() == b""


async def test_a_connection_that_comes_while_draining_is_told() -> None:
    world = World()
    world.drain.start()
    async with world.connect() as client:
        assert (await client.line()).startswith(b"* OK ")
        assert await client.line() == b"* BYE [UNAVAILABLE] Server restarting"


async def test_a_blocked_account_loses_its_sessions() -> None:
    world = World()
    async with world.session() as client:
        await client.quiet()
        world.sessions.close_all(AccountId(1))
        assert (await client.line()).startswith(b"* BYE ")
        assert await client.line() == b""


async def test_a_blocked_account_gets_no_more_of_a_running_fetch() -> None:
    world = World()
    for _ in range(200):
        world.deliver(MESSAGE + b"x" * 5000)
    async with world.session() as client:
        send_all = client.server.send_all

        async def blocking(data: bytes) -> None:
            world.sessions.close_all(AccountId(1))
            await send_all(data)

        client.server.send_all = blocking  # type: ignore[method-assign]
        await client.send(b"a UID FETCH 1:* BODY.PEEK[]\r\n")
        received = b""
        while octets := await client._stream.receive_some(65536):
            received += octets
        assert b"BYE" not in received
        assert received.count(b" FETCH ") < 200


async def test_a_mailbox_deleted_elsewhere_ends_the_sessions_in_it() -> None:
    world = World()
    async with world.session() as other:
        await other.ok(b"CREATE a")
        async with world.session(b"a") as client:
            await other.ok(b"DELETE a")
            await client.send(b"n NOOP\r\n")
            assert await client.line() == b"* BYE Mailbox deleted"


async def test_many_pipelined_commands_give_others_a_turn() -> None:
    world = World()
    async with world.session() as client:
        await client.send(b"a NOOP\r\n" * 500)
        for _ in range(500):
            assert await client.line() == b"a OK Noop completed"


async def test_bads_of_handlers_count_towards_the_limit() -> None:
    """Spec mail 4.1: 50 consecutive BADs after login, whoever says them."""
    async with World().session() as client:
        for number in range(49):
            command = b"FETCH 99 FLAGS" if number % 2 else b"NOSUCH"
            assert (await client.cmd(command))[-1].startswith(b"BAD ")
        await client.ok(b"NOOP")  # begins anew
        for number in range(49):
            command = b"NOSUCH" if number % 2 else b"FETCH 99 FLAGS"
            assert (await client.cmd(command))[-1].startswith(b"BAD ")
        assert (await client.cmd(b"FETCH 99 FLAGS"))[-1].startswith(b"BAD ")
        assert await client.line() == b"* BYE Too many errors"
        assert await client.line() == b""


async def test_a_command_keeps_its_reply_when_the_mailbox_is_deleted_behind_it() -> None:
    world = World()
    async with world.connect() as client:
        await client.login()
        await client.ok(b"CREATE old")
        await client.select(b"old")
        async with world.session() as other:
            await other.ok(b"DELETE old")
        (created,) = await client.cmd(b"CREATE new")
        assert created.endswith(b"Create completed")
        assert await client.line() == b"* BYE Mailbox deleted"
        assert await client.line() == b""


async def test_last_words_that_do_not_fit_at_once_are_waited_for() -> None:
    async with World().session() as client:
        client.server.is_full = True
        await client.send(b"x LOGOUT\r\n")
        assert (await client.line()).startswith(b"* BYE ")
        assert (await client.line()).startswith(b"x OK ")
