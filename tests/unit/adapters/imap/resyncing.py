"""Sessions with QRESYNC, in a mailbox with some messages."""

from __future__ import annotations

from contextlib import asynccontextmanager

from tests.unit.adapters.imap.world import World


@asynccontextmanager
async def resyncing(world: World, select: bytes = b"SELECT INBOX"):  # type: ignore[no-untyped-def]
    async with world.connect() as client:
        await client.login()
        assert await client.ok(b"ENABLE QRESYNC") == [b"* ENABLED QRESYNC"]
        if select:
            await client.ok(select)
        yield client


def filled(count: int = 5) -> World:
    world = World()
    for _ in range(count):
        world.deliver()
    return world
