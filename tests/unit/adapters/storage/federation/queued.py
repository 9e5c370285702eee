"""Queued mail, read back whole, and statements past the store."""

from __future__ import annotations

from sqlalchemy import Connection, text

from chatmail.domain.model.outbound import OutboundMessageId, QueueFilter, SettlementKind
from tests.unit.ports.world import NOW_S, Stores, settled_as

EVERYTHING = QueueFilter()
DELETED = frozenset({"\\Deleted"})
FIRST = OutboundMessageId(1)
CONTENT = b"secret text\r\n"


def execute(stores: Stores, statement: str) -> None:
    connection = stores.store._writer._committer._database.writer
    connection.exec_driver_sql(statement).close()


async def deliver_all(stores: Stores) -> None:
    """Let a peer take everything there is."""
    for backlog in await stores.outbound.backlogs():
        while claimed := await stores.outbound.claim(backlog.domain, NOW_S + 99, 60, 100):
            ends = ((entry, SettlementKind.DELIVERED) for entry in claimed)
            await stores.outbound.settle(settled_as(*ends))


async def whole(stores: Stores, number: int = 1) -> bytes:
    return await stores.outbound.read(OutboundMessageId(number), 0, 1_000_000)


async def count(stores: Stores, table: str) -> int:
    def query(connection: Connection) -> int:
        return connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() or 0

    return await stores.store.upkeep._reader.query(query)
