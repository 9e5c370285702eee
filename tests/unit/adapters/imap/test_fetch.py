"""FETCH: sections, batches, streams, seen marks, trouble."""

from __future__ import annotations

import pytest
import trio

from chatmail.adapters.imap import fetch
from chatmail.domain.model.mailbox import MailboxEntry
from tests.unit.adapters.imap.world import MESSAGE, World
from tests.unit.domain.formats.test_mime_structure import NESTED

LARGE = b"From: a@b\r\nSubject: x\r\n\r\n" + b"0123456789abcde\n" * 40_000


async def test_ranges_have_no_cap_and_lines_ascend() -> None:
    world = World()
    for _ in range(1200):
        world.deliver()
    async with world.session() as client:
        for asked, count in ((b"1:500", 500), (b"1001:1500", 200), (b"1:*", 1200)):
            lines = await client.ok(b"UID FETCH %b (UID RFC822.SIZE)" % asked)
            assert len(lines) == count
            uids = [int(line.split()[4]) for line in lines]
            assert uids == sorted(uids)
            assert [int(line.split()[1]) for line in lines] == uids


async def test_prefetch_of_500_headers_uses_batches() -> None:
    world = World()
    for _ in range(500):
        world.deliver()
    async with world.session() as client:
        world.store.reads = 0
        lines = await client.ok(
            b"UID FETCH 1:500 (UID RFC822.SIZE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID FROM)])"
        )
        assert len(lines) == 500
        assert world.store.reads <= 8


@pytest.mark.parametrize(
    ("asked", "uids"),
    [
        (b"5:*", [3]),
        (b"4:9", []),
        (b"9:*", [3]),
        (b"3:1", [1, 2, 3]),
        (b"2,1,2,1:2", [1, 2]),
        (b"*", [3]),
        (b"4294967295", []),
    ],
)
async def test_uid_sets(asked: bytes, uids: list[int]) -> None:
    world = World()
    for _ in range(3):
        world.deliver()
    async with world.session() as client:
        lines = await client.ok(b"UID FETCH %b UID" % asked)
        assert [int(line.split()[4].rstrip(b")")) for line in lines] == uids


async def test_a_message_number_too_high_is_bad_but_not_in_an_empty_mailbox() -> None:
    world = World()
    async with world.session() as client:
        assert await client.ok(b"FETCH 1:* FLAGS") == []
        world.deliver()
        await client.ok(b"NOOP")
        assert (await client.cmd(b"FETCH 2 FLAGS"))[-1] == b"BAD Invalid message number"


async def test_peek_leaves_and_body_sets_the_seen_mark() -> None:
    world = World()
    world.deliver()
    async with world.session() as client, world.session() as other:
        (line,) = await client.ok(b"UID FETCH 1 (FLAGS BODY.PEEK[])")
        assert line.startswith(b"* 1 FETCH (UID 1 FLAGS () BODY[] {")
        (line,) = await client.ok(b"UID FETCH 1 (BODY[TEXT])")
        assert line == b"* 1 FETCH (UID 1 FLAGS (\\Seen) BODY[TEXT] {7}\r\nhello\r\n)"
        (line,) = await client.ok(b"UID FETCH 1 (BODY[TEXT])")
        assert b"FLAGS" not in line
        assert await client.ok(b"NOOP") == []  # the own change is no news
        assert await other.ok(b"NOOP") == [b"* 1 FETCH (UID 1 FLAGS (\\Seen))"]


@pytest.mark.parametrize(
    ("item", "label", "octets"),
    [
        (b"BODY.PEEK[]", b"BODY[]", MESSAGE),
        (b"RFC822", b"RFC822", MESSAGE),
        (b"RFC822.HEADER", b"RFC822.HEADER", MESSAGE[:-7]),
        (b"RFC822.TEXT", b"RFC822.TEXT", b"hello\r\n"),
        (b"BODY.PEEK[HEADER]", b"BODY[HEADER]", MESSAGE[:-7]),
        (b"BODY.PEEK[TEXT]", b"BODY[TEXT]", b"hello\r\n"),
        (b"BODY.PEEK[1]", b"BODY[1]", b"hello\r\n"),
        (b"BODY.PEEK[]<0.4>", b"BODY[]<0>", b"From"),
        (b"BODY.PEEK[TEXT]<2.100>", b"BODY[TEXT]<2>", b"llo\r\n"),
        (b"BODY.PEEK[]<9999.5>", b"BODY[]<9999>", b""),
        (b"BODY.PEEK[header.fields (to FROM)]", b"BODY[HEADER.FIELDS (to FROM)]", None),
        (b"BODY.PEEK[HEADER.FIELDS (X-None)]", b"BODY[HEADER.FIELDS (X-None)]", b"\r\n"),
        (
            b"BODY.PEEK[HEADER.FIELDS.NOT (FROM TO SUBJECT DATE CHAT-VERSION)]",
            b"BODY[HEADER.FIELDS.NOT (FROM TO SUBJECT DATE CHAT-VERSION)]",
            b"Message-ID: <m1@relay.test>\r\n\r\n",
        ),
    ],
)
async def test_sections(item: bytes, label: bytes, octets: bytes | None) -> None:
    if octets is None:
        octets = b"From: ann@relay.test\r\nTo: bob@relay.test\r\n\r\n"
    world = World()
    world.deliver(MESSAGE, "\\Seen")
    async with world.session() as client:
        assert await client.ok(b"FETCH 1 " + item) == [
            b"* 1 FETCH (%b {%d}\r\n%b)" % (label, len(octets), octets)
        ]


async def test_parts_of_a_nested_message() -> None:
    world = World()
    world.deliver(NESTED, "\\Seen")
    async with world.session() as client:
        assert await client.ok(b"FETCH 1 (BODY[2.1] BODY[2.2.MIME] BODY[9] BODY[1]<1.2>)") == [
            b"* 1 FETCH (BODY[2.1] {4}\r\nx\r\ny BODY[2.2.MIME] {31}\r\n"
            b"Content-Type: text/calendar\r\n\r\n BODY[9] NIL BODY[1]<1> {2}\r\nel)"
        ]
        (line,) = await client.ok(b"FETCH 1 (ENVELOPE BODY BODYSTRUCTURE UID)")
        assert line.startswith(b"* 1 FETCH (ENVELOPE (NIL NIL ((NIL NIL ")
        assert line.endswith(b" UID 1)")


async def test_macros() -> None:
    world = World()
    world.deliver()
    async with world.session() as client:
        (line,) = await client.ok(b"FETCH 1 FAST")
        assert line == (
            b'* 1 FETCH (FLAGS () INTERNALDATE " 1-Jan-2026 00:00:00 +0000" RFC822.SIZE %d)'
            % len(MESSAGE)
        )
        (line,) = await client.ok(b"FETCH 1 FULL")
        assert b" ENVELOPE (" in line
        assert b" BODY (" in line


async def test_a_large_body_streams_in_bounded_pieces() -> None:
    world = World()
    world.deliver(LARGE)
    world.deliver()
    async with world.session() as client:
        client.server.writes.clear()
        lines = await client.ok(b"UID FETCH 1:2 (FLAGS RFC822.SIZE BODY.PEEK[])")
        head = b"* 1 FETCH (UID 1 FLAGS () RFC822.SIZE %d BODY[] {%d}\r\n" % (
            len(LARGE),
            len(LARGE),
        )
        assert lines[0] == head + LARGE + b")"
        assert lines[1].startswith(b"* 2 FETCH ")
        assert max(map(len, client.server.writes)) <= 256 * 1024
        assert min(map(len, client.server.writes[:-1])) >= 64 * 1024


async def test_rfc822_size_is_the_length_of_the_body() -> None:
    world = World()
    world.deliver(LARGE)
    async with world.session() as client:
        (line,) = await client.ok(b"FETCH 1 RFC822.SIZE")
        assert line == b"* 1 FETCH (RFC822.SIZE %d)" % len(LARGE)


async def test_a_damaged_body_ends_the_connection_and_is_there_after_repair() -> None:
    world = World()
    world.deliver()
    entry = world.state.by_id(world.inbox).entries[1]
    entry.blob.is_damaged = True
    async with world.session() as client:
        await client.send(b"a UID FETCH 1 BODY.PEEK[]\r\n")
        assert (await client.line()).startswith(b"* BYE [UNAVAILABLE] ")
        assert await client.line() == b""
    entry.blob.is_damaged = False
    async with world.session() as client:
        assert len(await client.ok(b"UID FETCH 1 BODY.PEEK[]")) == 1


async def test_trouble_inside_a_literal_says_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.deliver(LARGE)
    entry = world.state.by_id(world.inbox).entries[1]
    read = world.store.read

    async def breaking(entry: MailboxEntry, offset: int, length: int) -> bytes:
        entry.blob.is_damaged = offset > 0
        return await read(entry, offset, length)

    monkeypatch.setattr(world.store, "read", breaking)
    async with world.session() as client:
        await client.send(b"a UID FETCH 1 BODY.PEEK[]\r\n")
        with pytest.raises(EOFError):
            await client.line()
        assert b"BYE" not in client._buffer
        assert len(client._buffer) >= fetch.PIECE_OCTETS
    assert entry.blob.is_damaged


async def test_a_message_expunged_meanwhile_is_left_out() -> None:
    world = World()
    for _ in range(3):
        world.deliver()
    box = world.state.by_id(world.inbox)
    async with world.session() as client:
        gone = box.entries[2]
        box.modseq += 1
        box.remove([2])
        gone.blob.is_damaged = True
        lines = await client.ok(b"UID FETCH 1:* (UID BODY.PEEK[])")
        assert [line.split()[1] for line in lines] == [b"1", b"3"]  # numbers did not move
        assert await client.ok(b"NOOP") == [b"* 2 EXPUNGE"]


async def test_a_message_whose_octets_went_while_the_batch_was_read_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    for _ in range(3):
        world.deliver()
    box = world.state.by_id(world.inbox)
    read_many = world.store.read_many

    async def racing(wanted):  # type: ignore[no-untyped-def]
        if 2 in box.entries:
            box.entries[2].blob.is_damaged = True
            box.modseq += 1
            box.remove([2])
        return await read_many(wanted)

    monkeypatch.setattr(world.store, "read_many", racing)
    async with world.session() as client:
        lines = await client.ok(b"UID FETCH 1:* (UID BODY.PEEK[])")
        assert [line.split()[1] for line in lines] == [b"1", b"3"]


async def test_a_large_message_whose_octets_went_before_its_line_began_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    world.deliver()
    world.deliver(MESSAGE + b"x" * 200_000 + b"\r\n")
    box = world.state.by_id(world.inbox)
    read = world.store.read

    async def racing(entry, offset, length):  # type: ignore[no-untyped-def]
        if 2 in box.entries:
            entry.blob.is_damaged = True
            box.modseq += 1
            box.remove([2])
        return await read(entry, offset, length)

    monkeypatch.setattr(world.store, "read", racing)
    async with world.session() as client:
        lines = await client.ok(b"UID FETCH 1:* (UID BODY.PEEK[])")
        assert [line.split()[1] for line in lines] == [b"1"]


async def test_no_foreign_flags_inside_uid_fetch() -> None:
    world = World()
    world.deliver()
    world.deliver()
    async with world.session() as client, world.session() as other:
        await other.ok(b"UID STORE 1 +FLAGS (\\Seen)")
        lines = await client.ok(b"UID FETCH 2 (UID RFC822.SIZE)")
        assert lines == [b"* 2 FETCH (UID 2 RFC822.SIZE %d)" % len(MESSAGE)]
        assert await client.ok(b"NOOP") == [b"* 1 FETCH (UID 1 FLAGS (\\Seen))"]


async def test_new_mail_may_be_told_by_fetch() -> None:
    world = World()
    world.deliver()
    async with world.session() as client:
        world.deliver()
        assert await client.ok(b"UID FETCH 1:* UID") == [b"* 1 FETCH (UID 1)", b"* 2 EXISTS"]
        assert await client.ok(b"UID FETCH 2:* UID") == [b"* 2 FETCH (UID 2)"]


async def test_modseq_item_and_vanished_modifier() -> None:
    world = World()
    world.deliver()
    async with world.session() as client:
        assert await client.ok(b"FETCH 1 (UID MODSEQ)") == [b"* 1 FETCH (UID 1 MODSEQ (2))"]
        reply = await client.cmd(b"UID FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED)")
        assert reply[-1].startswith(b"BAD ")


async def test_a_slow_reader_is_not_cut_off_by_the_inactivity_limit(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    world.deliver(LARGE)
    async with world.session() as client:
        send_all = client.server.send_all

        async def slow(data: bytes) -> None:
            await trio.sleep(900)
            await send_all(data)

        monkeypatch.setattr(client.server, "send_all", slow)
        (line,) = await client.ok(b"UID FETCH 1 BODY.PEEK[]")
        assert line.endswith(LARGE + b")")


ODD_HEADER = (
    b"From: a@b\r\nReceived: one\r\n two\r\nX-Empty:\r\nreceived : three\r\nTo: x\r\n\ty\r\n"
)
ODD = ODD_HEADER + b"\r\nbody"


@pytest.mark.parametrize(
    ("item", "label", "octets"),
    [
        (
            b"BODY.PEEK[HEADER.FIELDS (RECEIVED)]",
            b"BODY[HEADER.FIELDS (RECEIVED)]",
            b"Received: one\r\n two\r\nreceived : three\r\n\r\n",
        ),
        (
            b'BODY.PEEK[HEADER.FIELDS ("x-empty" to)]',
            b"BODY[HEADER.FIELDS (x-empty to)]",
            b"X-Empty:\r\nTo: x\r\n\ty\r\n\r\n",
        ),
        (
            b"BODY.PEEK[HEADER.FIELDS.NOT (received X-EMPTY)]",
            b"BODY[HEADER.FIELDS.NOT (received X-EMPTY)]",
            b"From: a@b\r\nTo: x\r\n\ty\r\n\r\n",
        ),
        (
            b"BODY.PEEK[HEADER.FIELDS (To)]<3.4>",
            b"BODY[HEADER.FIELDS (To)]<3>",
            b" x\r\n",
        ),
        (
            b"BODY.PEEK[HEADER.FIELDS (X-Receive)]",
            b"BODY[HEADER.FIELDS (X-Receive)]",
            b"\r\n",
        ),
        (b"BODY.PEEK[1]<1.2>", b"BODY[1]<1>", b"od"),
        (b"BODY.PEEK[1.MIME]", b"BODY[1.MIME]", ODD[:-4]),
        (b"BODY.PEEK[TEXT]<4.1>", b"BODY[TEXT]<4>", b""),
    ],
)
async def test_odd_headers_and_pieces(item: bytes, label: bytes, octets: bytes) -> None:
    world = World()
    world.deliver(ODD)
    async with world.session() as client:
        assert await client.ok(b"FETCH 1 " + item) == [
            b"* 1 FETCH (%b {%d}\r\n%b)" % (label, len(octets), octets)
        ]


async def test_a_part_that_is_not_there_is_nil_and_sets_no_mark_under_peek() -> None:
    world = World()
    world.deliver(ODD)
    async with world.session() as client:
        assert await client.ok(b"FETCH 1 (BODY.PEEK[2] BODY.PEEK[1.HEADER] FLAGS)") == [
            b"* 1 FETCH (FLAGS () BODY[2] NIL BODY[1.HEADER] NIL)"
        ]


async def test_only_the_structures_that_were_asked_for_are_made() -> None:
    world = World()
    world.deliver(NESTED)
    async with world.session() as client:
        (line,) = await client.ok(b"FETCH 1 BODY")
        assert line.startswith(b"* 1 FETCH (BODY ((")
        assert b"BODYSTRUCTURE" not in line
        (line,) = await client.ok(b"FETCH 1 BODYSTRUCTURE")
        assert line.startswith(b"* 1 FETCH (BODYSTRUCTURE ((")
