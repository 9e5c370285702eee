"""SIGKILL during removal, compaction and deletion: what was to stay is there, nothing half gone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from chatmail.domain.model.address import EmailAddress
from tests.unit.adapters.storage.invariants import check_index_equals_database
from tests.unit.adapters.storage.test_crash import contents
from tests.unit.ports.world import HEADER, NOW_S, Stores, sqlite_stores

BOB = EmailAddress.parse("bob@relay.test")
STEPS = [
    ("torn write", 3),
    ("after write", 20),
    ("after sync", 4),
    ("before commit", 4),
    ("after commit", 5),
    ("after commit", 8),
    ("after commit", 15),
    ("before commit", 17),
    ("after commit", 19),
    ("after commit", 22),
]


def run_child(state_dir: Path, step: str, count: int) -> tuple[int, list[list[str]]]:
    command = [sys.executable, "-m", "tests.unit.adapters.storage.crash_retention_child"]
    done = subprocess.run(
        [*command, str(state_dir), step, str(count)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=Path(__file__).parents[4],
    )
    return done.returncode, [line.split() for line in done.stdout.splitlines()]


@pytest.mark.parametrize(("step", "count"), STEPS)
async def test_a_kill_leaves_what_was_to_stay(tmp_path: Path, step: str, count: int) -> None:
    code, said = run_child(tmp_path, step, count)
    assert code == -9, said[-1]
    assert ["ready"] in said
    kept = {int(uid): int(number) for _, uid, number in (one for one in said if one[0] == "kept")}
    async with sqlite_stores(tmp_path) as stores:
        assert stores.log.events == []
        assert await stores.store.recount() == 0
        await check(stores, kept, said)
        await stores.store.upkeep.vacuum()
        await check(stores, kept, said)
        assert await rows(stores, "departing") == 0
    async with sqlite_stores(tmp_path) as stores:
        assert stores.log.events == []
        await stores.store.upkeep.vacuum()
        await check(stores, kept, said)
        number_of_segments = len(list((tmp_path / "mail").iterdir()))
        assert number_of_segments == await rows(stores, "segments")


async def check(stores: Stores, kept: dict[int, int], said: list[list[str]]) -> None:
    ann, bob = await stores.account("ann"), await stores.accounts.get(BOB)
    found = await contents(stores, ann)
    for uid, number in kept.items():
        assert found[uid] == HEADER + b"message %d\r\n" % number + b"x" * 300
    if ["deleted"] in said:
        assert bob is None
    if bob is None:
        tombstone = await stores.accounts.tombstone(BOB, NOW_S)
        assert tombstone is not None
        assert await rows(stores, "messages") >= len(found)
    else:
        # Nothing of it is gone as long as it is there.
        info = await stores.mail.info(bob.id, "INBOX")
        assert len(await contents(stores, bob)) == info.messages
    await check_index_equals_database(stores)


async def rows(stores: Stores, table: str) -> int:
    def count(connection: Connection) -> int:
        return connection.execute(text(f"SELECT count(*) FROM {table}")).scalar()

    return await stores.store.upkeep._reader.query(count)
