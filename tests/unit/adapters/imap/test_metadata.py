"""METADATA and quota replies, in the very form the client parses."""

from __future__ import annotations

import attrs
import pytest

from chatmail.domain.usecases.service_metadata import ServiceMetadata
from tests.unit.adapters.imap.world import MESSAGE, World

CORE = (
    b'GETMETADATA "" (/shared/comment /shared/admin /shared/vendor/deltachat/irohrelay '
    b"/shared/vendor/deltachat/turn /shared/vendor/deltachat/maxsmtprecipients "
    b"/shared/vendor/deltachat/appversions)"
)


async def test_the_list_core_asks_for_is_one_line_in_one_write() -> None:
    world = World()
    world.metadata = attrs.evolve(
        world.metadata,
        turn=lambda: "127.0.0.1:3478:1800000000:cGFzcw==",
        app_versions=lambda: '{"a":"1"}',
    )
    async with world.connect() as client:
        await client.login()
        client.server.writes.clear()
        assert await client.ok(CORE) == [
            b'* METADATA "" (/shared/comment NIL /shared/admin NIL '
            b"/shared/vendor/deltachat/irohrelay NIL "
            b"/shared/vendor/deltachat/turn {34}\r\n127.0.0.1:3478:1800000000:cGFzcw== "
            b"/shared/vendor/deltachat/maxsmtprecipients {4}\r\n1000 "
            b'/shared/vendor/deltachat/appversions {9}\r\n{"a":"1"})'
        ]
        assert len(client.server.writes) == 1
        assert client.server.writes[0].endswith(b" OK Getmetadata completed\r\n")


async def test_unknown_entries_are_ok() -> None:
    async with World().session() as client:
        assert await client.cmd(b'GETMETADATA "" /shared/unknown') == [b"OK Getmetadata completed"]
        reply = await client.cmd(b"GETMETADATA nowhere /shared/comment")
        assert reply[-1].startswith(b"NO [NONEXISTENT] ")


async def test_maxsize_and_depth() -> None:
    world = World()
    world.metadata = attrs.evolve(world.metadata, turn=lambda: "x" * 50)
    async with world.session() as client:
        *lines, last = await client.cmd(
            b'GETMETADATA (MAXSIZE 10 DEPTH infinity) "" /shared/vendor'
        )
        assert b"maxsmtprecipients {4}" in lines[0]
        assert last == b"OK [METADATA LONGENTRIES 50] Getmetadata completed"


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(b'SETMETADATA "INBOX" (/private/devicetoken "1111")\r\n', id="quoted"),
        pytest.param(b"SETMETADATA INBOX (/private/devicetoken {4+}\r\n1111)\r\n", id="literal+"),
        pytest.param(b'SETMETADATA inbox (/private/devicetoken "1111" )\n', id="LF and space"),
    ],
)
async def test_device_tokens_in_every_form(command: bytes) -> None:
    async with World().session() as client:
        await client.send(b"a01 " + command)
        assert await client.line() == b"a01 OK Setmetadata completed"
        await client.ok(b'SETMETADATA "INBOX" (/private/devicetoken "2222")')
        assert await client.ok(b"GETMETADATA INBOX /private/devicetoken") == [
            b'* METADATA "INBOX" (/private/devicetoken {9}\r\n1111 2222)'
        ]


async def test_a_token_in_a_synchronising_literal() -> None:
    async with World().session() as client:
        await client.send(b"a SETMETADATA INBOX (/private/devicetoken {4}\r\n")
        assert (await client.line()).startswith(b"+ ")
        await client.send(b"1111)\r\n")
        assert await client.line() == b"a OK Setmetadata completed"


async def test_the_31st_token_drops_the_oldest() -> None:
    async with World().session() as client:
        for number in range(31):
            await client.ok(b'SETMETADATA INBOX (/private/devicetoken "t%d")' % number)
        (line,) = await client.ok(b"GETMETADATA INBOX /private/devicetoken")
        tokens = line.partition(b"\r\n")[2].rstrip(b")").split(b" ")
        assert tokens == [b"t%d" % number for number in range(1, 31)]


async def test_nil_removes_only_the_token_of_the_session() -> None:
    world = World()
    async with world.session() as one, world.session() as two:
        await one.ok(b'SETMETADATA INBOX (/private/devicetoken "one")')
        await two.ok(b"SETMETADATA INBOX (/private/devicetoken NIL)")
        await two.ok(b'SETMETADATA INBOX (/private/devicetoken "two")')
        await one.ok(b"SETMETADATA INBOX (/private/devicetoken NIL)")
        (line,) = await one.ok(b"GETMETADATA INBOX /private/devicetoken")
        assert line.endswith(b"{3}\r\ntwo)")


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (b'SETMETADATA "" (/shared/comment "x")', b"NO [NOPERM] "),
        (b'SETMETADATA INBOX (/private/comment "x")', b"NO [METADATA NOPRIVATE] "),
        (b'SETMETADATA INBOX (/private/devicetoken "a b")', b"BAD "),
        (b'SETMETADATA nowhere (/shared/comment "x")', b"NO [NONEXISTENT] "),
        (
            b"SETMETADATA INBOX (/private/devicetoken {8193+}\r\n%b)" % (b"x" * 8193),
            b"NO [METADATA MAXSIZE 8192] ",
        ),
    ],
)
async def test_refused_entries(command: bytes, reply: bytes) -> None:
    async with World().session() as client:
        assert (await client.cmd(command))[-1].startswith(reply)


async def test_metadata_trouble_is_a_temporary_no() -> None:
    world = World()

    async def failing(*args: object, **more: object) -> None:
        from chatmail.domain.model.errors import TransientFailure

        raise TransientFailure

    tokens = type("Tokens", (), {"of": staticmethod(failing)})()
    world.metadata = ServiceMetadata(
        tokens=tokens, settings=lambda: world.settings, clock=world.clock
    )
    async with world.session() as client:
        reply = await client.cmd(b"GETMETADATA INBOX /private/devicetoken")
        assert reply[-1].startswith(b"NO [UNAVAILABLE] ")


async def test_quota_root_and_numbers_are_one_write() -> None:
    world = World()
    for _ in range(10):
        world.deliver()
    used = -(-10 * len(MESSAGE) // 1024)
    async with world.session() as client:
        client.server.writes.clear()
        assert await client.ok(b'GETQUOTAROOT "INBOX"') == [
            b'* QUOTAROOT "INBOX" "User quota"',
            b'* QUOTA "User quota" (STORAGE %d 512000)' % used,
        ]
        assert len(client.server.writes) == 1
        assert await client.ok(b'GETQUOTA "User quota"') == [
            b'* QUOTA "User quota" (STORAGE %d 512000)' % used
        ]
        assert (await client.cmd(b'GETQUOTA "x"'))[-1].startswith(b"NO [NONEXISTENT] ")
        assert (await client.cmd(b"GETQUOTAROOT nowhere"))[-1].startswith(b"NO [NONEXISTENT] ")
        reply = await client.cmd(b'SETQUOTA "User quota" (STORAGE 1)')
        assert reply[-1].startswith(b"NO [NOPERM] ")


async def test_a_token_is_no_change_of_messages() -> None:
    """MODSEQs count those (RFC 7162 §3.1): no client must look for changes that are not there."""
    world = World()
    world.deliver()
    async with world.session() as client, world.session() as other:
        asked = b"STATUS INBOX (HIGHESTMODSEQ)"
        before = await client.ok(asked)
        await other.ok(b'SETMETADATA INBOX (/private/devicetoken "t")')
        assert await client.ok(asked) == before
        assert await client.ok(b"NOOP") == []
