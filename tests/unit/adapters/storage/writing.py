"""Batches and jobs for the writer: what was stored of them, and some that fail."""

from __future__ import annotations

from chatmail.adapters.storage.transaction import Transaction
from chatmail.adapters.storage.writer import Job
from chatmail.domain.model.mailbox import MailboxId
from chatmail.domain.model.message import Body
from chatmail.domain.ports.intake import Delivery, IntakeBatch
from tests.unit.ports.world import NOW_S, Stores

MiB = 1024 * 1024


async def stored(stores: Stores, name: str = "ann") -> int:
    account = await stores.account(name)
    info = await stores.mail.info(account.id, "INBOX")
    assert info is not None
    return info.messages


def batch_of(body: Body, mailbox: MailboxId) -> IntakeBatch:
    return IntakeBatch(body=body, internal_date_s=NOW_S, deliveries=(Delivery(mailbox),))


class Poison(Job):
    __slots__ = ()

    def plan(self, tx: Transaction) -> None:
        tx.sql.bar.run("a@relay.test", None, 1)  # NOT NULL


class Surrogate(Job):
    __slots__ = ()

    def plan(self, tx: Transaction) -> None:
        tx.sql.bar.run("\ud800", "text", 2**70)
