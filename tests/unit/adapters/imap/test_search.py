"""SEARCH at the face: what is read, how results are told."""

from __future__ import annotations

import pytest

from chatmail.adapters.imap import search
from tests.unit.adapters.imap.world import MESSAGE, World


@pytest.fixture
def world() -> World:
    world = World()
    world.deliver(MESSAGE, "\\Seen")
    world.deliver(MESSAGE.replace(b"hello", b"Goodbye " * 20_000))
    world.deliver(MESSAGE.replace(b"ann@", b"zoe@"), "\\Flagged", "kw")
    return world


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (b"ALL", b" 1 2 3"),
        (b"CHARSET US-ASCII ALL", b" 1 2 3"),
        (b"CHARSET UTF-8 UNSEEN", b" 2 3"),
        (b"FROM zoe", b" 3"),
        (b'HEADER Message-ID "<m1@relay.test>"', b" 1 2 3"),
        (b"BODY goodbye", b" 2"),
        (b"TEXT zoe@relay", b" 3"),
        (b"NOT BODY hello", b" 2"),
        (b"OR FROM zoe SEEN", b" 1 3"),
        (b"LARGER 1000", b" 2"),
        (b"(KEYWORD kw FLAGGED)", b" 3"),
        (b"UID 2:*", b" 2 3"),
        (b"1:2 UNSEEN", b" 2"),
        (b"SINCE 1-Jan-2026 BEFORE 2-Jan-2026", b" 1 2 3"),
        (b"SENTON 1-Jan-2026", b" 1 2 3"),
        (b"YOUNGER 100", b" 1 2 3"),
        (b"OLDER 100", b""),
        (b"SUBJECT nowhere", b""),
    ],
)
async def test_keys(world: World, query: bytes, found: bytes) -> None:
    async with world.session() as client:
        assert await client.ok(b"UID SEARCH " + query) == [b"* SEARCH" + found]
        assert await client.ok(b"SEARCH " + query) == [b"* SEARCH" + found]


async def test_numbers_and_uids_differ_after_an_expunge(world: World) -> None:
    async with world.session() as client:
        await client.ok(b"UID STORE 1 +FLAGS.SILENT (\\Deleted)")
        await client.ok(b"EXPUNGE")
        assert await client.ok(b"SEARCH ALL") == [b"* SEARCH 1 2"]
        assert await client.ok(b"UID SEARCH ALL") == [b"* SEARCH 2 3"]


async def test_entries_alone_read_nothing(world: World) -> None:
    async with world.session() as client:
        world.store.reads = 0
        await client.ok(b"SEARCH SEEN LARGER 10 TEXT hello")
        assert world.store.reads <= 2
        world.store.reads = 0
        await client.ok(b"SEARCH FLAGGED")
        assert world.store.reads == 0


async def test_extended_results(world: World) -> None:
    async with world.session() as client:
        assert await client.ok(b"UID SEARCH RETURN (MIN MAX COUNT ALL) UNSEEN") == [
            b'* ESEARCH (TAG "A0003") UID MIN 2 MAX 3 ALL 2:3 COUNT 2'
        ]
        assert await client.ok(b"SEARCH RETURN () DELETED") == [b'* ESEARCH (TAG "A0004")']
        assert await client.ok(b"SEARCH RETURN (COUNT) DELETED") == [
            b'* ESEARCH (TAG "A0005") COUNT 0'
        ]
        assert (await client.cmd(b"SEARCH RETURN (SAVE) ALL"))[-1].startswith(b"BAD ")


async def test_modseq_search_tells_the_highest(world: World) -> None:
    async with world.session() as client:
        assert await client.ok(b"SEARCH MODSEQ 3") == [b"* SEARCH 2 3 (MODSEQ 4)"]
        assert await client.ok(b"SEARCH RETURN (MIN) MODSEQ 3") == [
            b'* ESEARCH (TAG "A0004") MIN 2 MODSEQ 3'
        ]


async def test_bad_charset_and_bad_numbers(world: World) -> None:
    async with world.session() as client:
        reply = await client.cmd(b"SEARCH CHARSET KOI8-R ALL")
        assert reply[-1].startswith(b"NO [BADCHARSET (US-ASCII UTF-8)]")
        assert (await client.cmd(b"SEARCH NOT 9"))[-1] == b"BAD Invalid message number"
        assert (await client.cmd(b"SEARCH OR 9 SEEN"))[-1] == b"BAD Invalid message number"


async def test_content_that_may_be_read_is_bounded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MAX_READ_OCTETS", 1000)
    async with world.session() as client:
        assert await client.ok(b"SEARCH BODY o") == [b"* SEARCH 1 3"]


async def test_a_message_expunged_while_it_is_read_does_not_match(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = world.state.by_id(world.inbox)
    read = world.store.read

    async def racing(entry, offset, length):  # type: ignore[no-untyped-def]
        if entry.uid == 2 and 2 in box.entries:
            entry.blob.is_damaged = True
            box.modseq += 1
            box.remove([2])
        return await read(entry, offset, length)

    monkeypatch.setattr(world.store, "read", racing)
    async with world.session() as client:
        assert await client.ok(b"SEARCH TEXT relay") == [b"* SEARCH 1 3"]
