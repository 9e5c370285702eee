"""Taking a state directory, opening what was left there, and what is reported."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sqlalchemy import inspect

from chatmail.adapters.storage import recovery
from chatmail.adapters.storage.database import SqliteDatabase
from chatmail.adapters.storage.errors import (
    StateDirectoryInUse,
    StoreFailed,
    UnsupportedDatabase,
)
from chatmail.adapters.storage.migrations.forward import STEPS
from chatmail.adapters.storage.schema import metadata
from chatmail.adapters.storage.store import open_store
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.mailbox import MailboxInfo
from chatmail.domain.ports.mailstore import FlagOperation
from tests.unit.adapters.storage.conftest import Opener
from tests.unit.adapters.storage.invariants import check_index_equals_database
from tests.unit.fakes.mailstate import MemoryHints
from tests.unit.ports.world import HEADER, NOW_S, ListLog, StillClock, make_report

DELETED = frozenset({"\\Deleted"})


async def test_everything_is_there_after_a_restart(opener: Opener) -> None:
    async with opener() as stores:
        account = await stores.account()
        await stores.deliver(account.inbox, flags=frozenset({"$Work"}))
        await stores.deliver(account.inbox, reports=(make_report(),))
        await stores.mail.create(account.id, "Other", "\\Archive", NOW_S)
        await stores.mail.move(account.inbox, [1], account.id, "Other")
        await stores.tokens.add(account.id, "token", NOW_S)
        await stores.accounts.bar(account.address, "reason", NOW_S)
        account = await stores.accounts.get(account.address)
        before = await stores.mail.list(account.id)
    async with opener() as stores:
        assert await stores.accounts.get(account.address) == account
        assert await stores.mail.list(account.id) == before
        assert await stores.accounts.count() == 1
        assert await stores.tokens.of(account.id, NOW_S) == ["token"]
        assert await stores.accounts.is_barred(account.address)
        assert await stores.queue.next_due_s() == NOW_S + 2
        opened = await stores.mail.open(account.id, "Other")
        assert opened.entry(1).flags == {"$Work"}
        assert list(opened.keywords()) == ["$Work"]
        entry = opened.entry(1)
        assert await stores.mail.read(entry, 0, entry.size) == HEADER + b"hello\r\n"
        await check_index_equals_database(stores)


async def test_uidnext_and_modseq_survive_an_empty_mailbox_and_a_restart(opener: Opener) -> None:
    async with opener() as stores:
        account = await stores.account()
        for _ in range(5):
            await stores.deliver(account.inbox, flags=DELETED)
        await stores.mail.expunge(account.inbox, None)
        before = await stores.mail.info(account.id, "INBOX")
        assert before.uid_next == 6
    async with opener() as stores:
        after = await stores.mail.info(account.id, "INBOX")
        assert after == before
        opened = await stores.mail.open(account.id, "INBOX")
        changes = await opened.changes_since(1, 1)
        assert list(changes.expunged) == [1, 2, 3, 4, 5]


async def test_a_recreated_address_shows_a_larger_uid_validity(opener: Opener) -> None:
    async with opener() as stores:
        account = await stores.account()
        first = await stores.mail.info(account.id, "INBOX")
        await stores.accounts.delete(account.id, None)
    async with opener() as stores:
        account = await stores.account()
        second = await stores.mail.info(account.id, "INBOX")
        assert second.uid_validity > first.uid_validity


async def test_a_process_never_appends_to_a_segment_of_another(
    opener: Opener, tmp_path: Path
) -> None:
    for _ in range(3):
        async with opener() as stores:
            await stores.deliver((await stores.account()).inbox)
    names = sorted(path.name for path in (tmp_path / "mail").iterdir())
    assert names == ["00000001.seg", "00000002.seg", "00000003.seg"]


async def test_a_torn_tail_is_ignored(opener: Opener, tmp_path: Path) -> None:
    async with opener() as stores:
        account = await stores.account()
        await stores.deliver(account.inbox)
    with (tmp_path / "mail" / "00000001.seg").open("ab") as segment:
        segment.write(b"CMsg torn record")
    async with opener() as stores:
        assert stores.log.events == []
        await stores.deliver(account.inbox)
        opened = await stores.mail.open(account.id, "INBOX")
        for uid in (1, 2):
            entry = opened.entry(uid)
            assert await stores.mail.read(entry, 0, entry.size) == HEADER + b"hello\r\n"


@pytest.mark.parametrize("damage", ["missing", "short"])
async def test_rows_without_content_are_reported_and_listed(
    opener: Opener, tmp_path: Path, damage: str
) -> None:
    async with opener() as stores:
        account = await stores.account()
        await stores.deliver(account.inbox)
    path = tmp_path / "mail" / "00000001.seg"
    if damage == "missing":
        path.unlink()
    else:
        os.truncate(path, path.stat().st_size - 1)
    async with opener() as stores:
        assert stores.log.events == ["content_missing"]
        opened = await stores.mail.open(account.id, "INBOX")
        entry = opened.entry(1)
        with pytest.raises(TransientFailure):
            await stores.mail.read(entry, 0, entry.size)


async def test_the_spool_is_emptied(opener: Opener, tmp_path: Path) -> None:
    async with opener():
        pass
    (tmp_path / "spool" / "00000001.part").write_bytes(b"left")
    async with opener():
        assert list((tmp_path / "spool").iterdir()) == []


async def test_leases_return_at_start(opener: Opener) -> None:
    async with opener() as stores:
        account = await stores.account()
        await stores.deliver(account.inbox, reports=(make_report(due_s=NOW_S),))
        await stores.queue.claim(NOW_S, 10, 10_000)
    async with opener() as stores:
        (entry,) = await stores.queue.claim(NOW_S + 1, 10, 10)
        assert entry.attempts == 1


async def test_one_process_owns_the_state_directory(opener: Opener, tmp_path: Path) -> None:
    async with opener():
        with pytest.raises(StateDirectoryInUse):
            async with open_store(tmp_path, "sqlite", MemoryHints(), StillClock(), ListLog()):
                pass
    async with opener():
        pass


def modes_below(directory: Path) -> dict[str, int]:
    return {
        str(path.relative_to(directory)): path.stat().st_mode & 0o777
        for path in directory.rglob("*")
    }


async def test_files_and_directories_are_for_the_owner_only(opener: Opener, tmp_path: Path) -> None:
    async with opener() as stores:
        await stores.deliver((await stores.account()).inbox)
        modes = modes_below(tmp_path)
    directories = {"mail", "spool", "secrets"}
    assert {modes[name] for name in directories} == {0o700}
    assert {mode for name, mode in modes.items() if name not in directories} == {0o600}
    assert {"chatmail.db", "chatmail.db-wal", "lock", "secrets/server.key"} <= set(modes)


async def test_other_databases_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedDatabase):
        async with open_store(tmp_path, "mysql://x", MemoryHints(), StillClock(), ListLog()):
            pass


async def test_the_server_key_is_made_once(tmp_path: Path) -> None:
    key = recovery.server_key(tmp_path)
    assert len(key) == 32
    assert recovery.server_key(tmp_path) == key


def test_migrations_lead_to_the_tables_of_the_schema(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "db")
    database.open()
    found = inspect(database.writer)
    for table in metadata.sorted_tables:
        columns = {column["name"]: column["nullable"] for column in found.get_columns(table.name)}
        assert columns == {column.name: column.nullable for column in table.columns}, table.name
        indexes = {index["name"] for index in found.get_indexes(table.name)}
        assert {index.name for index in table.indexes} <= indexes
        keys = found.get_pk_constraint(table.name)["constrained_columns"]
        assert keys == [column.name for column in table.primary_key.columns]
    assert set(found.get_table_names()) == {table.name for table in metadata.sorted_tables}
    database.close()


def test_opening_again_migrates_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        database = SqliteDatabase(tmp_path / "db")
        database.open()
        versions = database.writer.exec_driver_sql("SELECT version FROM schema_version").scalars()
        assert list(versions) == [step.VERSION for step in STEPS]
        database.close()


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "db")
    database.open()
    database.begin()
    database.writer.exec_driver_sql("INSERT INTO schema_version VALUES (999)")
    database.commit()
    database.close()
    database = SqliteDatabase(tmp_path / "db")
    with pytest.raises(UnsupportedDatabase):
        database.open()
    database.close()


def test_a_file_that_is_no_database_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"no database" * 1000)
    database = SqliteDatabase(tmp_path / "db")
    with pytest.raises(StoreFailed):
        database.open()
    database.close()


async def test_at_most_100_mailboxes(opener: Opener) -> None:
    async with opener() as stores:
        account = await stores.account()
        made = [
            await stores.mail.create(account.id, f"box {number}", None, NOW_S)
            for number in range(100)
        ]
        assert all(isinstance(one, MailboxInfo) for one in made[:99])
        assert made[99].name == "LIMIT"


async def test_flags_on_an_unloaded_mailbox(opener: Opener) -> None:
    async with opener() as stores:
        account = await stores.account()
        await stores.deliver(account.inbox)
    async with opener() as stores:
        await stores.mail.set_flags(account.inbox, [1], FlagOperation.ADD, DELETED)
        assert list((await stores.mail.expunge(account.inbox, None)).expunged) == [1]
