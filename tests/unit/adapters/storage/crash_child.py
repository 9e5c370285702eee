"""The process that is killed: works on a store and says on stdout what was acknowledged.

python -m tests.unit.adapters.storage.crash_child DIR STEP COUNT
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from chatmail.adapters.storage.store import StoreOptions
from chatmail.domain.model.outbound import OutboundMessageId, QueueFilter
from chatmail.domain.ports.intake import Delivery, IntakeBatch
from chatmail.domain.ports.mailstore import FlagOperation
from tests.unit.adapters.storage.faults import DyingDatabase, DyingFiles
from tests.unit.ports.world import HEADER, NOW_S, Stores, make_outbound, sqlite_stores

DELETED = frozenset({"\\Deleted"})


def say(*words: object) -> None:
    print(*words, flush=True)


async def work(stores: Stores) -> None:
    ann, bob = await stores.account("ann"), await stores.account("bob")
    await stores.mail.create(ann.id, "Other", None, NOW_S)
    say("ready")
    for round in range(100):
        content = f"message {round}\r\n".encode() * (round % 7 + 1)
        for receipt in await stores.deliver(ann.inbox, bob.inbox, content=content):
            assert receipt is not None
            say("delivered", receipt.mailbox, receipt.uid, round)
        queued = make_outbound(round + 1, f"user{round}@peer.test", f"eve{round}@peer.test")
        (receipt,) = await stores.deliver(ann.inbox, content=content, outbound=queued)
        say("queued", receipt.mailbox, receipt.uid, round)
        if round % 2:
            say("settling", ann.inbox, 0, round - 1)
            await stores.outbound.remove(QueueFilter(message=OutboundMessageId(round)))
            say("settled", ann.inbox, 0, round - 1)
        if round % 3 == 0:
            async with stores.blobs.spool() as spool:
                await spool.write(b"spooled %d\r\n" % round)
                body = await spool.seal(HEADER)
                deliveries = (Delivery(bob.inbox),)
                batch = IntakeBatch(body=body, internal_date_s=NOW_S, deliveries=deliveries)
                (receipt,) = await stores.intake.commit(batch)
                assert receipt is not None
                say("spooled", receipt.mailbox, receipt.uid, round)
        if round % 4 == 1:
            uid = (await stores.mail.info(ann.id, "INBOX")).uid_next - 1
            say("moving", ann.inbox, uid)
            await stores.mail.move(ann.inbox, [uid], ann.id, "Other")
            say("moved", ann.inbox, uid)
        if round % 5 == 4:
            uid = (await stores.mail.info(bob.id, "INBOX")).uid_next - 1
            say("removing", bob.inbox, uid)
            await stores.mail.set_flags(bob.inbox, [uid], FlagOperation.ADD, DELETED)
            await stores.mail.expunge(bob.inbox, None)
            say("removed", bob.inbox, uid)


async def main() -> None:
    state_dir, step, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    files = DyingFiles(step, count)

    def new_database(path: Path) -> DyingDatabase:
        database = DyingDatabase(path)
        database.files = files
        return database

    options = StoreOptions(
        files=files,
        new_database=new_database,
        segment_limit_bytes=2000,
        journal_batch_octets=int(sys.argv[4]),
    )
    async with sqlite_stores(state_dir, options) as stores:
        await work(stores)
    say("finished")


if __name__ == "__main__":
    trio.run(main)
