"""STORE, EXPUNGE, COPY, MOVE."""

from __future__ import annotations

import attrs
import pytest

from chatmail.domain.model.settings import LimitSettings
from tests.unit.adapters.imap.world import MESSAGE, SETTINGS, World


@pytest.fixture
def world() -> World:
    world = World()
    for _ in range(3):
        world.deliver()
    return world


async def test_flag_modes(world: World) -> None:
    async with world.session() as client:
        for command, flags in (
            (b"+FLAGS (\\Seen kw)", b"\\Seen kw"),
            (b"+FLAGS \\Flagged", b"\\Flagged \\Seen kw"),
            (b"-FLAGS (\\Seen KW)", b"\\Flagged"),
            (b"FLAGS (\\Answered \\Draft)", b"\\Answered \\Draft"),
            (b"FLAGS ()", b""),
        ):
            assert await client.ok(b"UID STORE 2 " + command) == [
                b"* 2 FETCH (UID 2 FLAGS (%b))" % flags
            ]
        assert await client.ok(b"STORE 2 +FLAGS (\\Seen)") == [b"* 2 FETCH (FLAGS (\\Seen))"]


async def test_silent_tells_nothing_but_is_done(world: World) -> None:
    async with world.session() as client:
        assert await client.ok(b"UID STORE 1:* +FLAGS.SILENT (\\Seen)") == []
        assert await client.ok(b"NOOP") == []
        assert len(await client.ok(b"FETCH 1:* FLAGS")) == 3
        assert b"SEARCH 1 2 3" in (await client.ok(b"SEARCH SEEN"))[0]


async def test_deleted_does_not_remove(world: World) -> None:
    async with world.session() as client:
        await client.ok(b"UID STORE 1 +FLAGS (\\Deleted)")
        assert len(await client.ok(b"UID FETCH 1:* UID")) == 3


async def test_missing_uids_are_ignored(world: World) -> None:
    async with world.session() as client:
        assert await client.ok(b"UID STORE 77 +FLAGS (\\Seen)") == []
        assert len(await client.ok(b"UID STORE 3:77 +FLAGS (\\Seen)")) == 1
        assert (await client.cmd(b"STORE 77 +FLAGS (\\Seen)"))[-1].startswith(b"BAD ")


async def test_keyword_limits(world: World) -> None:
    async with world.session() as client:
        reply = await client.cmd(b"STORE 1 +FLAGS (%b)" % (b"k" * 65))
        assert reply[-1].startswith(b"NO [LIMIT] ")
        many = b" ".join(b"k%d" % number for number in range(64))
        await client.ok(b"STORE 1 +FLAGS.SILENT (%b)" % many)
        await client.ok(b"STORE 1 +FLAGS.SILENT (%b)" % many.replace(b"k", b"q"))
        assert (await client.cmd(b"STORE 1 +FLAGS (one)"))[-1].startswith(b"NO [LIMIT] ")


@pytest.mark.parametrize("verb", [b"COPY", b"MOVE"])
async def test_keyword_limits_hold_for_copies_too(world: World, verb: bytes) -> None:
    for number in range(128):
        world.deliver(MESSAGE, f"k{number}")
    async with world.session() as client:
        await client.ok(b"CREATE full")
        await client.ok(b"COPY 4:* full")
        await client.ok(b"STORE 4:* -FLAGS.SILENT (%b)" % b" ".join(b"k%d" % n for n in range(128)))
        await client.ok(b"CREATE other")
        await client.ok(b"COPY 1 other")
        await client.ok(b"SELECT other")
        await client.ok(b"STORE 1 +FLAGS.SILENT (one)")
        assert (await client.cmd(verb + b" 1 full"))[-1].startswith(b"NO [LIMIT] ")
        await client.ok(b"STORE 1 FLAGS.SILENT (K7 \\Seen)")
        await client.ok(verb + b" 1 full")


async def test_unchangedsince(world: World) -> None:
    async with world.session() as client:
        await client.ok(b"UID STORE 2 +FLAGS.SILENT (\\Seen)")
        *lines, last = await client.cmd(b"UID STORE 1:3 (UNCHANGEDSINCE 4) +FLAGS (\\Flagged)")
        assert lines == [
            b"* 1 FETCH (UID 1 FLAGS (\\Flagged) MODSEQ (6))",
            b"* 3 FETCH (UID 3 FLAGS (\\Flagged) MODSEQ (6))",
        ]
        assert last == b"OK [MODIFIED 2] Store completed"
        *lines, last = await client.cmd(b"STORE 2 (UNCHANGEDSINCE 9) +FLAGS.SILENT (\\Draft)")
        assert lines == [b"* 2 FETCH (MODSEQ (7))"]
        assert last == b"OK Store completed"


async def test_modified_names_numbers_or_uids_as_the_command_does(world: World) -> None:
    async with world.session() as client:
        await client.ok(b"UID STORE 1 +FLAGS.SILENT (\\Deleted)")
        await client.ok(b"EXPUNGE")
        await client.ok(b"UID STORE 3 +FLAGS.SILENT (\\Seen)")
        for command, modified in (
            (b"STORE 1:2 (UNCHANGEDSINCE 4) +FLAGS (a)", b"2"),
            (b"UID STORE 2:3 (UNCHANGEDSINCE 0) +FLAGS (b)", b"2:3"),
            (b"UID STORE 3,2 (UNCHANGEDSINCE 0) +FLAGS.SILENT (b)", b"2:3"),
            (b"STORE 1,2 (UNCHANGEDSINCE 0) +FLAGS.SILENT (b)", b"1:2"),
        ):
            last = (await client.cmd(command))[-1]
            assert last == b"OK [MODIFIED %b] Store completed" % modified, command


async def test_storing_what_is_there_already_is_no_change(world: World) -> None:
    async with world.session() as client, world.session() as other:
        await client.ok(b"STORE 1 +FLAGS.SILENT (\\Seen kw)")
        await other.ok(b"NOOP")
        assert await client.ok(b"STORE 1 +FLAGS (\\seen KW)") == [b"* 1 FETCH (FLAGS (\\Seen kw))"]
        assert await client.ok(b"STORE 1 -FLAGS (\\Draft none)") == [
            b"* 1 FETCH (FLAGS (\\Seen kw))"
        ]
        assert await other.ok(b"NOOP") == []


async def test_removing_keywords_is_never_over_the_limit(world: World) -> None:
    async with world.session() as client:
        many = b" ".join(b"k%d" % number for number in range(128))
        await client.ok(b"STORE 1 +FLAGS.SILENT (%b)" % many)
        await client.ok(b"STORE 1 -FLAGS.SILENT (%b)" % (b"x" * 65))
        await client.ok(b"STORE 2 +FLAGS.SILENT (K3)")
        assert (await client.cmd(b"STORE 2 FLAGS (new)"))[-1].startswith(b"NO [LIMIT] ")
        assert await client.ok(b"FETCH 2 FLAGS") == [b"* 2 FETCH (FLAGS (k3))"]


async def test_messages_expunged_elsewhere_are_left_alone(world: World) -> None:
    async with world.session() as client, world.session() as other:
        await other.ok(b"UID STORE 2 +FLAGS.SILENT (\\Deleted)")
        await other.ok(b"EXPUNGE")
        lines = await client.ok(b"STORE 1:3 +FLAGS (\\Seen)")
        assert lines == [b"* 1 FETCH (FLAGS (\\Seen))", b"* 3 FETCH (FLAGS (\\Seen))"]


async def test_foreign_flags_are_told_without_uid_in_a_uid_command(world: World) -> None:
    async with world.session() as client, world.session() as other:
        await other.ok(b"UID STORE 1 +FLAGS (\\Seen)")
        assert await client.ok(b"UID STORE 2 +FLAGS (\\Flagged)") == [
            b"* 2 FETCH (UID 2 FLAGS (\\Flagged))",
            b"* 1 FETCH (FLAGS (\\Seen))",
        ]


async def test_expunge_is_never_told_by_store(world: World) -> None:
    async with world.session() as client, world.session() as other:
        await other.ok(b"UID STORE 1 +FLAGS (\\Deleted)")
        await other.ok(b"EXPUNGE")
        assert await client.ok(b"STORE 2 +FLAGS (\\Seen)") == [b"* 2 FETCH (FLAGS (\\Seen))"]
        assert await client.ok(b"NOOP") == [b"* 1 EXPUNGE"]


async def test_expunge_tells_descending_numbers(world: World) -> None:
    async with world.session() as client:
        await client.ok(b"UID STORE 1,3 +FLAGS.SILENT (\\Deleted)")
        assert await client.ok(b"EXPUNGE") == [b"* 3 EXPUNGE", b"* 1 EXPUNGE"]


async def test_uid_expunge_takes_only_the_named(world: World) -> None:
    async with world.session() as client:
        await client.ok(b"UID STORE 1:3 +FLAGS.SILENT (\\Deleted)")
        assert await client.ok(b"UID EXPUNGE 2") == [b"* 2 EXPUNGE"]
        assert await client.ok(b"UID EXPUNGE 77") == []
        await client.ok(b"ENABLE CONDSTORE")
        *lines, last = await client.cmd(b"EXPUNGE")
        assert lines == [b"* 2 EXPUNGE", b"* 1 EXPUNGE"]
        assert last == b"OK [HIGHESTMODSEQ 7] Expunge completed"


async def test_copy_and_move_name_their_uids(world: World) -> None:
    async with world.session() as client:
        await client.ok(b"CREATE a")
        await client.ok(b"UID STORE 3 +FLAGS.SILENT (\\Seen)")
        assert (await client.cmd(b"COPY 1:2 a"))[-1] == (
            b"OK [COPYUID 1767225600 1:2 1:2] Copy completed"
        )
        assert await client.cmd(b"UID MOVE 1,3 a") == [
            b"* OK [COPYUID 1767225600 1,3 3:4] Moved",
            b"* 3 EXPUNGE",
            b"* 1 EXPUNGE",
            b"OK Move completed",
        ]
        await client.select(b"a")
        lines = await client.ok(b"UID FETCH 4 (FLAGS INTERNALDATE)")
        assert lines == [
            b'* 4 FETCH (UID 4 FLAGS (\\Seen) INTERNALDATE " 1-Jan-2026 00:00:00 +0000")'
        ]


@pytest.mark.parametrize("command", [b"UID MOVE 1 x", b"UID COPY 1 x"])
async def test_a_missing_target_changes_nothing(world: World, command: bytes) -> None:
    async with world.session() as client:
        assert (await client.cmd(command))[-1].startswith(b"NO [TRYCREATE] ")
        assert len(await client.ok(b"UID FETCH 1:* UID")) == 3


@pytest.mark.parametrize(
    "command", [b"UID COPY 77 INBOX", b"UID MOVE 77 nowhere", b"UID COPY 77 nowhere"]
)
async def test_nothing_to_copy_is_ok_without_a_code(world: World, command: bytes) -> None:
    async with world.session() as client:
        reply = await client.cmd(command)
        assert len(reply) == 1
        assert reply[0].startswith(b"OK ")
        assert b"[" not in reply[0]


async def test_moving_within_the_mailbox_gives_new_uids(world: World) -> None:
    async with world.session() as client:
        assert await client.cmd(b"UID MOVE 1 INBOX") == [
            b"* OK [COPYUID 1700000000 1 4] Moved",
            b"* 1 EXPUNGE",
            b"* 3 EXISTS",
            b"OK Move completed",
        ]


async def test_a_copy_over_quota_is_refused() -> None:
    limits = LimitSettings(max_mailbox_bytes=len(MESSAGE) + 10)
    world = World(attrs.evolve(SETTINGS, limits=limits))
    world.deliver()
    async with world.session() as client:
        assert (await client.cmd(b"UID COPY 1 INBOX"))[-1].startswith(b"NO [OVERQUOTA] ")
        await client.ok(b"CREATE a")
        await client.ok(b"UID MOVE 1 a")


async def test_close_expunges_for_the_others_too(world: World) -> None:
    async with world.session() as client, world.session() as other:
        await other.ok(b"UID STORE 2 +FLAGS.SILENT (\\Deleted)")
        await other.ok(b"CLOSE")
        assert await client.ok(b"NOOP") == [b"* 2 EXPUNGE"]
