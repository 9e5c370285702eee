"""An INBOX with some messages in it."""

from __future__ import annotations

from chatmail.domain.ports.mailstore import OpenMailbox
from tests.unit.ports.world import HEADER, Stores

SEEN = frozenset({"\\Seen"})
DELETED = frozenset({"\\Deleted"})
SIZE = len(HEADER) + len(b"hello\r\n")


def uids_of(mailbox: OpenMailbox) -> list[int]:
    uids, count = mailbox.uids()
    return list(uids[:count])


async def inbox_with(stores: Stores, messages: int) -> OpenMailbox:
    account = await stores.account()
    for _ in range(messages):
        await stores.deliver(account.inbox)
    mailbox = await stores.mail.open(account.id, "INBOX")
    assert mailbox is not None
    return mailbox
