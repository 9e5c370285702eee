"""Bounds of the caches, and loads that race with commits."""

from __future__ import annotations

import attrs
import pytest
import trio

from chatmail.adapters.storage import loaded as loaded_module
from chatmail.adapters.storage.database import SqliteDatabase
from chatmail.adapters.storage.head import MailboxHead
from chatmail.adapters.storage.index import AccountRecord, Places, StoreIndex
from chatmail.adapters.storage.loaded import LoadedMailbox
from chatmail.adapters.storage.tokens import TokenCache
from chatmail.domain.model.account import Account, AccountId
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.mailbox import MailboxId
from chatmail.domain.ports.mailstore import FlagOperation
from tests.unit.adapters.storage.conftest import Opener
from tests.unit.adapters.storage.invariants import check_index_equals_database
from tests.unit.ports.world import NOW_S, Stores

SEEN = frozenset({"\\Seen"})
DELETED = frozenset({"\\Deleted"})


async def test_mailboxes_nobody_has_open_are_forgotten_first(opener: Opener) -> None:
    async with opener(new_index=lambda: StoreIndex(max_entries=5)) as stores:
        accounts = [await stores.account(f"u{number}") for number in range(4)]
        for account in accounts:
            for _ in range(2):
                await stores.deliver(account.inbox)
        opened = [await stores.mail.open(account.id, "INBOX") for account in accounts]
        assert len(stores.store.index.loaded) == 4
        opened[2].close()
        opened[0].close()
        assert set(stores.store.index.loaded) == {accounts[1].inbox, accounts[3].inbox}
        assert opened[1].info().messages == 2
        again = await stores.mail.open(accounts[2].id, "INBOX")
        assert again.info().messages == 2
        again.close()
        await check_index_equals_database(stores)


async def test_the_number_of_mailboxes_is_bounded(opener: Opener) -> None:
    async with opener(new_index=lambda: StoreIndex(max_mailboxes=2)) as stores:
        for number in range(5):
            account = await stores.account(f"u{number}")
            (await stores.mail.open(account.id, "INBOX")).close()
        assert len(stores.store.index.loaded) == 2


async def test_a_mailbox_that_grows_beyond_the_bound_is_forgotten(opener: Opener) -> None:
    async with opener(new_index=lambda: StoreIndex(max_entries=3)) as stores:
        account = await stores.account()
        (await stores.mail.open(account.id, "INBOX")).close()
        for _ in range(4):
            await stores.deliver(account.inbox)
        assert not stores.store.index.loaded
        assert stores.store.index._entries == 0


async def test_accounts_are_bounded_and_still_found(opener: Opener) -> None:
    async with opener(new_index=lambda: StoreIndex(max_accounts=2)) as stores:
        accounts = [await stores.account(f"u{number}") for number in range(5)]
        index = stores.store.index
        assert len(index._by_id) == len(index._by_address) == 2
        assert len(index.heads) == 2
        for account in accounts:
            await stores.deliver(account.inbox)
            found = await stores.accounts.get(account.address)
            assert found.used_bytes > 0
        found = await stores.accounts.resolve([account.address for account in accounts])
        assert [one.id for one in found] == [account.id for account in accounts]
        await check_index_equals_database(stores)


async def test_an_open_mailbox_outlives_its_forgotten_account(opener: Opener) -> None:
    async with opener(new_index=lambda: StoreIndex(max_accounts=1)) as stores:
        ann = await stores.account("ann")
        opened = await stores.mail.open(ann.id, "INBOX")
        await stores.account("bob")
        await stores.deliver(ann.inbox)
        await stores.mail.set_flags(ann.inbox, [1], FlagOperation.ADD, SEEN)
        assert opened.info().messages == 1
        assert opened.entry(1).flags == SEEN
        assert opened.info() == await stores.mail.info(ann.id, "INBOX")
        await stores.deliver(ann.inbox)
        assert opened.info().messages == 2
        await check_index_equals_database(stores)


def test_tokens_are_bounded() -> None:
    cache = TokenCache(max_accounts=2)
    for account in range(3):
        cache.put(account, [])
    assert len(cache) == 2
    assert cache.get(0) is None


def test_places_are_shared_and_forgotten_with_their_entries() -> None:
    places = Places()
    one = places.intern(5, 1, 100)
    assert places.intern(5, 9, 999) is one
    assert places.is_held(5)
    del one
    assert not places.is_held(5)


async def test_entries_of_copies_share_their_place(opener: Opener) -> None:
    async with opener() as stores:
        ann, bob = await stores.account("ann"), await stores.account("bob")
        await stores.deliver(ann.inbox, bob.inbox)
        first = await stores.mail.open(ann.id, "INBOX")
        second = await stores.mail.open(bob.id, "INBOX")
        assert first.entry(1).blob is second.entry(1).blob


class SlowReader:
    """Lets something happen after the rows were read, before they are taken in."""

    def __init__(self, stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
        self.before = self.after = None
        self.reads = 0
        reader = stores.store.mail._reader
        real = reader.mailbox

        async def mailbox(id: int) -> LoadedMailbox | None:
            self.reads += 1
            if self.before is not None:
                before, self.before = self.before, None
                await before()
            found = await real(id)
            if self.after is not None:
                after, self.after = self.after, None
                await after()
            return found

        monkeypatch.setattr(reader, "mailbox", mailbox)


async def test_a_load_overtaken_by_a_commit_is_done_again(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opener() as stores:
        account = await stores.account()
        await stores.deliver(account.inbox)
        slow = SlowReader(stores, monkeypatch)

        async def meanwhile() -> None:
            await stores.deliver(account.inbox)
            await stores.mail.set_flags(account.inbox, [1], FlagOperation.ADD, SEEN)

        slow.after = meanwhile
        opened = await stores.mail.open(account.id, "INBOX")
        assert slow.reads == 2
        assert opened.info().messages == 2
        assert opened.entry(1).flags == SEEN
        await check_index_equals_database(stores)
        assert not stores.store.index.loading


async def test_a_load_that_saw_a_commit_before_it_was_published(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opener() as stores:
        account = await stores.account()
        for _ in range(3):
            await stores.deliver(account.inbox)
        writer = stores.store._writer
        real = writer._publish
        loads = []

        def publish(jobs, tx) -> None:
            # The commit is in the database; a load that reads it now is taken in first.
            connection = stores.store.mail._reader
            loads.append(connection._read_mailbox(account.inbox))
            stores.store.index.install(loads[-1])
            real(jobs, tx)

        for change in (
            lambda: stores.deliver(account.inbox),
            lambda: stores.mail.set_flags(account.inbox, [1], FlagOperation.ADD, DELETED),
            lambda: stores.mail.expunge(account.inbox, None),
        ):
            monkeypatch.setattr(writer, "_publish", publish)
            await change()
            monkeypatch.setattr(writer, "_publish", real)
            await check_index_equals_database(stores)
            index = stores.store.index
            index.loaded.clear()
            index._idle.clear()
            index._entries = 0


async def test_a_mailbox_deleted_during_its_load_is_not_opened(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opener() as stores:
        account = await stores.account()
        await stores.mail.create(account.id, "Other", None, NOW_S)
        slow = SlowReader(stores, monkeypatch)

        async def meanwhile() -> None:
            await stores.mail.delete(account.id, "Other")

        slow.after = meanwhile
        assert await stores.mail.open(account.id, "Other") is None


async def test_a_mailbox_renamed_during_its_load_has_its_new_name(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opener() as stores:
        account = await stores.account()
        await stores.mail.create(account.id, "Other", None, NOW_S)
        slow = SlowReader(stores, monkeypatch)

        async def meanwhile() -> None:
            await stores.mail.rename(account.id, "Other", "New", NOW_S)

        slow.after = meanwhile
        opened = await stores.mail.open(account.id, "Other")
        assert opened.name == "New"


async def test_many_open_one_mailbox_at_once(opener: Opener) -> None:
    async with opener() as stores:
        account = await stores.account()
        await stores.deliver(account.inbox)
        opened = []

        async def open_it() -> None:
            opened.append(await stores.mail.open(account.id, "INBOX"))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(open_it)
        assert len({id(one._loaded) for one in opened}) == 1
        assert opened[0]._loaded.pins == 10
        for one in opened:
            one.close()
        assert opened[0]._loaded.pins == 0


async def test_changes_older_than_the_journal_are_complete(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded_module, "JOURNAL_LENGTH", 4)
    async with opener() as stores:
        account = await stores.account()
        for _ in range(10):
            await stores.deliver(account.inbox)
        opened = await stores.mail.open(account.id, "INBOX")
        start = opened.info()
        for uid in (1, 2, 3, 4, 5):
            await stores.mail.set_flags(account.inbox, [uid], FlagOperation.ADD, SEEN)
        for uid in (2, 7):
            await stores.mail.set_flags(account.inbox, [uid], FlagOperation.ADD, DELETED)
            await stores.mail.expunge(account.inbox, [uid])
        assert opened._loaded.journal_floor > start.highest_modseq
        changes = await opened.changes_since(start.highest_modseq, start.uid_next)
        assert [entry.uid for entry in changes.changed] == [1, 3, 4, 5]
        assert list(changes.expunged) == [2, 7]


async def test_an_account_in_use_is_kept_over_one_that_is_not(opener: Opener) -> None:
    async with opener(new_index=lambda: StoreIndex(max_accounts=2)) as stores:
        ann, _ = await stores.account("ann"), await stores.account("bob")
        await stores.accounts.get(ann.address)
        await stores.account("eve")
        assert stores.store.index.record_at(ann.address) is not None


class Pausing(SqliteDatabase):
    """Stops between COMMIT and publishing, until `go_on`; `durable` tells that it got there."""

    go_on: trio.Event | None = None
    durable: trio.Event | None = None
    token: trio.lowlevel.TrioToken

    def commit(self) -> None:
        super().commit()
        if self.go_on is not None:
            go_on, self.go_on = self.go_on, None
            if self.durable is not None:
                trio.from_thread.run_sync(self.durable.set, trio_token=self.token)
            trio.from_thread.run(go_on.wait, trio_token=self.token)


async def test_a_load_that_sees_a_commit_first_shares_its_place(opener: Opener) -> None:
    loaded = trio.Event()
    async with opener(new_database=Pausing) as stores:
        account = await stores.account()
        database = stores.store._writer._committer._database
        database.token, database.go_on = trio.lowlevel.current_trio_token(), loaded
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stores.deliver, account.inbox)
            with trio.fail_after(60):
                while not (opened := await stores.mail.open(account.id, "INBOX")).entry(1):
                    opened.close()
                    stores.store.index.loaded.clear()
                    stores.store.index._idle.clear()
                    stores.store.index._entries = 0
            loaded.set()
        blob = opened.entry(1).blob
        assert stores.store.index.places.is_held(blob.blob)
        opened.close()


async def test_an_expunge_is_not_told_before_it_is_published(opener: Opener) -> None:
    async with opener() as stores:
        account = await stores.account()
        for _ in range(2):
            await stores.deliver(account.inbox, flags=DELETED)
        await stores.mail.expunge(account.inbox, [1])
    go_on = trio.Event()
    async with opener(new_database=Pausing) as stores:
        database = stores.store._writer._committer._database
        opened = await stores.mail.open(account.id, "INBOX")
        database.token = trio.lowlevel.current_trio_token()
        database.go_on, database.durable = go_on, trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stores.mail.expunge, account.inbox, [2])
            with trio.fail_after(60):
                await database.durable.wait()
            changes = await opened.changes_since(1, 3)
            assert list(changes.expunged) == [1]
            assert [entry.uid for entry in changes.changed] == [2]
            go_on.set()
        assert list((await opened.changes_since(1, 3)).expunged) == [1, 2]


async def test_a_login_does_not_wait_for_the_writer(opener: Opener) -> None:
    async with opener() as stores:
        account = await stores.account()
        assert not await stores.accounts.is_barred(account.address)
        stores.store._writer.has_ended = True  # so that a job would be refused
        assert not await stores.accounts.is_barred(account.address)
        assert await stores.accounts.get(account.address) is not None
        stores.store._writer.has_ended = False


def test_an_account_is_what_was_stored_with_what_it_holds() -> None:
    stored = Account(
        id=AccountId(7),
        address=EmailAddress.parse("a@relay.example"),
        inbox=MailboxId(3),
        secret="hash",
        is_blocked=True,
        accepts_cleartext=True,
        last_login_day=5,
    )
    heads = [_head(3, "INBOX", messages=2, octets=100), _head(4, "Sent", messages=1, octets=50)]
    account = AccountRecord(stored, heads).account()
    assert account == attrs.evolve(stored, used_bytes=150, used_messages=3)
    defaults = {field.name: field.default for field in attrs.fields(Account)}
    assert all(getattr(account, name) != default for name, default in defaults.items())


def _head(id: int, name: str, *, messages: int, octets: int) -> MailboxHead:
    head = MailboxHead.of_new(MailboxId(id), AccountId(7), name, 1)
    head.messages, head.octets = messages, octets
    return head
