"""UIDVALIDITY after an older database was put back (spec mail 5.3)."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatmail.adapters.storage import recovery
from chatmail.adapters.storage.errors import StateDirectoryInUse
from chatmail.adapters.storage.restored import SILENT_S, renew_uid_validity
from chatmail.domain.model.account import Account
from tests.unit.adapters.storage.postgresql.conftest import Database, write_beside
from tests.unit.adapters.storage.postgresql.conftest import database as database
from tests.unit.ports.world import NOW_S, Stores, sqlite_stores

LATER_S = NOW_S + 86400


async def validities(stores: Stores, account: Account) -> dict[str, int]:
    names = ("INBOX", "Other")
    return {name: (await stores.mail.info(account.id, name)).uid_validity for name in names}


async def fill(stores: Stores, *names: str) -> dict[str, dict[str, int]]:
    found = {}
    for name in names:
        account = await stores.account(name)
        await stores.mail.create(account.id, "Other", None, NOW_S)
        await stores.deliver(account.inbox)
        found[name] = await validities(stores, account)
    return found


async def check_renewed(stores: Stores, before: dict[str, dict[str, int]], now_s: int) -> None:
    for name, old in before.items():
        account = await stores.account(name)
        new = await validities(stores, account)
        assert min(new.values()) > max(old.values())
        assert min(new.values()) >= now_s
        assert len(set(new.values())) == len(new)  # one may be renamed to the other's name
        assert (
            await stores.mail.info(account.id, "INBOX")
        ).uid_next == 2  # the mail is still there
        await stores.mail.create(account.id, "New", None, NOW_S)
        made = await stores.mail.info(account.id, "New")
        assert made.uid_validity > max(new.values())


@pytest.mark.parametrize("now_s", [LATER_S, 5], ids=["later", "clock set back"])
async def test_every_mailbox_gets_one_its_account_never_had(tmp_path: Path, now_s: int) -> None:
    async with sqlite_stores(tmp_path) as stores:
        before = await fill(stores, "ann", "bob", "cid")
        gone = before.pop("cid")
        await stores.accounts.delete((await stores.account("cid")).id, None)
    assert renew_uid_validity(tmp_path, "sqlite", now_s) == 4
    async with sqlite_stores(tmp_path) as stores:
        await check_renewed(stores, before, now_s)
        back = await stores.account("cid")
        assert (await stores.mail.info(back.id, "INBOX")).uid_validity > max(gone.values())


async def test_a_running_server_is_left_alone(tmp_path: Path) -> None:
    async with sqlite_stores(tmp_path) as stores:
        before = await fill(stores, "ann")
    with recovery.locked(tmp_path), pytest.raises(StateDirectoryInUse):
        renew_uid_validity(tmp_path, "sqlite", LATER_S)
    async with sqlite_stores(tmp_path) as stores:
        assert await validities(stores, await stores.account("ann")) == before["ann"]


async def test_on_postgresql_no_process_may_use_the_database(
    database: Database, tmp_path: Path
) -> None:
    async with database.store() as stores:
        before = await fill(stores, "ann", "bob")
        with pytest.raises(StateDirectoryInUse, match="less than 60 s ago"):
            renew_uid_validity(tmp_path / "of another", database.url, LATER_S)
        assert await validities(stores, await stores.account("ann")) == before["ann"]
    async with database.store() as stores:
        write_beside(stores, "UPDATE writers SET seen_s = seen_s - %s", SILENT_S + 5)
        assert renew_uid_validity(tmp_path / "of another", database.url, LATER_S) == 4
    async with database.store() as stores:
        await check_renewed(stores, before, LATER_S)
