"""Parts of messages: spans over header block and body, in few queries; what is kept in memory."""

from __future__ import annotations

import gc
from types import SimpleNamespace

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.adapters.storage.postgresql import contents as contents_module
from chatmail.adapters.storage.postgresql.contents import Part, RecentContents
from chatmail.adapters.storage.segments import Place
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.mailbox import MailboxEntry
from chatmail.domain.model.message import Body
from chatmail.domain.ports.intake import Delivery, IntakeBatch
from tests.unit.adapters.storage.postgresql.conftest import Database
from tests.unit.ports.world import HEADER, NOW_S, Stores


def entry_of(header: int, body: int) -> MailboxEntry:
    return MailboxEntry(1, 1, frozenset(), header + body, header, NOW_S, Place(7, 0, 0))


@given(st.integers(0, 9), st.integers(0, 9), st.integers(-3, 20), st.integers(-3, 20))
def test_a_part_is_a_span_of_header_and_body(
    header: int, body: int, start: int, length: int
) -> None:
    octets = bytes(range(header + body))
    part = Part.of(entry_of(header, body), start, length)
    blob, header_from, in_header, body_from, in_body = part.row()
    assert blob == 7
    assert min(header_from, body_from) >= 1
    assert min(in_header, in_body) >= 0
    head, rest = octets[:header], octets[header:]
    found = head[header_from - 1 :][:in_header] + rest[body_from - 1 :][:in_body]
    first = max(0, start)
    assert found == octets[first : first + max(0, length)]


def test_recent_contents_are_bounded_and_the_oldest_go() -> None:
    recent = RecentContents(max_bytes=100)
    for blob in range(10):
        recent.add(blob, Body(b"h" * 10, (b"b" * 10, b"c" * 10), 20))
    assert len(recent) == 3
    places = [Place(blob, 0, 0) for blob in (6, 7)]
    parts = [
        Part.of(MailboxEntry(1, 1, frozenset(), 30, 10, NOW_S, place), 8, 4) for place in places
    ]
    assert [recent.part(part) for part in parts] == [None, b"hhbb"]


def test_large_messages_are_not_kept() -> None:
    recent = RecentContents()
    recent.add(1, Body(b"", (b"x" * 300_000,), 300_000))
    recent.add(2, Body(b"h", (), 300_000, spooled=SimpleNamespace()))
    assert len(recent) == 0


async def forgotten(stores: Stores) -> None:
    stores.store.mail._recent._known.clear()
    stores.store.mail._recent._bytes = 0


async def test_parts_are_read_from_the_database_in_groups(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents_module, "MAX_QUERY_BYTES", 100)
    async with database.store() as stores:
        account = await stores.account()
        bodies = [bytes([number]) * 60 for number in range(5)]
        for body in bodies:
            await stores.deliver(account.inbox, content=body)
        async with stores.blobs.spool() as spool:
            await spool.write(b"large" * 100_000)
            body = await spool.seal(HEADER)
            await stores.intake.commit(
                IntakeBatch(body=body, internal_date_s=NOW_S, deliveries=(Delivery(account.inbox),))
            )
        await forgotten(stores)
        opened = await stores.mail.open(account.id, "INBOX")
        entries = [opened.entry(uid) for uid in range(1, 7)]
        wanted = [(entry, entry.header_size - 2, 5) for entry in entries] + [(entries[0], 0, 0)]
        found = await stores.mail.read_many(wanted)
        assert found == [b"\r\n" + body[:3] for body in bodies] + [b"\r\nlar", b""]
        whole = await stores.mail.read_many([(entry, 0, entry.size) for entry in entries])
        assert whole == [HEADER + body for body in bodies] + [HEADER + b"large" * 100_000]


async def test_a_row_without_content_is_told_of_and_never_served_short(database: Database) -> None:
    async with database.store() as stores:
        account = await stores.account()
        for _ in range(2):
            await stores.deliver(account.inbox)
        await forgotten(stores)
        # The writer's thread reads on after a commit was answered: its connection is its own.
        with psycopg.connect(database.url, autocommit=True) as link:
            link.execute("DELETE FROM contents WHERE blob = (SELECT min(blob) FROM contents)")
            link.execute("UPDATE contents SET body = 'x'")
        opened = await stores.mail.open(account.id, "INBOX")
        for uid in (1, 2):
            entry = opened.entry(uid)
            with pytest.raises(TransientFailure):
                await stores.mail.read(entry, 0, entry.size)
        assert stores.log.events == ["content_row_missing"] * 2


async def test_a_large_body_is_stored_in_pieces_and_read_across_them(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents_module, "PIECE_BYTES", 1000)
    with psycopg.connect(database.url, autocommit=True) as link:
        await large_body_in_pieces(database, link)


async def large_body_in_pieces(database: Database, link: psycopg.Connection) -> None:
    octets = bytes(number * 7 % 251 for number in range(3500))
    async with database.store() as stores:
        account = await stores.account()
        async with stores.blobs.spool() as spool:
            await spool.write(octets)
            body = await spool.seal(HEADER)
            batch = IntakeBatch(
                body=body, internal_date_s=NOW_S, deliveries=(Delivery(account.inbox),)
            )
            await stores.intake.commit(batch)
        await stores.deliver(account.inbox)
        await forgotten(stores)
        assert list(link.execute("SELECT length(octets) FROM pieces ORDER BY number")) == [
            (1000,),
            (1000,),
            (1000,),
            (500,),
        ]
        opened = await stores.mail.open(account.id, "INBOX")
        entry, small = opened.entry(1), opened.entry(2)
        whole = HEADER + octets
        spans = [(0, len(whole)), (0, 5), (len(HEADER) - 3, 6), (len(HEADER) + 990, 2020)]
        spans += [(len(HEADER) + 1000, 1000), (len(whole) - 5, 99)]
        found = await stores.mail.read_many(
            [(entry, *span) for span in spans] + [(small, 0, small.size)]
        )
        assert found[:-1] == [whole[start : start + length] for start, length in spans]
        assert found[-1] == HEADER + b"hello\r\n"
        link.execute("DELETE FROM pieces WHERE number = 1")
        with pytest.raises(TransientFailure):
            await stores.mail.read(entry, 0, entry.size)
        await stores.accounts.delete(account.id, None)
        opened.close()
        del opened, entry, small
        gc.collect()  # what the exception held on to counts as somebody's hands
        for _ in range(2):
            await stores.store.sweep()
        for table in ("pieces", "contents", "dead_blobs"):
            assert list(link.execute(f"SELECT count(*) FROM {table}")) == [(0,)]
