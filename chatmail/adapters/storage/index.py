"""What the store keeps in memory: accounts with their mailbox heads, loaded mailboxes, places.

The index equals the database as of the last published commit. It is changed only by publishing,
on the loop's thread; the writer's thread may read it, because the next batch starts only after
the last one was published. Everything in it is bounded.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final
from weakref import WeakValueDictionary

from chatmail.adapters.storage.federation.queue_rows import QueuedContents
from chatmail.adapters.storage.head import MailboxHead
from chatmail.adapters.storage.loaded import LoadedMailbox
from chatmail.adapters.storage.segments import Place
from chatmail.adapters.storage.shown import Shown
from chatmail.domain.model.account import Account, AccountId
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.mailbox import MailboxEntry, MailboxId

MAX_ACCOUNTS: Final = 50_000
MAX_LOADED_MAILBOXES: Final = 20_000
MAX_LOADED_ENTRIES: Final = 2_000_000


class Places:
    """Blob id → the one `Place` that all its entries share. Used from every thread."""

    def __init__(self) -> None:
        self._known: WeakValueDictionary[int, Place] = WeakValueDictionary()
        self._lock = threading.Lock()

    def intern(self, blob: int, segment: int, offset: int) -> Place:
        """Return the place of a blob."""
        with self._lock:
            place = self._known.get(blob)
            if place is None:
                place = self._known[blob] = Place(blob, segment, offset)
            return place

    def add(self, place: Place) -> None:
        """Remember a new place."""
        with self._lock:
            self._known[place.blob] = place

    def move(self, place: Place) -> None:
        """Note that a blob lies elsewhere now; whoever holds an entry of it sees that at once."""
        with self._lock:
            known = self._known.get(place.blob)
            if known is not None:
                known.segment, known.offset = place.segment, place.offset

    def is_held(self, blob: int) -> bool:
        """Say whether an entry of this blob is still in somebody's hands."""
        with self._lock:
            return blob in self._known


class AccountRecord:
    """An account and the heads of all its mailboxes."""

    __slots__ = ("_account", "heads", "is_barred", "stored")

    def __init__(self, stored: Account, heads: Iterable[MailboxHead]) -> None:
        self.stored = stored  # its used_bytes is not kept up to date
        self.heads = {head.name: head for head in heads}
        self._account: Account | None = None
        self.is_barred: bool | None = None  # None: not known in memory

    def account(self) -> Account:
        """Return the account with what it holds as of the last commit."""
        if self._account is None:
            stored, octets, messages = self.stored, 0, 0
            for head in self.heads.values():
                octets += head.octets
                messages += head.messages
            # Once per delivery: `attrs.evolve` would cost five times as much.
            self._account = Account(
                id=stored.id,
                address=stored.address,
                inbox=stored.inbox,
                secret=stored.secret,
                is_blocked=stored.is_blocked,
                accepts_cleartext=stored.accepts_cleartext,
                used_bytes=octets,
                used_messages=messages,
                last_login_day=stored.last_login_day,
            )
        return self._account

    def used_bytes(self) -> int:
        """Return the sum over all mailboxes."""
        return sum(head.octets for head in self.heads.values())

    def update(self, stored: Account) -> None:
        """Put other facts about the account in place."""
        self.stored = stored
        self._account = None

    def put(self, head: MailboxHead, old: MailboxHead | None) -> None:
        """Put a published head in the place of the old one."""
        self._account = None
        if old is not None and old.name != head.name and self.heads.get(old.name) is old:
            del self.heads[old.name]
        if head.is_gone:
            if self.heads.get(head.name) is old:
                self.heads.pop(head.name, None)
        else:
            self.heads[head.name] = head


class LoadTicket:
    """Somebody reads a mailbox from the database; `head` is what was published meanwhile."""

    __slots__ = ("head", "users")

    def __init__(self) -> None:
        self.head: MailboxHead | None = None
        self.users = 0


class StoreIndex:
    """All caches of the store."""

    def __init__(
        self,
        max_accounts: int = MAX_ACCOUNTS,
        max_mailboxes: int = MAX_LOADED_MAILBOXES,
        max_entries: int = MAX_LOADED_ENTRIES,
    ) -> None:
        self.places = Places()
        self.queued = QueuedContents()
        self.heads: dict[MailboxId, MailboxHead] = {}
        self.loaded: dict[MailboxId, LoadedMailbox] = {}
        self.loading: dict[MailboxId, LoadTicket] = {}
        self.account_count = 0
        self.shown = Shown()
        self._by_id: OrderedDict[AccountId, AccountRecord] = OrderedDict()
        self._by_address: dict[EmailAddress, AccountRecord] = {}
        self._idle: OrderedDict[MailboxId, LoadedMailbox] = OrderedDict()
        self._entries = 0
        self._max_accounts = max_accounts
        self._max_mailboxes = max_mailboxes
        self._max_entries = max_entries

    # Accounts

    def record_at(self, address: EmailAddress) -> AccountRecord | None:
        """Return a cached account by address."""
        record = self._by_address.get(address)
        if record is not None:
            self._by_id.move_to_end(record.stored.id)
        return record

    def record_of(self, account: AccountId) -> AccountRecord | None:
        """Return a cached account by id."""
        record = self._by_id.get(account)
        if record is not None:
            self._by_id.move_to_end(account)
        return record

    def note_barred(self, address: EmailAddress, is_barred: bool) -> None:
        """Publish whether an address is on the block list."""
        record = self._by_address.get(address)
        if record is not None:
            record.is_barred = is_barred

    def put_record(self, record: AccountRecord) -> None:
        """Cache an account as read from the database."""
        self.drop_record(record.stored.id)
        self._by_id[record.stored.id] = record
        self._by_address[record.stored.address] = record
        for head in record.heads.values():
            self.heads[head.id] = head
        while len(self._by_id) > self._max_accounts:
            self.drop_record(next(iter(self._by_id)))

    def drop_record(self, account: AccountId) -> None:
        """Forget an account."""
        record = self._by_id.pop(account, None)
        if record is not None:
            del self._by_address[record.stored.address]
            for head in record.heads.values():
                self.heads.pop(head.id, None)

    # Mailboxes

    def publish_head(self, head: MailboxHead) -> None:
        """Put the head of the last commit in place; the messages were published before."""
        record = self._by_id.get(head.account)
        if record is not None:
            record.put(head, self.heads.get(head.id))
            if head.is_gone:
                self.heads.pop(head.id, None)
            else:
                self.heads[head.id] = head
        loaded = self.loaded.get(head.id)
        if loaded is not None:
            loaded.head = head
            if head.is_gone:
                self._unload(head.id)
        ticket = self.loading.get(head.id)
        if ticket is not None:
            ticket.head = head

    def install(self, loaded: LoadedMailbox) -> None:
        """Take in a mailbox read from the database."""
        self.loaded[loaded.head.id] = loaded
        self._idle[loaded.head.id] = loaded
        self._entries += loaded.weight

    def pin(self, loaded: LoadedMailbox) -> None:
        """Keep a mailbox in memory."""
        loaded.pins += 1
        self._idle.pop(loaded.head.id, None)

    def unpin(self, loaded: LoadedMailbox) -> None:
        """Undo one `pin`."""
        loaded.pins -= 1
        if loaded.pins == 0 and not loaded.is_gone:
            self._idle[loaded.head.id] = loaded
            self.shrink()

    def arrive(self, mailbox: MailboxId, entry: MailboxEntry) -> None:
        """Publish a new message."""
        loaded = self.loaded.get(mailbox)
        if loaded is not None:
            self._entries -= loaded.weight
            loaded.arrive(entry)
            self._entries += loaded.weight

    def replace(self, mailbox: MailboxId, entries: Iterable[MailboxEntry]) -> None:
        """Publish changed flags."""
        loaded = self.loaded.get(mailbox)
        if loaded is not None:
            self._entries -= loaded.weight
            loaded.replace(entries)
            self._entries += loaded.weight

    def remove(self, mailbox: MailboxId, uids: Iterable[int], modseq: int) -> None:
        """Publish an expunge."""
        loaded = self.loaded.get(mailbox)
        if loaded is not None:
            self._entries -= loaded.weight
            loaded.remove(uids, modseq)
            self._entries += loaded.weight

    def take_in(
        self, loaded: LoadedMailbox, entries: Iterable[MailboxEntry], pages: Iterable[int]
    ) -> None:
        """Put entries in place that were read from the database; see `LoadedMailbox.take_in`."""
        before = loaded.weight
        loaded.take_in(entries, pages)
        if self.loaded.get(loaded.head.id) is loaded:
            self._entries += loaded.weight - before
            self.shrink()

    def shrink(self) -> None:
        """Forget mailboxes nobody has open, least recently used first, down to the bounds."""
        while self._idle and (
            len(self.loaded) > self._max_mailboxes or self._entries > self._max_entries
        ):
            mailbox, loaded = self._idle.popitem(last=False)
            del self.loaded[mailbox]
            self._entries -= loaded.weight

    def _unload(self, mailbox: MailboxId) -> None:
        loaded = self.loaded.pop(mailbox)
        self._idle.pop(mailbox, None)
        self._entries -= loaded.weight
        loaded.is_gone = True
