"""Deleting accounts, and mailboxes too large for one transaction.

The first transaction takes the account and the rows of its mailboxes away: from then on nobody
finds them, and the address is free, barred or waiting for its owner. Messages of large mailboxes
stay behind under the name of a mailbox that is gone (table `departing`), and go in pieces; so does
what the account had on its way to other relays (`is_doomed`). A crash leaves pieces; the next drain
goes on with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from sqlalchemy import Connection, select

from chatmail.adapters.storage.federation.queue_jobs import RemoveDoomedJob, remove_doomed
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.notices import account_changed
from chatmail.adapters.storage.reader import Reader
from chatmail.adapters.storage.schema import departing
from chatmail.adapters.storage.tokens import TokenCache
from chatmail.adapters.storage.transaction import StoredMessage, Transaction
from chatmail.adapters.storage.writer import Job, Touches, Writer
from chatmail.domain.model.account import AccountId, day_of
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.mailbox import MailboxId
from chatmail.domain.model.outbound import OutboundMessageId
from chatmail.domain.ports.retention import MAX_DELETIONS

LAST_DELETED_VALIDITY: Final = "last_deleted_uid_validity"
PAGE: Final = 100


class DeleteAccountJob(Job):
    """Take an account away; what is small goes at once, the rest departs."""

    __slots__ = (
        "_account",
        "_barred_for",
        "_key_of",
        "_tokens",
        "_unless_used_since_s",
        "_unsent",
        "_until_s",
        "departing",
        "is_deleted",
        "leaves_mail",
    )

    def __init__(
        self,
        account: AccountId,
        until_s: int | None,
        key_of: Callable[[EmailAddress], bytes],
        tokens: TokenCache,
        *,
        barred_for: str | None,
        unless_used_since_s: int | None,
    ) -> None:
        self._account = account
        self._until_s = until_s
        self._key_of = key_of
        self._tokens = tokens
        self._barred_for = barred_for
        self._unless_used_since_s = unless_used_since_s
        self._unsent: list[OutboundMessageId] = []
        self.is_deleted = False
        self.departing: list[MailboxId] = []
        self.leaves_mail = False

    @property
    def touches(self) -> Touches:
        """Return what it changes."""
        return Touches(households=(self._account,))

    def plan(self, tx: Transaction) -> None:
        """Remove all rows that name the account."""
        self.departing = []
        row = tx.sql.account.one(self._account)
        self.is_deleted = False
        if row is None or self._was_used(row.last_login_day):
            return
        self.is_deleted = True
        for head in tx.heads_of(self._account).values():
            if tx.drop_mailbox(head):
                self.departing.append(head.id)
        tx.sql.remove_tokens.run(self._account)
        tx.sql.remove_reports_of.run(row.address)
        self._remove_unsent(tx, row.address)
        tx.sql.remove_account.run(self._account)
        # A later account of this address must not show a UIDVALIDITY a client has seen.
        tx.sql.raise_fact.run(LAST_DELETED_VALIDITY, row.last_uid_validity)
        tx.tell(account_changed(self._account))
        self._settle_address(tx, row.address, row.secret)

    def _remove_unsent(self, tx: Transaction, address: str) -> None:
        """Forget what is on its way to other relays: nothing of it is sent from here on."""
        tx.flush()
        self._unsent, self.leaves_mail = [], False
        if tx.sql.outbound.doom.run(address).rowcount:
            self._unsent, is_all = remove_doomed(tx)
            self.leaves_mail = not is_all

    def _was_used(self, last_login_day: int | None) -> bool:
        since_s = self._unless_used_since_s
        return since_s is not None and last_login_day is not None and last_login_day >= since_s

    def _settle_address(self, tx: Transaction, address: str, secret: str) -> None:
        """Say who may have the address next."""
        if self._barred_for is not None:
            tx.sql.unbar.run(address)
            tx.sql.bar.run(address, self._barred_for, day_of(tx.now_s))
        if self._until_s is not None:
            key = self._key_of(EmailAddress.parse(address))
            tx.sql.save_tombstone.run(key, secret, self._until_s)

    def publish(self, index: StoreIndex) -> None:
        """Forget the account."""
        if self.is_deleted:
            index.account_count -= 1
            index.drop_record(self._account)
            index.queued.discard(self._unsent)
            self._tokens.forget(self._account)


class _Drain(Job):
    """Remove the next messages of a mailbox that is gone, then its journal, then its name."""

    __slots__ = ("_mailbox", "is_done")

    def __init__(self, mailbox: MailboxId) -> None:
        self._mailbox = mailbox
        self.is_done = False

    def plan(self, tx: Transaction) -> None:
        """Remove one piece."""
        self.is_done = not tx.claim_departing(self._mailbox)
        if self.is_done:
            return
        tx.flush()
        rows = tx.sql.retention.some_messages.all(self._mailbox, MAX_DELETIONS)
        if rows:
            messages = [StoredMessage(row) for row in rows]
            tx.sql.remove_messages.run_many([(self._mailbox, one.uid) for one in messages])
            tx.release(messages)
            return
        journal = tx.sql.retention.some_expunged.all(self._mailbox, MAX_DELETIONS)
        if journal:
            tx.sql.forget_expunged.run(self._mailbox, journal[-1][0])
            return
        tx.sql.retention.remove_departing.run(self._mailbox)
        self.is_done = True


async def drain_queue(writer: Writer) -> None:
    """Remove what deleted accounts left in the queue; raises as `drain` does."""
    while not (await writer.do(RemoveDoomedJob())).is_done:
        pass


async def drain(writer: Writer, mailboxes: Iterable[MailboxId]) -> None:
    """Remove what mailboxes that are gone left behind, in pieces between which others get a turn.

    Raises:  TransientFailure: the rest is removed by a later drain.
    """
    for mailbox in mailboxes:
        while not (await writer.do(_Drain(mailbox))).is_done:
            pass


async def drain_all(writer: Writer, reader: Reader) -> None:
    """Finish every deletion that was begun. Raises:  TransientFailure."""
    while found := await reader.query(_departing):
        await drain(writer, found)
    await drain_queue(writer)


def _departing(connection: Connection) -> list[MailboxId]:
    query = select(departing.c.mailbox).order_by(departing.c.mailbox).limit(PAGE)
    return [MailboxId(row[0]) for row in connection.execute(query)]
