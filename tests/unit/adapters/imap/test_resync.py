"""QRESYNC at the face: SELECT, UID FETCH, VANISHED, HIGHESTMODSEQ."""

from __future__ import annotations

from tests.unit.adapters.imap.resyncing import filled, resyncing
from tests.unit.adapters.imap.world import MESSAGE


async def test_enable_is_needed() -> None:
    async with filled().session() as client:
        for command in (
            b"SELECT INBOX (QRESYNC (1700000000 1))",
            b"UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)",
        ):
            assert (await client.cmd(command))[-1] == b"BAD QRESYNC is not enabled"
        assert await client.ok(b"NOOP") == []  # the mailbox is still selected


async def test_qresync_brings_condstore() -> None:
    async with resyncing(filled(1)) as client:
        assert await client.ok(b"FETCH 1 FLAGS") == [b"* 1 FETCH (FLAGS () MODSEQ (2))"]


async def test_select_tells_what_went_and_what_changed_after_the_usual_lines() -> None:
    world = filled(5)  # modseqs 2 to 6
    async with world.session() as other:
        await other.ok(b"UID STORE 2,4 +FLAGS.SILENT (\\Deleted)")  # 7
        await other.ok(b"EXPUNGE")  # 8
        await other.ok(b"UID STORE 1,5 +FLAGS.SILENT (\\Seen)")  # 9
        world.deliver()  # 10
    async with resyncing(world, b"") as client:
        lines = await client.cmd(b"SELECT INBOX (QRESYNC (1700000000 6))")
        assert lines[-7:] == [
            b"* OK [HIGHESTMODSEQ 10] Highest",
            b"* OK [MAILBOXID (F1-1700000000)] Mailbox id",
            b"* VANISHED (EARLIER) 2,4",
            b"* 1 FETCH (UID 1 FLAGS (\\Seen) MODSEQ (9))",
            b"* 3 FETCH (UID 5 FLAGS (\\Seen) MODSEQ (9))",
            b"* 4 FETCH (UID 6 FLAGS () MODSEQ (10))",
            b"OK [READ-WRITE] Select completed",
        ]
        again = await client.cmd(b"EXAMINE INBOX (QRESYNC (1700000000 9 1:5))")
        assert again[0] == b"* OK [CLOSED] Previous mailbox is closed"
        assert again[-3:] == [
            b"* OK [HIGHESTMODSEQ 10] Highest",
            b"* OK [MAILBOXID (F1-1700000000)] Mailbox id",
            b"OK [READ-ONLY] Examine completed",
        ]


async def test_select_honours_known_uids_and_match_data() -> None:
    world = filled(6)
    async with world.session() as other:
        await other.ok(b"UID STORE 2,5 +FLAGS.SILENT (\\Deleted)")
        await other.ok(b"EXPUNGE")
        await other.ok(b"UID STORE 1,6 +FLAGS.SILENT (\\Seen)")
    async with resyncing(world, b"") as client:
        told = await client.ok(b"SELECT INBOX (QRESYNC (1700000000 7 1:3))")
        assert b"* VANISHED (EARLIER) 2" in told
        assert [line for line in told if b"FETCH" in line] == [
            b"* 1 FETCH (UID 1 FLAGS (\\Seen) MODSEQ (10))"
        ]
        # Message 3 is UID 4 still, as this client has it: nothing below went for it.
        told = await client.ok(b"SELECT INBOX (QRESYNC (1700000000 7 1:6 (3 4)))")
        assert b"* VANISHED (EARLIER) 5" in told


async def test_another_uidvalidity_leaves_the_parameters_aside() -> None:
    async with resyncing(filled(2), b"") as client:
        told = await client.ok(b"SELECT INBOX (QRESYNC (1699999999 1 1:2))")
        assert told[-2].startswith(b"* OK [HIGHESTMODSEQ ")


async def test_closed_is_told_only_where_a_mailbox_was_selected() -> None:
    async with resyncing(filled(1), b"") as client:
        assert b"CLOSED" not in b"".join(await client.select())
        lines = await client.cmd(b"SELECT nowhere")
        assert lines == [
            b"* OK [CLOSED] Previous mailbox is closed",
            b"NO [NONEXISTENT] Mailbox doesn't exist",
        ]
        assert b"CLOSED" not in b"".join(await client.select())
        await client.ok(b"CLOSE")
        assert b"CLOSED" not in b"".join(await client.select())


async def test_a_failing_store_does_not_leave_the_mailbox_open() -> None:
    world = filled(1)
    async with resyncing(world, b"") as client:
        opened = []
        original = world.store.open

        async def open_and_delete(account, name):  # type: ignore[no-untyped-def]
            opened.append(await original(account, name))
            world.state.drop(world.state.by_id(world.inbox))
            return opened[-1]

        world.store.open = open_and_delete  # type: ignore[method-assign]
        await client.send(b"x SELECT INBOX (QRESYNC (1700000000 1))\r\n")
        assert await client.line() == b"* BYE Mailbox deleted"
        assert opened[0].is_closed


# --- VANISHED in the place of EXPUNGE ---------------------------------------------------------


async def test_expunge_is_told_by_uid_with_the_new_modseq() -> None:
    world = filled(5)
    async with resyncing(world) as client:
        await client.ok(b"UID STORE 2:3,5 +FLAGS.SILENT (\\Deleted)")
        assert await client.cmd(b"UID EXPUNGE 1:3") == [
            b"* VANISHED 2:3",
            b"OK [HIGHESTMODSEQ 8] Expunge completed",
        ]
        assert await client.cmd(b"EXPUNGE") == [
            b"* VANISHED 5",
            b"OK [HIGHESTMODSEQ 9] Expunge completed",
        ]


async def test_move_is_told_by_uid_behind_copyuid() -> None:
    async with resyncing(filled(3)) as client:
        await client.ok(b"CREATE old")
        assert await client.cmd(b"UID MOVE 1,3 old") == [
            b"* OK [COPYUID 1767225600 1,3 1:2] Moved",
            b"* VANISHED 1,3",
            b"OK [HIGHESTMODSEQ 5] Move completed",
        ]


async def test_close_tells_neither_uids_nor_a_modseq() -> None:
    """RFC 7162 §3.2.8: a modseq there could skip what the client was never told."""
    async with resyncing(filled(2)) as client:
        await client.ok(b"STORE 1 +FLAGS.SILENT (\\Deleted)")
        assert await client.cmd(b"CLOSE") == [b"OK Close completed"]


async def test_noop_and_idle_tell_other_sessions_expunges_by_uid(autojump_clock: object) -> None:
    world = filled(4)
    async with resyncing(world) as client, world.session() as other:
        await other.ok(b"UID STORE 1 +FLAGS.SILENT (\\Deleted)")
        await other.ok(b"EXPUNGE")
        # VANISHED names no MODSEQ, so another line does.
        told = [b"* VANISHED 1", b"* OK [HIGHESTMODSEQ 7] Highest"]
        assert await client.ok(b"NOOP") == told
        await client.send(b"i IDLE\r\n")
        assert await client.line() == b"+ idling"
        await other.ok(b"UID STORE 2:3 +FLAGS.SILENT (\\Deleted)")
        await other.ok(b"EXPUNGE")
        assert await client.line() == b"* VANISHED 2:3"
        assert await client.line() == b"* OK [HIGHESTMODSEQ 9] Highest"
        world.deliver()
        assert await client.line() == b"* 2 EXISTS"
        assert await client.line() == b"* OK [HIGHESTMODSEQ 10] Highest"


async def test_a_message_never_announced_never_vanishes() -> None:
    world = filled(1)
    async with resyncing(world) as client, world.session() as other:
        await other.ok(b"NOOP")
        world.deliver(MESSAGE, "\\Deleted")
        await other.ok(b"EXPUNGE")
        assert await client.ok(b"NOOP") == [b"* OK [HIGHESTMODSEQ 4] Highest"]


async def test_a_session_without_qresync_reads_expunge() -> None:
    world = filled(3)
    async with world.session() as client, resyncing(world) as other:
        await other.ok(b"UID STORE 1:2 +FLAGS.SILENT (\\Deleted)")
        await other.ok(b"EXPUNGE")
        assert await client.ok(b"NOOP") == [b"* 2 EXPUNGE", b"* 1 EXPUNGE"]


# --- UID FETCH … (CHANGEDSINCE n VANISHED) ----------------------------------------------------


async def test_uid_fetch_tells_what_vanished_before_what_changed() -> None:
    world = filled(6)
    async with world.session() as other:
        await other.ok(b"UID STORE 2,4,6 +FLAGS.SILENT (\\Deleted)")
        await other.ok(b"EXPUNGE")
        await other.ok(b"UID STORE 3 +FLAGS.SILENT (\\Seen)")
    async with resyncing(world) as client:
        assert await client.ok(b"UID FETCH 3:* (FLAGS) (CHANGEDSINCE 7 VANISHED)") == [
            b"* VANISHED (EARLIER) 4,6",
            b"* 2 FETCH (UID 3 FLAGS (\\Seen) MODSEQ (10))",
        ]
        assert await client.ok(b"UID FETCH 7:* (FLAGS) (CHANGEDSINCE 9 VANISHED)") == []


async def test_what_the_client_still_counts_is_not_told_as_earlier() -> None:
    world = filled(3)
    async with resyncing(world) as client, world.session() as other:
        await other.ok(b"UID STORE 2 +FLAGS.SILENT (\\Deleted)")
        await other.ok(b"EXPUNGE")
        assert await client.ok(b"UID FETCH 1:3 (FLAGS) (CHANGEDSINCE 4 VANISHED)") == [
            b"* VANISHED 2",
            b"* OK [HIGHESTMODSEQ 6] Highest",
        ]


# --- news that waits --------------------------------------------------------------------------


async def test_commands_with_numbers_hold_expunges_and_say_how_far_all_is_told() -> None:
    """RFC 7162 §6, the example with the delayed VANISHED."""
    world = filled(3)  # modseq 4
    async with resyncing(world) as client, world.session() as other:
        await other.ok(b"UID STORE 3 +FLAGS.SILENT (\\Deleted)")  # 5
        await other.ok(b"EXPUNGE")  # 6
        assert await client.cmd(b"STORE 1 +FLAGS (\\Seen)") == [
            b"* 1 FETCH (FLAGS (\\Seen) MODSEQ (7))",
            b"* OK [HIGHESTMODSEQ 4] Some changes wait",
            b"OK Store completed",
        ]
        assert await client.ok(b"FETCH 1 (UID)") == [
            b"* 1 FETCH (UID 1)",
            b"* OK [HIGHESTMODSEQ 4] Some changes wait",
        ]
        assert (await client.ok(b"UID SEARCH 1:3"))[1:] == [
            b"* OK [HIGHESTMODSEQ 4] Some changes wait"
        ]
        assert await client.ok(b"UID FETCH 1 (UID)") == [
            b"* 1 FETCH (UID 1)",
            b"* VANISHED 3",
            b"* OK [HIGHESTMODSEQ 7] Highest",
        ]
        assert await client.ok(b"FETCH 1 (UID)") == [b"* 1 FETCH (UID 1)"]


async def test_uid_commands_tell_all_news_with_uids() -> None:
    world = filled(3)
    async with resyncing(world) as client, world.session() as other:
        await other.ok(b"UID STORE 1 +FLAGS.SILENT (\\Seen)")
        assert await client.ok(b"UID STORE 2 +FLAGS.SILENT (\\Seen)") == [
            b"* 1 FETCH (UID 1 FLAGS (\\Seen) MODSEQ (5))"
        ]
