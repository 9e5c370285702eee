"""Sessions that asked for events, and somebody else's mailbox of the same account."""

from __future__ import annotations

from contextlib import asynccontextmanager

from chatmail.domain.model.mailbox import MailboxId
from tests.unit.adapters.imap.world import NOW_S, World

SELECTED = b"(SELECTED (MessageNew (UID RFC822.SIZE) MessageExpunge FlagChange))"
DELAYED = b"(SELECTED-DELAYED (MessageNew MessageExpunge FlagChange))"
OTHERS = b"(PERSONAL (MessageNew MessageExpunge MailboxName SubscriptionChange))"


@asynccontextmanager
async def notified(world: World, groups: bytes):  # type: ignore[no-untyped-def]
    async with world.session() as client:
        assert await client.ok(b"NOTIFY SET " + groups) == []
        yield client


def other_mailbox(world: World, name: str = "other") -> MailboxId:
    return world.state.add_mailbox(world.account.id, name, None, NOW_S).id
