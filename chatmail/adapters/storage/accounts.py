"""Accounts, the block list and tombstones.

An account in memory comes with the heads of all its mailboxes, so octets in use are a sum. It is
read between two batches of the writer: what is read is exactly what was published.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Any

import attrs

from chatmail.adapters.storage.departure import (
    LAST_DELETED_VALIDITY,
    DeleteAccountJob,
    drain,
    drain_queue,
)
from chatmail.adapters.storage.head import MailboxHead
from chatmail.adapters.storage.index import AccountRecord, StoreIndex
from chatmail.adapters.storage.names import next_uid_validity
from chatmail.adapters.storage.notices import account_changed
from chatmail.adapters.storage.tokens import TokenCache
from chatmail.adapters.storage.transaction import Transaction
from chatmail.adapters.storage.writer import Job, Touches, Writer
from chatmail.domain.model.account import Account, AccountId, NewAccount
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.mailbox import INBOX, MailboxId
from chatmail.domain.ports.accounts import Tombstone


def account_of(row: Any, address: EmailAddress | None = None) -> Account:
    """Return the account of a row of `accounts`."""
    return Account(
        id=AccountId(row.id),
        address=address or EmailAddress.parse(row.address),
        inbox=MailboxId(row.inbox),
        secret=row.secret,
        is_blocked=bool(row.is_blocked),
        accepts_cleartext=bool(row.accepts_cleartext),
        last_login_day=row.last_login_day,
    )


def _record_of(tx: Transaction, row: Any) -> AccountRecord:
    heads = [MailboxHead.of_row(head) for head in tx.sql.heads_of.all(row.id)]
    return AccountRecord(account_of(row), heads)


class LookUpAccount(Job):
    """Read one account by id."""

    __slots__ = ("_account", "record")

    is_read = True

    def __init__(self, account: AccountId) -> None:
        self._account = account
        self.record: AccountRecord | None = None

    def plan(self, tx: Transaction) -> None:
        """Read it."""
        row = tx.sql.account.one(self._account)
        self.record = None if row is None else _record_of(tx, row)

    def publish(self, index: StoreIndex) -> None:
        """Cache it."""
        if self.record is not None:
            index.put_record(self.record)


class LookUpAddresses(Job):
    """Read accounts by address."""

    __slots__ = ("_addresses", "records")

    is_read = True

    def __init__(self, addresses: Sequence[EmailAddress]) -> None:
        self._addresses = addresses
        self.records: list[AccountRecord] = []

    def plan(self, tx: Transaction) -> None:
        """Read those that exist."""
        rows = [tx.sql.account_at.one(str(address)) for address in self._addresses]
        self.records = [_record_of(tx, row) for row in rows if row is not None]

    def publish(self, index: StoreIndex) -> None:
        """Cache them."""
        for record in self.records:
            index.put_record(record)


class CreateAccount(Job):
    """Create an account with its INBOX unless the address has one."""

    __slots__ = ("_is_new", "_key", "_new", "is_created", "record")

    record: AccountRecord

    def __init__(self, new: NewAccount, key: bytes) -> None:
        self._new = new
        self._key = key
        self.is_created = False

    def plan(self, tx: Transaction) -> None:
        """Create, or find."""
        found = tx.sql.account_at.one(str(self._new.address))
        record = None if found is not None else self._create(tx)
        self.is_created = record is not None
        if record is None:
            # Another process may have been faster since the look, and have removed it since.
            found = found or tx.sql.account_at.one(str(self._new.address))
            if found is None:
                raise TransientFailure("the account came and went")
            record = _found(tx, found)
        self.record = record

    def _create(self, tx: Transaction) -> AccountRecord | None:
        new = self._new
        account, inbox = AccountId(tx.new_id()), MailboxId(tx.new_id())
        floor = tx.sql.fact.one(LAST_DELETED_VALIDITY)
        last = 0 if floor is None else floor[0]
        day = new.first_login_day
        added = tx.sql.add_account.run(
            account,
            str(new.address),
            new.secret,
            inbox,
            0,
            0,
            new.created_s,
            day,
            day,
            last,
            int(new.is_imported),
        )
        if not added.rowcount:
            return None
        tx.sql.remove_tombstone.run(self._key)
        head = MailboxHead.of_new(
            inbox, account, INBOX, next_uid_validity(tx, account, new.created_s), None, True
        )
        tx.sql.add_mailbox.run(*head.row())
        tx.drafts[inbox] = head
        stored = Account(
            id=account,
            address=new.address,
            inbox=inbox,
            secret=new.secret,
            last_login_day=day,
        )
        return AccountRecord(stored, [head])

    def publish(self, index: StoreIndex) -> None:
        """Cache it."""
        if self.is_created:
            index.account_count += 1
            index.put_record(self.record)


def _found(tx: Transaction, row: Any) -> AccountRecord:
    heads = tx.heads_of(row.id)
    return AccountRecord(account_of(row), heads.values())


class _Update(Job):
    """Change facts about an account."""

    __slots__ = ("_account", "_changes")

    def __init__(self, account: AccountId, **changes: Any) -> None:
        self._account = account
        self._changes = changes

    @property
    def touches(self) -> Touches:
        return Touches(accounts=(self._account,))

    def publish(self, index: StoreIndex) -> None:
        record = index.record_of(self._account)
        if record is not None:
            record.update(attrs.evolve(record.stored, **self._changes))


class _SetSecret(_Update):
    __slots__ = ()

    def plan(self, tx: Transaction) -> None:
        tx.sql.save_secret.run(self._changes["secret"], self._account)
        tx.tell(account_changed(self._account))


class _SetBlocked(_Update):
    __slots__ = ()

    def plan(self, tx: Transaction) -> None:
        tx.sql.save_blocked.run(int(self._changes["is_blocked"]), self._account)
        tx.tell(account_changed(self._account))


class _Touch(_Update):
    __slots__ = ()

    def plan(self, tx: Transaction) -> None:
        row = tx.sql.account.one(self._account)
        if row is not None:
            day = self._changes["last_login_day"]
            first = day if row.first_login_day is None else row.first_login_day
            tx.sql.save_login_days.run(first, day, self._account)


class _Bar(Job):
    __slots__ = ("_address", "_day_s", "_reason")

    def __init__(self, address: EmailAddress, reason: str | None, day_s: int) -> None:
        self._address = address
        self._reason = reason
        self._day_s = day_s

    def plan(self, tx: Transaction) -> None:
        if self._reason is None:
            tx.sql.unbar.run(str(self._address))
        else:
            tx.sql.bar.run(str(self._address), self._reason, self._day_s)

    def publish(self, index: StoreIndex) -> None:
        index.note_barred(self._address, self._reason is not None)


class _IsBarred(Job):
    __slots__ = ("_address", "answer")

    is_read = True

    def __init__(self, address: EmailAddress) -> None:
        self._address = address
        self.answer = False

    def plan(self, tx: Transaction) -> None:
        self.answer = tx.sql.barred.one(str(self._address)) is not None

    def publish(self, index: StoreIndex) -> None:
        index.note_barred(self._address, self.answer)


class _LookUpTombstone(Job):
    __slots__ = ("_key", "_now_s", "found")

    is_read = True

    def __init__(self, key: bytes, now_s: float) -> None:
        self._key = key
        self._now_s = now_s
        self.found: Tombstone | None = None

    def plan(self, tx: Transaction) -> None:
        row = tx.sql.tombstone.one(self._key)
        is_live = row is not None and row.expires_s > self._now_s
        self.found = Tombstone(secret=row[0], expires_s=row[1]) if row and is_live else None


class TombstoneKeys:
    """Keyed hashes of addresses: a stolen table names nobody (spec policy 2.7)."""

    def __init__(self, server_key: bytes) -> None:
        self._key = server_key

    def __call__(self, address: EmailAddress) -> bytes:
        """Return HMAC-SHA256(server key, canonical address)."""
        return hmac.digest(self._key, str(address).encode(), hashlib.sha256)


class SqlAccountStore:
    """`AccountStore` of the segment store."""

    def __init__(
        self, writer: Writer, index: StoreIndex, keys: TombstoneKeys, tokens: TokenCache
    ) -> None:
        self._writer = writer
        self._index = index
        self._key_of = keys
        self._tokens = tokens

    async def get(self, address: EmailAddress) -> Account | None:
        """Return the account, blocked ones included."""
        return (await self.resolve((address,)))[0]

    async def resolve(self, addresses: Sequence[EmailAddress]) -> list[Account | None]:
        """Return the accounts in the order asked, in at most one read."""
        found = {address: self._index.record_at(address) for address in addresses}
        missing = [address for address, record in found.items() if record is None]
        if missing:
            job = await self._writer.do(LookUpAddresses(missing))
            found.update({record.stored.address: record for record in job.records})
        return [
            None if record is None else record.account()
            for record in (found[address] for address in addresses)
        ]

    async def create(self, new: NewAccount) -> tuple[Account, bool]:
        """Create the account with an empty INBOX, or return the one that exists."""
        job = await self._writer.do(CreateAccount(new, self._key_of(new.address)))
        return job.record.account(), job.is_created

    async def set_secret(self, account: AccountId, secret: str) -> None:
        """Replace the stored hash."""
        await self._writer.do(_SetSecret(account, secret=secret))

    async def touch(self, account: AccountId, day_s: int) -> None:
        """Record the day of a login; nothing is written when it is known."""
        record = self._index.record_of(account)
        if record is None or record.stored.last_login_day != day_s:
            await self._writer.do(_Touch(account, last_login_day=day_s))

    async def set_blocked(self, account: AccountId, blocked: bool) -> None:
        """Block or unblock."""
        await self._writer.do(_SetBlocked(account, is_blocked=blocked))

    async def bar(self, address: EmailAddress, reason: str, day_s: int) -> None:
        """Put an address on the block list."""
        await self._writer.do(_Bar(address, reason, day_s))

    async def unbar(self, address: EmailAddress) -> None:
        """Take an address off the block list."""
        await self._writer.do(_Bar(address, None, 0))

    async def is_barred(self, address: EmailAddress) -> bool:
        """Say whether the address is on the block list; no thread for accounts in memory."""
        record = self._index.record_at(address)
        if record is not None and record.is_barred is not None:
            return record.is_barred
        return (await self._writer.do(_IsBarred(address))).answer

    async def tombstone(self, address: EmailAddress, now_s: float) -> Tombstone | None:
        """Return the live tombstone of a deleted address."""
        return (await self._writer.do(_LookUpTombstone(self._key_of(address), now_s))).found

    async def delete(
        self,
        account: AccountId,
        tombstone_until_s: int | None,
        *,
        barred_for: str | None = None,
        unless_used_since_s: int | None = None,
    ) -> bool:
        """Delete the account at once; messages of large mailboxes go in pieces behind it.

        Returns:  whether there was an account and it was deleted.
        """
        job = DeleteAccountJob(
            account,
            tombstone_until_s,
            self._key_of,
            self._tokens,
            barred_for=barred_for,
            unless_used_since_s=unless_used_since_s,
        )
        await self._writer.do(job)
        await drain(self._writer, job.departing)
        if job.leaves_mail:
            await drain_queue(self._writer)
        return job.is_deleted

    async def count(self) -> int:
        """Return the number of accounts; from memory."""
        return self._index.account_count
