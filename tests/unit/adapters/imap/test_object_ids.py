"""OBJECTID (RFC 8474): ids of mailboxes and messages."""

from __future__ import annotations

import re

import pytest

from tests.unit.adapters.imap.world import Client, World


async def mailbox_id(client: Client, name: bytes) -> bytes:
    (line,) = await client.ok(b"STATUS %b (MAILBOXID)" % name)
    found = re.fullmatch(rb"\* STATUS \"[^\"]+\" \(MAILBOXID \(([A-Za-z0-9_-]+)\)\)", line)
    assert found is not None, line
    return found[1]


async def email_ids(client: Client) -> list[bytes]:
    lines = await client.ok(b"UID FETCH 1:* EMAILID")
    found = [
        re.fullmatch(rb"\* \d+ FETCH \(UID \d+ EMAILID \(([A-Za-z0-9_-]+)\)\)", line)
        for line in lines
    ]
    return [match[1] for match in found if match is not None]


async def test_create_select_and_status_name_the_same_id() -> None:
    async with World().session() as client:
        (created,) = await client.cmd(b"CREATE a")
        name = await mailbox_id(client, b"a")
        assert created == b"OK [MAILBOXID (%b)] Create completed" % name
        for command in (b"SELECT a", b"EXAMINE a"):
            assert b"* OK [MAILBOXID (%b)] Mailbox id" % name in await client.ok(command)
        assert await mailbox_id(client, b"INBOX") != name
        assert b'* STATUS "a" (MAILBOXID (%b))' % name in await client.ok(
            b'LIST "" a RETURN (STATUS (MAILBOXID))'
        )


async def test_rename_keeps_the_id_and_a_new_mailbox_of_that_name_has_another() -> None:
    async with World().session() as client:
        await client.ok(b"CREATE a")
        name = await mailbox_id(client, b"a")
        await client.ok(b"RENAME a b")
        assert await mailbox_id(client, b"b") == name
        await client.ok(b"CREATE a")
        assert await mailbox_id(client, b"a") != name


async def test_a_refused_create_names_no_id() -> None:
    async with World().session() as client:
        await client.ok(b"CREATE a")
        assert (await client.cmd(b"CREATE a"))[-1].startswith(b"NO [ALREADYEXISTS] ")


async def test_copies_have_the_id_of_the_original() -> None:
    world = World()
    world.deliver()
    world.deliver()
    async with world.session() as client:
        await client.ok(b"CREATE a")
        first, second = await email_ids(client)
        assert first != second
        await client.ok(b"COPY 1 a")
        await client.ok(b"MOVE 2 a")
        await client.ok(b"SELECT a")
        assert await email_ids(client) == [first, second]


async def test_there_are_no_threads() -> None:
    world = World()
    world.deliver()
    async with world.session() as client:
        assert await client.ok(b"FETCH 1 (THREADID UID)") == [b"* 1 FETCH (THREADID NIL UID 1)"]
        assert await client.ok(b"SEARCH THREADID T1") == [b"* SEARCH"]
        assert await client.ok(b"SEARCH NOT THREADID T1") == [b"* SEARCH 1"]


async def test_search_by_email_id() -> None:
    world = World()
    world.deliver()
    world.deliver()
    async with world.session() as client:
        _, second = await email_ids(client)
        assert await client.ok(b"UID SEARCH EMAILID " + second) == [b"* SEARCH 2"]
        assert await client.ok(b"SEARCH EMAILID " + second.lower()) == [b"* SEARCH"]
        assert await client.ok(b"SEARCH OR EMAILID nobody SEEN") == [b"* SEARCH"]


@pytest.mark.parametrize("key", [b"EMAILID", b"EMAILID (x)", b'EMAILID "x"', b"THREADID x.y"])
async def test_what_is_no_object_id_is_bad(key: bytes) -> None:
    async with World().session() as client:
        assert (await client.cmd(b"SEARCH " + key))[-1].startswith(b"BAD ")


async def test_ids_come_with_content_too_and_only_when_asked_for() -> None:
    world = World()
    world.deliver()
    async with world.session() as client:
        (line,) = await client.ok(b"FETCH 1 (EMAILID BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
        assert line.startswith(b"* 1 FETCH (EMAILID (M1_")
        (line,) = await client.ok(b"FETCH 1 (EMAILID BODYSTRUCTURE)")
        assert line.startswith(b"* 1 FETCH (EMAILID (M1_")
        (line,) = await client.ok(b"FETCH 1 FULL")
        assert b"EMAILID" not in line
        assert b"THREADID" not in line
