"""What ENABLE UTF8=ACCEPT and ENABLE IMAP4rev2 change at the face."""

from __future__ import annotations

import pytest

from tests.unit.adapters.imap.world import MESSAGE, World

UTF8 = "Grüße/日本"
UTF7 = b"Gr&APwA3w-e/&ZeVnLA-"
MODES = ("UTF8=ACCEPT", "IMAP4rev2")


def quoted(name: str) -> bytes:
    return b'"%b"' % name.encode()


@pytest.mark.parametrize("mode", MODES)
async def test_names_are_utf8_for_who_enabled_it_and_utf7_for_others(mode: str) -> None:
    world = World()
    async with world.connect() as client, world.session() as plain:
        await client.login()
        assert await client.ok(b"ENABLE " + mode.lower().encode()) == [
            b"* ENABLED " + mode.encode()
        ]
        name = quoted(UTF8)
        await client.ok(b"CREATE " + name)
        assert b'"/" ' + name in b"".join(await client.ok(b'LIST "" "*"'))
        assert await client.ok(b"STATUS " + name + b" (MESSAGES)") == [
            b"* STATUS " + name + b" (MESSAGES 0)"
        ]
        await client.ok(b"SELECT " + name)
        assert (await client.ok(b"GETQUOTAROOT " + name))[0].startswith(b"* QUOTAROOT " + name)
        assert b'"/" "%b"' % UTF7 in b"".join(await plain.ok(b'LIST "" "*"'))
        assert await plain.ok(b'STATUS "%b" (MESSAGES)' % UTF7) == [
            b'* STATUS "%b" (MESSAGES 0)' % UTF7
        ]
        # Nothing is shifted any more: this is another name.
        assert (await client.cmd(b'STATUS "%b" (MESSAGES)' % UTF7))[-1].startswith(
            b"NO [NONEXISTENT]"
        )
        await client.ok(b'CREATE "a&b"')
        assert b'"a&-b"' in b"".join(await plain.ok(b'LIST "" "a*"'))


@pytest.mark.parametrize("mode", MODES)
async def test_octets_that_are_not_utf8_are_bad(mode: str) -> None:
    async with World().connect() as client:
        await client.login()
        await client.ok(b"ENABLE " + mode.encode())
        for raw in (b'CREATE "a\xff"', b'CREATE "\xc3"', b'ID ("x" "\xff")', b'CREATE "\x01"'):
            assert (await client.cmd(raw))[-1].startswith(b"BAD ")


async def test_8_bit_names_are_bad_without_enable() -> None:
    async with World().connect() as client:
        await client.login()
        assert (await client.cmd(b"CREATE " + quoted(UTF8)))[-1].startswith(b"BAD ")


async def test_names_that_need_a_literal_get_one() -> None:
    world = World()
    world.state.add_mailbox(world.account.id, 'a"ü', None, 1)
    async with world.connect() as client:
        await client.login()
        await client.ok(b"ENABLE UTF8=ACCEPT")
        [line] = await client.ok(b'LIST "" "a%"')
        assert line.endswith(b'"/" {4}\r\na"\xc3\xbc')


async def test_search_takes_no_charset_once_utf8_is_accepted() -> None:
    async with World().session() as client:
        await client.ok(b"SEARCH CHARSET UTF-8 ALL")
        await client.ok(b"ENABLE IMAP4rev2")
        await client.ok(b"SEARCH CHARSET UTF-8 ALL")
        await client.ok(b"ENABLE UTF8=ACCEPT")
        assert (await client.cmd(b"SEARCH CHARSET UTF-8 ALL"))[-1].startswith(b"BAD ")


# --- IMAP4rev2 --------------------------------------------------------------------------------


async def test_select_tells_list_and_neither_recent_nor_unseen() -> None:
    world = World()
    world.deliver()
    async with world.connect() as client:
        await client.login()
        await client.ok(b"ENABLE IMAP4rev2")
        lines = await client.cmd(b"SELECT inbox")
        assert [line for line in lines if b"MAILBOXID" not in line] == [
            b"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)",
            b"* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft \\*)] "
            b"Flags permitted.",
            b"* 1 EXISTS",
            b"* OK [UIDVALIDITY 1700000000] UIDs valid",
            b"* OK [UIDNEXT 2] Predicted next UID",
            b"* OK [HIGHESTMODSEQ 2] Highest",
            b'* LIST (\\HasNoChildren \\Subscribed) "/" "INBOX"',
            b"OK [READ-WRITE] Select completed",
        ]
        again = await client.cmd(b"EXAMINE INBOX")
        assert again[0] == b"* OK [CLOSED] Previous mailbox is closed"


async def test_search_answers_by_esearch() -> None:
    world = World()
    for _ in range(3):
        world.deliver(MESSAGE)
    async with world.session() as client:
        assert await client.ok(b"UID SEARCH 1:3") == [b"* SEARCH 1 2 3"]
        await client.ok(b"ENABLE IMAP4rev2")
        assert await client.ok(b"UID SEARCH 1:3") == [b'* ESEARCH (TAG "A0005") UID ALL 1:3']
        assert await client.ok(b"SEARCH SEEN") == [b'* ESEARCH (TAG "A0006")']
        assert await client.ok(b"SEARCH RETURN (COUNT) ALL") == [b'* ESEARCH (TAG "A0007") COUNT 3']


async def test_unsolicited_flags_name_the_uid() -> None:
    world = World()
    world.deliver()
    async with world.session() as client, world.session() as other:
        await client.ok(b"ENABLE IMAP4rev2")
        await other.ok(b"STORE 1 +FLAGS.SILENT (\\Seen)")
        assert await client.ok(b"STORE 1 +FLAGS.SILENT (\\Answered)") == []
        await other.ok(b"STORE 1 +FLAGS.SILENT (\\Flagged)")
        assert await client.ok(b"COPY 1 INBOX") == [
            b"* 2 EXISTS",
            b"* 1 FETCH (UID 1 FLAGS (\\Answered \\Flagged \\Seen))",
        ]


async def test_names_that_only_exist_as_parents_are_nonexistent() -> None:
    async with World().connect() as client:
        await client.login()
        await client.ok(b"CREATE a/b")
        assert await client.ok(b'LIST "" a') == [b'* LIST (\\Noselect \\HasChildren) "/" "a"']
        await client.ok(b"ENABLE IMAP4rev2")
        assert await client.ok(b'LIST "" a') == [
            b'* LIST (\\Noselect \\NonExistent \\HasChildren) "/" "a"'
        ]


async def test_status_tells_deleted_and_size() -> None:
    world = World()
    world.deliver(MESSAGE, "\\Deleted")
    async with world.connect() as client:
        await client.login()
        await client.ok(b"ENABLE IMAP4rev2")
        assert await client.ok(b"STATUS INBOX (DELETED SIZE)") == [
            b'* STATUS "INBOX" (DELETED 1 SIZE %d)' % len(MESSAGE)
        ]


async def test_nothing_changes_for_who_enables_nothing() -> None:
    world = World()
    world.deliver()
    async with world.connect() as other, world.session() as client:
        await other.login()
        await other.ok(b"ENABLE IMAP4rev2 UTF8=ACCEPT QRESYNC")
        told = await client.select()
        assert b"* 0 RECENT" in told
        assert b"* OK [UNSEEN 1] First unseen." in told
        assert not [line for line in told if b"LIST" in line or b"CLOSED" in line]
        assert await client.ok(b"SEARCH ALL") == [b"* SEARCH 1"]


async def test_append_takes_the_utf8_form_once_it_is_enabled() -> None:
    """RFC 6855 §4."""
    world = World()
    told = b"INBOX (\\Seen) UTF8 (~{%d+}\r\n%b)" % (len(MESSAGE), MESSAGE)
    async with world.session() as client:
        assert (await client.cmd(b"APPEND " + told))[-1].startswith(b"BAD ")
        await client.ok(b"ENABLE UTF8=ACCEPT")
        assert (await client.cmd(b"APPEND " + told))[-1].startswith(b"OK [APPENDUID ")
        assert (await client.cmd(b"APPEND " + told[:-1]))[-1] == b"BAD Expected )"
        assert (await client.cmd(b"APPEND " + told + b")"))[-1].startswith(b"BAD ")
        assert await client.ok(b"FETCH 1:* (FLAGS RFC822.SIZE)") == [
            b"* 1 FETCH (FLAGS (\\Seen) RFC822.SIZE %d)" % len(MESSAGE)
        ]
        plain = b"INBOX {%d+}\r\n%b" % (len(MESSAGE), MESSAGE)
        assert (await client.cmd(b"APPEND " + plain))[-1].startswith(b"OK [APPENDUID ")
