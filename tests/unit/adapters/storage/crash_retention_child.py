"""The process that is killed while it removes, compacts and deletes; says what is promised.

python -m tests.unit.adapters.storage.crash_retention_child DIR STEP COUNT
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from chatmail.adapters.storage import compaction
from chatmail.adapters.storage.store import StoreOptions
from chatmail.domain.model.retention import MessageRule
from tests.unit.adapters.storage.faults import DyingDatabase, DyingFiles
from tests.unit.ports.world import NOW_S, Stores, sqlite_stores

ROUNDS = 40
COPIES = 1100


def say(*words: object) -> None:
    print(*words, flush=True)


async def work(stores: Stores, files: DyingFiles) -> None:
    ann, bob = await stores.account("ann"), await stores.account("bob")
    for number in range(ROUNDS):
        # Every fifth is young and has to survive everything.
        date_s = NOW_S if number % 5 == 0 else 1
        content = b"message %d\r\n" % number + b"x" * 300
        (receipt,) = await stores.deliver(ann.inbox, content=content, date_s=date_s)
        assert receipt is not None
        if date_s == NOW_S:
            say("kept", receipt.uid, number)
    await stores.deliver(bob.inbox, content=b"of bob\r\n")
    while (held := (await stores.mail.info(bob.id, "INBOX")).messages) < COPIES:
        await stores.mail.copy(bob.inbox, range(1, held + 1), bob.id, "INBOX", limit_bytes=None)
    say("ready")
    files.is_armed = True
    for before_s in (2, NOW_S):
        await stores.retention.prune(MessageRule(before_s=before_s))
        await stores.store.upkeep.vacuum()
    say("deleting")
    await stores.accounts.delete(bob.id, NOW_S + 100)
    say("deleted")
    await stores.store.upkeep.vacuum()


class ArmedFiles(DyingFiles):
    """Counts only once it is armed."""

    is_armed = False

    def at(self, step: str) -> None:
        if self.is_armed:
            super().at(step)


async def main() -> None:
    state_dir, step, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    files = ArmedFiles(step, count)
    compaction.PAUSE_S = 0.0
    compaction.PIECE_RECORDS = 2

    def new_database(path: Path) -> DyingDatabase:
        database = DyingDatabase(path)
        database.files = files
        return database

    options = StoreOptions(files=files, new_database=new_database, segment_limit_bytes=4000)
    async with sqlite_stores(state_dir, options) as stores:
        await work(stores, files)
    say("finished")


if __name__ == "__main__":
    trio.run(main)
