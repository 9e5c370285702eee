"""NOTIFY at the face: other mailboxes, names, push tokens, settings."""

from __future__ import annotations

import attrs
import pytest
import trio

from tests.unit.adapters.imap.notifying import OTHERS, notified, other_mailbox
from tests.unit.adapters.imap.world import NOW_S, SETTINGS, World


async def test_other_mailboxes_are_told_by_status_with_one_line_for_many_messages() -> None:
    world = World()
    other = other_mailbox(world)
    async with notified(world, OTHERS) as client:
        for _ in range(3):
            world.deliver(mailbox=other)
        assert await client.line() == b'* STATUS "other" (MESSAGES 3 UIDNEXT 4)'
        world.deliver()  # into the selected one, of which nothing was asked
        assert await client.quiet()
        await client.ok(b"ENABLE CONDSTORE")
        world.deliver(mailbox=other)
        assert await client.line() == (b'* STATUS "other" (MESSAGES 4 UIDNEXT 5 HIGHESTMODSEQ 5)')


async def test_set_status_tells_how_things_are() -> None:
    world = World()
    other_mailbox(world)
    async with world.session() as client:
        assert await client.ok(b"NOTIFY SET STATUS " + OTHERS) == [
            b'* STATUS "other" (MESSAGES 0 UIDNEXT 1 UIDVALIDITY %d)' % NOW_S
        ]


async def test_names_and_subscriptions_of_other_sessions_are_told_and_own_ones_not() -> None:
    world = World()
    async with notified(world, OTHERS) as client, world.session() as other:
        await other.ok(b"CREATE a")
        assert await client.line() == b'* LIST (\\HasNoChildren) "/" "a"'
        await other.ok(b"SUBSCRIBE a")
        assert await client.line() == b'* LIST (\\HasNoChildren \\Subscribed) "/" "a"'
        await other.ok(b"RENAME a b")
        assert await client.line() == (
            b'* LIST (\\HasNoChildren \\Subscribed) "/" "b" ("OLDNAME" ("a"))'
        )
        await other.ok(b"DELETE b")
        assert await client.line() == b'* LIST (\\Noselect \\NonExistent \\HasNoChildren) "/" "b"'
        await client.ok(b"CREATE mine")
        await client.ok(b"SUBSCRIBE mine")
        await client.ok(b"RENAME mine yours")
        await client.ok(b"UNSUBSCRIBE yours")
        await client.ok(b"DELETE yours")
        assert await client.quiet()


async def test_a_mailbox_created_later_is_watched_as_well() -> None:
    world = World()
    async with notified(world, OTHERS) as client, world.session() as other:
        await other.ok(b"CREATE late")
        assert await client.line() == b'* LIST (\\HasNoChildren) "/" "late"'
        late = world.state.named(world.account.id, "late")
        assert late is not None
        world.deliver(mailbox=late.id)
        assert await client.line() == b'* STATUS "late" (MESSAGES 1 UIDNEXT 2)'


async def test_push_tokens_of_other_sessions_are_told() -> None:
    """RFC 5465 §5.6: a server with METADATA tells its changes."""
    world = World()
    token = b'SETMETADATA INBOX (/private/devicetoken "%b")'
    async with (
        notified(world, b"(PERSONAL (MailboxMetadataChange))") as client,
        world.session() as other,
    ):
        await other.ok(token % b"one")
        assert await client.line() == b'* METADATA "INBOX" /private/devicetoken'
        await other.ok(token % b"one")
        await client.ok(token % b"two")
        assert await client.quiet()


@pytest.mark.parametrize("is_idle", [False, True])
async def test_new_settings_are_told_within_a_minute(autojump_clock: object, is_idle: bool) -> None:
    world = World()
    async with notified(world, b"(PERSONAL (ServerMetadataChange))") as client:
        if is_idle:
            await client.send(b"i IDLE\r\n")
            assert await client.line() == b"+ idling"
        identity = attrs.evolve(SETTINGS.identity, operator_comment="new")
        world.settings = attrs.evolve(SETTINGS, identity=identity)
        started = trio.current_time()
        assert await client.line() == b'* METADATA "" /shared/comment'
        assert trio.current_time() - started <= 60.1
