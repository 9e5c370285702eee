"""Settings that change under a session: they hold from its next command on."""

from __future__ import annotations

import attrs
import pytest
import trio

from chatmail.domain.model.settings import ImapSettings, LimitSettings
from tests.unit.adapters.imap.world import SETTINGS, World

MESSAGE = b"From: <a@b.example>\r\n\r\n" + b"x" * 200 + b"\r\n"


def limited(octets: int) -> object:
    return attrs.evolve(SETTINGS, limits=LimitSettings(max_message_bytes=octets))


async def test_a_raised_append_limit_holds_in_the_session_that_is_open() -> None:
    world = World()
    world.settings = limited(100)  # type: ignore[assignment]
    async with world.session() as client:
        refused = await client.cmd(b"APPEND INBOX {%d+}\r\n" % len(MESSAGE) + MESSAGE)
        assert refused[0].startswith(b"NO [TOOBIG]")
        world.settings = limited(1000)  # type: ignore[assignment]
        await client.ok(b"APPEND INBOX {%d+}\r\n" % len(MESSAGE) + MESSAGE)


async def test_an_append_that_has_begun_keeps_the_limit_it_began_with() -> None:
    world = World()
    async with world.session() as client:
        await client.send(b"a APPEND INBOX {%d}\r\n" % len(MESSAGE))
        assert (await client.line()).startswith(b"+ ")
        await client.send(MESSAGE[:50])
        world.settings = limited(100)  # type: ignore[assignment]
        await client.send(MESSAGE[50:] + b"\r\n")
        assert (await client.until(b"a"))[-1].startswith(b"a OK")


async def test_a_new_keepalive_holds_from_the_next_idle_on(autojump_clock: object) -> None:
    world = World()
    async with world.session() as client:
        for seconds in (240.0, 60.0):
            world.settings = attrs.evolve(SETTINGS, imap=ImapSettings(idle_keepalive_s=seconds))
            await client.send(b"i IDLE\r\n")
            assert await client.line() == b"+ idling"
            started = trio.current_time()
            assert await client.line() == b"* OK Still here"
            assert seconds * 0.9 <= trio.current_time() - started <= seconds
            await client.send(b"DONE\r\n")
            assert (await client.line()).startswith(b"i OK")


async def test_compression_is_offered_as_the_setting_says() -> None:
    world = World()
    async with world.session() as client:
        for is_on in (True, False, True):
            world.settings = attrs.evolve(SETTINGS, imap=ImapSettings(compress=is_on))
            lines = await client.cmd(b"CAPABILITY")
            assert any(b"COMPRESS=DEFLATE" in line for line in lines) is is_on
    with pytest.raises(AttributeError):
        world.settings.imap.compress = True  # type: ignore[misc]
