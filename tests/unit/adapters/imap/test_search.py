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
    monkeypatch.setattr(search, "MAX_WORK", 1000)
    async with world.session() as client:
        assert await client.ok(b"SEARCH BODY o SEEN") == [b"* SEARCH 1"]
        # Half an answer would pass for a whole one.
        assert (await client.cmd(b"SEARCH RETURN (SAVE) BODY o"))[-1].startswith(b"NO [LIMIT] ")
        assert await client.ok(b"SEARCH $") == [b"* SEARCH"]
        for _ in range(3):  # each search has its own measure
            assert await client.ok(b"SEARCH FROM zoe") == [b"* SEARCH 3"]


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


# --- RFC 5182: the result is kept -----------------------------------------------------------------


async def test_a_saved_result_stands_for_its_messages_in_every_set(world: World) -> None:
    async with world.session() as client:
        await client.ok(b"CREATE other")
        assert await client.ok(b"SEARCH RETURN (SAVE) UNSEEN") == []
        assert await client.ok(b"UID FETCH $ UID") == [
            b"* 2 FETCH (UID 2)",
            b"* 3 FETCH (UID 3)",
        ]
        assert await client.ok(b"FETCH $ UID") == [b"* 2 FETCH (UID 2)", b"* 3 FETCH (UID 3)"]
        assert await client.ok(b"SEARCH UID $ FLAGGED") == [b"* SEARCH 3"]
        assert await client.ok(b"SEARCH NOT $") == [b"* SEARCH 1"]
        assert len(await client.ok(b"STORE $ +FLAGS (\\Draft)")) == 2
        assert (await client.cmd(b"COPY $ other"))[-1].startswith(b"OK [COPYUID")
        await client.ok(b"STORE 1:3 +FLAGS.SILENT (\\Deleted)")
        assert await client.ok(b"UID EXPUNGE $") == [b"* 3 EXPUNGE", b"* 2 EXPUNGE"]
        assert await client.ok(b"FETCH $ UID") == []


async def test_a_saved_result_loses_what_is_expunged_and_gains_nothing(world: World) -> None:
    async with world.session() as client:
        await client.ok(b"SEARCH RETURN (SAVE) ALL")
        await client.ok(b"STORE 1 +FLAGS.SILENT (\\Deleted)")
        await client.ok(b"EXPUNGE")
        world.deliver()
        await client.ok(b"NOOP")
        assert await client.ok(b"FETCH $ UID") == [b"* 1 FETCH (UID 2)", b"* 2 FETCH (UID 3)"]
        assert (await client.cmd(b"MOVE $ INBOX"))[-1].startswith(b"OK ")
        assert await client.ok(b"FETCH $ UID") == []


@pytest.mark.parametrize(
    ("options", "told", "kept"),
    [
        (b"SAVE MIN", [b"MIN 1"], b" 1"),
        (b"MAX SAVE", [b"MAX 3"], b" 3"),
        (b"SAVE MIN MAX", [b"MIN 1 MAX 3"], b" 1 3"),
        (b"SAVE MIN COUNT", [b"MIN 1 COUNT 3"], b" 1 2 3"),
        (b"SAVE ALL MIN", [b"MIN 1 ALL 1:3"], b" 1 2 3"),
        (b"SAVE", [], b" 1 2 3"),
    ],
)
async def test_min_and_max_alone_save_only_those(
    world: World, options: bytes, told: list[bytes], kept: bytes
) -> None:
    async with world.session() as client:
        lines = await client.ok(b"SEARCH RETURN (%b) ALL" % options)
        assert lines == [b'* ESEARCH (TAG "A0003") ' + items for items in told]
        assert await client.ok(b"SEARCH $") == [b"* SEARCH" + kept]


async def test_select_forgets_the_saved_result(world: World) -> None:
    async with world.session() as client:
        await client.ok(b"SEARCH RETURN (SAVE) ALL")
        await client.select()
        assert await client.ok(b"FETCH $ UID") == []
        assert (await client.cmd(b"COPY $ nowhere"))[-1] == b"OK Copy completed"


async def test_what_becomes_of_the_saved_result_when_a_search_fails(world: World) -> None:
    async with world.session() as client:
        await client.ok(b"SEARCH RETURN (SAVE) SEEN")
        await client.cmd(b"SEARCH RETURN (SAVE) NONSENSE")
        await client.cmd(b"SEARCH RETURN (SAVE) 99")
        assert await client.ok(b"SEARCH $") == [b"* SEARCH 1"]  # BAD leaves it
        assert (await client.cmd(b"SEARCH CHARSET KOI8-R TEXT x"))[-1].startswith(b"NO ")
        assert await client.ok(b"SEARCH $") == [b"* SEARCH 1"]  # it did not ask for SAVE
        await client.cmd(b"SEARCH RETURN (SAVE) CHARSET KOI8-R TEXT x")
        assert await client.ok(b"SEARCH $") == [b"* SEARCH"]  # NO empties it
        await client.ok(b"SEARCH RETURN (SAVE) SEEN")
        world.state.fail = 1
        assert (await client.cmd(b"SEARCH RETURN (SAVE) TEXT x"))[-1].startswith(b"NO ")
        assert await client.ok(b"SEARCH $") == [b"* SEARCH"]


# --- text as a person reads it --------------------------------------------------------------------

LETTER = b"""\
From: =?utf-8?b?SsO8cmdlbg==?= <j@relay.test>\r
Subject: =?iso-8859-1?Q?Gr=FC=DFe?= aus\r
 =?utf-8?q?K=C3=B6ln?=\r
Content-Type: multipart/mixed; boundary=b\r
\r
--b\r
Content-Type: text/plain; charset=koi8-r\r
Content-Transfer-Encoding: base64\r
\r
8NLJ18XU\r
--b\r
Content-Type: text/html; charset=utf-8\r
Content-Transfer-Encoding: quoted-printable\r
\r
<p>caf=C3=A9 au =\r
lait</p>\r
--b\r
Content-Type: image/png; name=x\r
Content-Transfer-Encoding: base64\r
\r
cGljdHVyZQ==\r
--b--\r
"""


def grown(letter: bytes) -> bytes:
    """The same letter, too long to be read at once."""
    return letter.replace(b"--b--", b"--b\r\n\r\n" + b"x " * 100_000 + b"\r\n--b--")


@pytest.mark.parametrize("letter", [LETTER, grown(LETTER)], ids=["short", "long"])
@pytest.mark.parametrize(
    ("query", "is_found"),
    [
        ("SUBJECT Grüße", True),
        ("SUBJECT GRÜSSE", True),
        ("SUBJECT köln", True),
        ("FROM jürgen", True),
        ("HEADER Subject aus", True),
        ('HEADER Subject ""', True),
        ('HEADER Nothing ""', False),
        ("BODY привет", True),
        ("BODY ПРИВЕТ", True),
        ("TEXT привет", True),
        ('BODY "café au lait"', True),
        ('BODY "image/png"', True),
        ("BODY 8NLJ18XU", False),
        ("BODY picture", False),
        ("BODY cGljdHVyZQ", False),
        ("BODY Köln", False),
        ("TEXT Köln", True),
        ("NOT BODY привет", False),
    ],
)
async def test_decoded_text(letter: bytes, query: str, is_found: bool) -> None:
    world = World()
    world.deliver(letter)
    command, _, text = query.rpartition(" ") if '"' not in query else query.partition('"')
    octets = text.rstrip('"').encode()
    async with world.session() as client:
        asked = b"SEARCH CHARSET UTF-8 %b {%d+}\r\n%b"
        lines = await client.ok(asked % (command.strip().encode(), len(octets), octets))
        assert lines == [b"* SEARCH" + b" 1" * is_found]


@pytest.mark.parametrize("size", [10, 300_000])
async def test_what_cannot_hold_the_text_is_not_taken_apart(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """An encrypted message costs a fiftieth of what reading it would."""
    world = World()
    letter = MESSAGE.replace(b"Chat-Version", b"Content-Type: multipart/mixed; boundary=b\r\nX")
    world.deliver(letter + b"--b\r\n\r\n" + b"armor " * (size // 6) + b"\r\n--b--\r\n")
    taken_apart = 0
    probe = search.ContentProbe

    class CountingProbe(probe):  # type: ignore[misc, valid-type]
        def header(self, block: bytes) -> None:
            nonlocal taken_apart
            taken_apart += 1
            super().header(block)

    monkeypatch.setattr(search, "ContentProbe", CountingProbe)
    async with world.session() as client:
        assert await client.ok(b'SEARCH OR BODY "nowhere at all" TEXT "nor here"') == [b"* SEARCH"]
        assert not taken_apart
        assert await client.ok(b"SEARCH BODY armor") == [b"* SEARCH 1"]
        assert await client.ok(b"SEARCH NOT BODY nowhere FROM ann") == [b"* SEARCH 1"]
        assert taken_apart == 2


async def test_headers_are_read_in_batches() -> None:
    world = World()
    for _ in range(300):
        world.deliver()
    async with world.session() as client:
        world.store.reads = 0
        (line,) = await client.ok(b"SEARCH FROM ann")
        assert len(line.split()) == 302
        assert world.store.reads <= 10


async def test_matches_ascend_although_some_are_read_later() -> None:
    world = World()
    world.deliver(MESSAGE)
    world.deliver(MESSAGE, "\\Seen")
    world.deliver(MESSAGE)
    async with world.session() as client:
        assert await client.ok(b"SEARCH OR SEEN FROM ann") == [b"* SEARCH 1 2 3"]


async def test_a_header_that_went_while_its_batch_was_read_does_not_match(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = world.state.by_id(world.inbox)
    read = world.store.read_many

    async def racing(wanted):  # type: ignore[no-untyped-def]
        if 2 in box.entries:
            box.entries[2].blob.is_damaged = True
            box.modseq += 1
            box.remove([2])
        return await read(wanted)

    monkeypatch.setattr(world.store, "read_many", racing)
    async with world.session() as client:
        assert await client.ok(b"SEARCH TO bob") == [b"* SEARCH 1 3"]


async def test_a_header_that_cannot_be_read_is_a_temporary_no(world: World) -> None:
    async with world.session() as client:
        world.state.fail = 1
        assert (await client.cmd(b"SEARCH TO bob"))[-1].startswith(b"NO [UNAVAILABLE] ")
        assert await client.ok(b"SEARCH TO bob") == [b"* SEARCH 1 2 3"]
