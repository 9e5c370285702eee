"""SELECT, CLOSE, LIST, STATUS, CREATE, DELETE, RENAME, SUBSCRIBE."""

from __future__ import annotations

import pytest

from tests.unit.adapters.imap.world import MESSAGE, World


async def test_select_replies_in_order() -> None:
    world = World()
    world.deliver(MESSAGE, "\\Seen", "kw")
    world.deliver()
    async with world.connect() as client:
        await client.login()
        assert await client.cmd(b'SELECT "Inbox"') == [
            b"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft kw)",
            b"* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft kw \\*)] "
            b"Flags permitted.",
            b"* 2 EXISTS",
            b"* 0 RECENT",
            b"* OK [UNSEEN 2] First unseen.",
            b"* OK [UIDVALIDITY 1700000000] UIDs valid",
            b"* OK [UIDNEXT 3] Predicted next UID",
            b"* OK [HIGHESTMODSEQ 3] Highest",
            b"* OK [MAILBOXID (F1-1700000000)] Mailbox id",
            b"OK [READ-WRITE] Select completed",
        ]


async def test_examine_changes_nothing() -> None:
    world = World()
    world.deliver(MESSAGE, "\\Deleted")
    async with world.connect() as client:
        await client.login()
        assert (await client.cmd(b"EXAMINE INBOX"))[-1] == b"OK [READ-ONLY] Examine completed"
        await client.ok(b"FETCH 1 BODY[]")
        for command in (b"STORE 1 +FLAGS (\\Seen)", b"EXPUNGE", b"MOVE 1 INBOX"):
            assert (await client.cmd(command))[-1].startswith(b"NO [READ-ONLY] ")
        await client.ok(b"CLOSE")
        told = await client.select()
        assert b"* 1 EXISTS" in told
        assert await client.ok(b"FETCH 1 FLAGS") == [b"* 1 FETCH (FLAGS (\\Deleted))"]


async def test_a_missing_mailbox_leaves_no_mailbox_selected() -> None:
    world = World()
    async with world.session() as client:
        reply = await client.cmd(b"SELECT nowhere")
        assert reply == [b"NO [NONEXISTENT] Mailbox doesn't exist"]
        assert (await client.cmd(b"CHECK"))[-1].startswith(b"BAD ")
        await client.select()


async def test_selecting_again_does_not_expunge_but_close_does_silently() -> None:
    world = World()
    world.deliver(MESSAGE, "\\Deleted")
    world.deliver()
    async with world.session() as client:
        assert b"* 2 EXISTS" in await client.select()
        assert await client.cmd(b"UNSELECT") == [b"OK Unselect completed"]
        assert b"* 2 EXISTS" in await client.select()
        assert await client.cmd(b"CLOSE") == [b"OK Close completed"]
        assert b"* 1 EXISTS" in await client.select()


async def test_close_with_nothing_deleted_writes_nothing() -> None:
    world = World()
    world.deliver()
    async with world.session() as client:
        published = len(world.state.hints.published)
        await client.ok(b"CLOSE")
        assert len(world.state.hints.published) == published


async def test_only_inbox_exists_in_a_new_account() -> None:
    async with World().connect() as client:
        await client.login()
        assert await client.ok(b'LIST "" "*"') == [b'* LIST (\\HasNoChildren) "/" "INBOX"']
        assert await client.ok(b'LIST "" ""') == [b'* LIST (\\Noselect) "/" ""']


async def folders(world: World, client) -> None:  # type: ignore[no-untyped-def]
    for command in (
        b"CREATE a/b/c",
        b"CREATE Sent (USE (\\Sent))",
        b"CREATE a/d",
        b"SUBSCRIBE a/b/c",
        b"SUBSCRIBE Sent",
    ):
        await client.ok(command)


@pytest.mark.parametrize(
    ("command", "names"),
    [
        (b'LIST "" *', ["INBOX", "Sent", "a", "a/b", "a/b/c", "a/d"]),
        (b'LIST "" %', ["INBOX", "Sent", "a"]),
        (b'LIST "a/" %', ["a/b", "a/d"]),
        (b'LIST "" (inbox a/%)', ["INBOX", "a/b", "a/d"]),
        (b'LIST (SUBSCRIBED) "" *', ["INBOX", "Sent", "a/b/c"]),
        (b'LIST (SPECIAL-USE) "" *', ["Sent"]),
        (b'LSUB "" *', ["INBOX", "Sent", "a/b/c"]),
        (b'LSUB "" %', ["INBOX", "Sent", "a"]),
        (b'LIST (SUBSCRIBED RECURSIVEMATCH) "" %', ["INBOX", "Sent", "a"]),
    ],
)
async def test_list_patterns_and_options(command: bytes, names: list[str]) -> None:
    world = World()
    async with world.connect() as client:
        await client.login()
        await folders(world, client)
        lines = await client.ok(command)
        assert [line.split(b'"/" "')[1].partition(b'"')[0].decode() for line in lines] == names


async def test_list_attributes() -> None:
    world = World()
    async with world.connect() as client:
        await client.login()
        await folders(world, client)
        lines = await client.ok(b'LIST "" * RETURN (CHILDREN SPECIAL-USE SUBSCRIBED)')
        assert b'* LIST (\\HasNoChildren \\Subscribed \\Sent) "/" "Sent"' in lines
        assert b'* LIST (\\Noselect \\NonExistent \\HasChildren) "/" "a"' in lines
        assert b'* LIST (\\HasNoChildren \\Subscribed) "/" "a/b/c"' in lines
        (child,) = (
            line
            for line in await client.ok(b'LIST (SUBSCRIBED RECURSIVEMATCH) "" a')
            if b'"a"' in line
        )
        assert child.endswith(b'"a" ("CHILDINFO" ("SUBSCRIBED"))')


async def test_lsub_names_no_parent_without_a_subscribed_child() -> None:
    async with World().connect() as client:
        await client.login()
        await client.ok(b"CREATE a/b")
        assert await client.ok(b'LSUB "" %') == [b'* LSUB (\\HasNoChildren) "/" "INBOX"']
        await client.ok(b"SUBSCRIBE a/b")
        assert b'* LSUB (\\Noselect \\HasChildren) "/" "a"' in await client.ok(b'LSUB "" %')


async def test_list_with_status() -> None:
    world = World()
    world.deliver()
    async with world.connect() as client:
        await client.login()
        assert await client.ok(b'LIST "" % RETURN (STATUS (MESSAGES UNSEEN))') == [
            b'* LIST (\\HasNoChildren) "/" "INBOX"',
            b'* STATUS "INBOX" (MESSAGES 1 UNSEEN 1)',
        ]


async def test_list_with_status_tells_none_of_a_name_without_mailbox() -> None:
    async with World().connect() as client:
        await client.login()
        await client.ok(b"CREATE a/b")
        lines = await client.ok(b'LIST "" a* RETURN (STATUS (MESSAGES))')
        assert [line.split()[1] for line in lines] == [b"LIST", b"LIST", b"STATUS"]


async def test_status_of_any_mailbox() -> None:
    world = World()
    world.deliver()
    async with world.session() as client:
        items = (
            b"(MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ SIZE APPENDLIMIT DELETED)"
        )
        assert await client.ok(b"STATUS inbox " + items) == [
            b'* STATUS "INBOX" (MESSAGES 1 RECENT 0 UIDNEXT 2 UIDVALIDITY 1700000000 UNSEEN 1 '
            b"HIGHESTMODSEQ 2 SIZE %d APPENDLIMIT 31457280 DELETED 0)" % len(MESSAGE)
        ]
        assert (await client.cmd(b"STATUS x (UIDNEXT)"))[-1].startswith(b"NO [NONEXISTENT] ")


async def test_mailbox_names_with_utf7() -> None:
    async with World().connect() as client:
        await client.login()
        await client.ok(b'CREATE "Entw&APw-rfe"')
        assert b'* LIST (\\HasNoChildren) "/" "Entw&APw-rfe"' in await client.ok(b'LIST "" *')
        await client.select(b"Entw&APw-rfe")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (b"CREATE INBOX", b"NO [CANNOT]"),
        (b"CREATE a", b"NO [ALREADYEXISTS]"),
        (b"CREATE a//b", b"NO [CANNOT]"),
        (b"DELETE INBOX", b"NO [CANNOT]"),
        (b"DELETE x", b"NO [NONEXISTENT]"),
        (b"RENAME x y", b"NO [NONEXISTENT]"),
        (b"RENAME a INBOX", b"NO [ALREADYEXISTS]"),
        (b"SUBSCRIBE x", b"NO [NONEXISTENT]"),
        (b"UNSUBSCRIBE x", b"OK"),
        (b"CREATE s (USE (\\Important))", b"NO [USEATTR]"),
    ],
)
async def test_refused_names(command: bytes, code: bytes) -> None:
    async with World().connect() as client:
        await client.login()
        await client.ok(b"CREATE a")
        assert (await client.cmd(command))[-1].startswith(code)


async def test_renaming_inbox_moves_its_messages() -> None:
    world = World()
    world.deliver()
    async with world.session() as client:
        await client.ok(b"RENAME INBOX old")
        assert b"* 0 EXISTS" in await client.select()
        assert b"* 1 EXISTS" in await client.select(b"old")


async def test_deleting_the_own_selected_mailbox_deselects_it() -> None:
    async with World().session() as client:
        await client.ok(b"CREATE a")
        await client.select(b"a")
        await client.ok(b"DELETE a")
        assert (await client.cmd(b"CHECK"))[-1].startswith(b"BAD ")
        await client.ok(b"NOOP")


async def test_qresync_is_not_offered() -> None:
    async with World().connect() as client:
        await client.login()
        assert (await client.cmd(b"SELECT INBOX (QRESYNC (1 2))"))[-1].startswith(b"BAD ")


async def test_select_with_condstore() -> None:
    world = World()
    world.deliver()
    world.deliver()
    async with world.connect() as client:
        await client.login()
        assert b"* OK [HIGHESTMODSEQ 3] Highest" in await client.ok(b"SELECT INBOX (CONDSTORE)")
        assert await client.ok(b"UID FETCH 1:* (FLAGS) (CHANGEDSINCE 2)") == [
            b"* 2 FETCH (UID 2 FLAGS () MODSEQ (3))"
        ]


async def test_a_session_that_only_polls_counts_as_a_login_of_the_day() -> None:
    world = World()
    async with world.session() as client:
        before = world.authenticate.touched
        await client.ok(b"NOOP")
        assert world.authenticate.touched == before + 1
