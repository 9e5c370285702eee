"""NOTIFY at the face: events of the selected mailbox between commands."""

from __future__ import annotations

import pytest

from tests.unit.adapters.imap.notifying import DELAYED, OTHERS, SELECTED, notified, other_mailbox
from tests.unit.adapters.imap.world import MESSAGE, Client, World


async def test_selected_mailbox_speaks_between_commands() -> None:
    world = World()
    world.deliver()
    async with notified(world, SELECTED) as client, world.session() as other:
        world.deliver()
        assert await client.line() == b"* 2 EXISTS"
        assert await client.line() == b"* 2 FETCH (UID 2 RFC822.SIZE %d)" % len(MESSAGE)
        await other.ok(b"UID STORE 1 +FLAGS.SILENT (\\Seen)")
        assert await client.line() == b"* 1 FETCH (UID 1 FLAGS (\\Seen))"
        await other.ok(b"UID STORE 1 +FLAGS.SILENT (\\Deleted)")
        assert await client.line() == b"* 1 FETCH (UID 1 FLAGS (\\Deleted \\Seen))"
        await other.ok(b"EXPUNGE")
        assert await client.line() == b"* 1 EXPUNGE"
        assert await client.ok(b"NOOP") == []
        assert await client.quiet()


async def test_qresync_sessions_are_told_by_uid() -> None:
    world = World()
    world.deliver(MESSAGE, "\\Deleted")
    async with world.connect() as client, world.session() as other:
        await client.login()
        await client.ok(b"ENABLE QRESYNC")
        await client.ok(b"NOTIFY SET (SELECTED (MessageNew (FLAGS) MessageExpunge))")
        await client.select()
        await other.ok(b"EXPUNGE")
        assert await client.line() == b"* VANISHED 1"
        # Nothing else says up to where the client knows all.
        assert await client.line() == b"* OK [HIGHESTMODSEQ 3] Highest"
        world.deliver()
        assert await client.line() == b"* 1 EXISTS"
        assert await client.line() == b"* 1 FETCH (UID 2 FLAGS () MODSEQ (4))"
        assert await client.line() == b"* OK [HIGHESTMODSEQ 4] Highest"


async def append(client: Client, mailbox: bytes = b"INBOX") -> list[bytes]:
    return await client.ok(b"APPEND %b {%d+}\r\n%b" % (mailbox, len(MESSAGE), MESSAGE))


async def test_own_messages_are_told_by_exists_alone() -> None:
    """RFC 5465 §5: what the client has caused is no event; EXISTS is APPEND's own (RFC 3501)."""
    world = World()
    async with notified(world, SELECTED + b" " + OTHERS) as client:
        assert await append(client) == [b"* 1 EXISTS"]
        assert await client.ok(b"COPY 1 INBOX") == [b"* 2 EXISTS"]
        assert await client.quiet()
        world.deliver()
        assert await client.line() == b"* 3 EXISTS"
        assert await client.line() == b"* 3 FETCH (UID 3 RFC822.SIZE %d)" % len(MESSAGE)


async def test_own_messages_in_other_mailboxes_are_no_news() -> None:
    world = World()
    world.deliver()
    other = other_mailbox(world)
    async with notified(world, OTHERS) as client:
        assert await append(client, b"other") == []
        await client.ok(b"NOOP")
        assert await client.quiet()
        await client.ok(b"UID COPY 1 other")
        await client.ok(b"UID MOVE 1 other")
        assert await client.quiet()
        world.deliver(mailbox=other)
        assert await client.line() == b'* STATUS "other" (MESSAGES 4 UIDNEXT 5)'


async def test_what_a_session_did_in_a_mailbox_it_leaves_is_no_news() -> None:
    world = World()
    world.deliver(MESSAGE, "\\Deleted")
    other_mailbox(world)
    async with notified(world, OTHERS) as client:
        await client.ok(b"CLOSE")
        assert await client.quiet()
        await client.select(b"other")
        world.deliver()
        assert await client.line() == b'* STATUS "INBOX" (MESSAGES 1 UIDNEXT 3)'


async def test_arrivals_during_a_fetch_are_told_behind_it(autojump_clock: object) -> None:
    """A client that reads EXISTS inside FETCH may take it for part of the answer (interimap)."""
    world = World()
    async with notified(world, SELECTED) as client:
        world.deliver()
        assert await client.line() == b"* 1 EXISTS"
        assert (await client.line()).startswith(b"* 1 FETCH (UID 1")
        world.deliver()  # within 20 ms of the last: it waits
        assert await client.ok(b"FETCH 1 (FLAGS)") == [b"* 1 FETCH (FLAGS ())"]
        assert await client.line() == b"* 2 EXISTS"
        assert (await client.line()).startswith(b"* 2 FETCH (UID 2")


async def test_body_sections_of_new_messages_do_not_set_seen() -> None:
    world = World()
    group = b"(SELECTED (MessageNew (BODY[TEXT] ENVELOPE) MessageExpunge))"
    async with notified(world, group) as client:
        world.deliver()
        assert await client.line() == b"* 1 EXISTS"
        line = await client.line()
        assert line.startswith(b"* 1 FETCH (ENVELOPE (")
        assert line.endswith(b" BODY[TEXT] {7}\r\nhello\r\n)")
        assert await client.ok(b"FETCH 1 FLAGS") == [b"* 1 FETCH (FLAGS ())"]


async def test_flags_are_left_out_when_they_were_not_asked_for() -> None:
    world = World()
    world.deliver()
    group = b"(SELECTED (MessageNew MessageExpunge))"
    async with notified(world, group) as client, world.session() as other:
        await other.ok(b"STORE 1 +FLAGS.SILENT (\\Seen)")
        world.deliver()
        assert await client.line() == b"* 2 EXISTS"
        assert await client.ok(b"NOOP") == []


async def test_delayed_keeps_numbers_until_a_command_lets_them_change() -> None:
    world = World()
    for _ in range(2):
        world.deliver()
    async with notified(world, DELAYED) as client, world.session() as other:
        world.deliver()
        assert await client.line() == b"* 3 EXISTS"
        await other.ok(b"UID STORE 1 +FLAGS.SILENT (\\Deleted)")
        assert await client.line() == b"* 1 FETCH (UID 1 FLAGS (\\Deleted))"
        await other.ok(b"EXPUNGE")
        assert await client.quiet()
        assert await client.ok(b"FETCH 3 UID") == [b"* 3 FETCH (UID 3)"]
        assert await client.ok(b"NOOP") == [b"* 1 EXPUNGE"]


@pytest.mark.parametrize("command", [b"NOTIFY NONE", b"NOTIFY SET (SELECTED NONE)"])
async def test_who_wants_nothing_hears_nothing_but_its_own_expunges(command: bytes) -> None:
    world = World()
    for _ in range(3):
        world.deliver()
    async with world.session() as client, world.session() as other:
        await client.ok(command)
        await other.ok(b"STORE 1 +FLAGS.SILENT (\\Deleted)")
        await other.ok(b"EXPUNGE")
        world.deliver()
        assert await client.quiet()
        assert await client.ok(b"NOOP") == []
        assert await client.ok(b"FETCH 2 UID") == [b"* 2 FETCH (UID 2)"]
        await client.ok(b"UID STORE 2 +FLAGS.SILENT (\\Deleted)")
        assert await client.ok(b"EXPUNGE") == [b"* 2 EXPUNGE", b"* 1 EXPUNGE", b"* 2 EXISTS"]


async def test_own_moves_are_told_to_who_wants_nothing_else() -> None:
    world = World()
    for _ in range(2):
        world.deliver()
    async with world.session() as client:
        await client.ok(b"CREATE old")
        await client.ok(b"NOTIFY NONE")
        assert (await client.ok(b"MOVE 1 old"))[1:] == [b"* 1 EXPUNGE"]
        await client.ok(b"ENABLE QRESYNC")
        assert (await client.ok(b"MOVE 1 old"))[1:] == [b"* VANISHED 2"]


async def test_modseqs_of_news_nobody_tells_are_covered() -> None:
    """RFC 7162 §3.2: a client that resumes has to ask from below what it was not told."""
    world = World()
    for _ in range(2):
        world.deliver()  # modseq 3
    async with world.session() as client, world.session() as other:
        await client.ok(b"ENABLE QRESYNC")
        await client.ok(b"NOTIFY NONE")
        await other.ok(b"STORE 1 +FLAGS.SILENT (\\Deleted)")
        await other.ok(b"EXPUNGE")
        await other.ok(b"UID STORE 2 +FLAGS.SILENT (\\Seen)")
        assert await client.ok(b"UID FETCH 2 FLAGS") == [
            b"* 2 FETCH (UID 2 FLAGS (\\Seen) MODSEQ (6))",
            b"* OK [HIGHESTMODSEQ 3] Some changes wait",
        ]


async def test_set_tells_at_once_what_the_selected_mailbox_has_gathered() -> None:
    world = World()
    async with world.session() as client:
        await client.ok(b"NOTIFY NONE")
        world.deliver()
        assert await client.quiet()
        assert await client.ok(b"NOTIFY SET " + SELECTED) == [
            b"* 1 EXISTS",
            b"* 1 FETCH (UID 1 RFC822.SIZE %d)" % len(MESSAGE),
        ]
