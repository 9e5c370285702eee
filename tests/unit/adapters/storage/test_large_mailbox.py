"""Mailboxes that are read in pages: what is in memory, and reads that race with commits."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio

from chatmail.adapters.storage import loaded as loaded_module
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.mailbox_rows import MailboxRows
from chatmail.adapters.storage.shared_mailbox import SharedMailbox
from chatmail.domain.model.errors import MailboxGone, TransientFailure
from chatmail.domain.model.mailbox import Flags
from chatmail.domain.ports.mailstore import FlagOperation
from tests.unit.adapters.storage.conftest import Opener
from tests.unit.adapters.storage.invariants import check_index_equals_database
from tests.unit.adapters.storage.test_index import Pausing
from tests.unit.ports.world import NOW_S, Stores, small_pages

SEEN = frozenset({"\\Seen"})
DELETED = frozenset({"\\Deleted"})


@pytest.fixture(autouse=True)
def pages_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    small_pages(monkeypatch)


async def fill(opener: Opener, marks: Sequence[Flags], gone: Sequence[int] = ()) -> None:
    """Put messages with these flags into the account's INBOX, and take some out again."""
    async with opener() as stores:
        account = await stores.account()
        for flags in marks:
            await stores.deliver(account.inbox, flags=flags)
        if gone:
            await stores.mail.set_flags(account.inbox, gone, FlagOperation.ADD, DELETED)
            await stores.mail.expunge(account.inbox, gone)


async def inbox(stores: Stores) -> SharedMailbox:
    account = await stores.account()
    return await stores.mail.open(account.id, "INBOX")


def in_memory(mailbox: SharedMailbox) -> list[int]:
    return sorted(mailbox._loaded.entries)


async def test_a_small_mailbox_is_read_at_once(opener: Opener) -> None:
    await fill(opener, [SEEN] * 3)
    async with opener() as stores:
        mailbox = await inbox(stores)
        assert in_memory(mailbox) == [1, 2, 3]
        assert mailbox.first_unseen() is None


@pytest.mark.parametrize("gone", [(), (1,), (2, 3), (1, 5, 9), (4, 10)])
async def test_only_uids_of_a_large_mailbox_are_read(opener: Opener, gone: tuple[int, ...]) -> None:
    await fill(opener, [SEEN] * 10, gone)
    async with opener() as stores:
        mailbox = await inbox(stores)
        uids, count = mailbox.uids()
        assert list(uids[:count]) == [uid for uid in range(1, 11) if uid not in gone]
        assert in_memory(mailbox) == []
        await check_index_equals_database(stores)


async def test_load_brings_the_pages_of_what_was_asked_for(opener: Opener) -> None:
    await fill(opener, [SEEN] * 10, [3])
    async with opener() as stores:
        mailbox = await inbox(stores)
        await mailbox.load([4, 3, 99])
        assert in_memory(mailbox) == [1, 2, 4, 5, 10]  # 3 and 99 would be in pages like these
        assert mailbox.entry(2).flags == SEEN
        assert mailbox.entry(3) is None
        assert mailbox.entry(99) is None
        await mailbox.load(range(1, 11))
        assert len(in_memory(mailbox)) == 9
        assert not mailbox._loaded.cold
        await check_index_equals_database(stores)


async def test_an_entry_that_was_not_loaded_is_never_taken_for_none(opener: Opener) -> None:
    await fill(opener, [SEEN] * 10)
    async with opener() as stores:
        mailbox = await inbox(stores)
        with pytest.raises(LookupError):
            mailbox.entry(5)


async def test_what_is_in_memory_is_not_read_again(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(opener, [SEEN] * 10)
    async with opener() as stores:
        mailbox = await inbox(stores)
        await mailbox.load([5, 6])
        monkeypatch.delattr(type(stores.store.mail._reader), "pages")
        with trio.CancelScope() as scope:
            scope.cancel()  # a checkpoint would end it
            await mailbox.load([5, 6])
        assert not scope.cancelled_caught


async def test_changes_of_pages_that_were_not_read(opener: Opener) -> None:
    await fill(opener, [SEEN] * 10)
    async with opener() as stores:
        mailbox = await inbox(stores)
        start = mailbox.info()
        await stores.mail.set_flags(mailbox.id, [5], FlagOperation.ADD, DELETED)
        await stores.deliver(mailbox.id)
        await stores.mail.set_flags(mailbox.id, [8], FlagOperation.ADD, DELETED)
        await stores.mail.expunge(mailbox.id, [8])
        changes = await mailbox.changes_since(start.highest_modseq, start.uid_next)
        assert [one.uid for one in changes.changed] == [5]
        assert [one.uid for one in changes.arrived] == [11]
        assert list(changes.expunged) == [8]
        assert in_memory(mailbox) == [5, 11]
        await mailbox.load([5, 6, 7])
        assert mailbox.entry(5).flags == SEEN | DELETED
        await check_index_equals_database(stores)


async def test_more_changes_than_the_journal_holds_are_not_read_again(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded_module, "JOURNAL_LENGTH", 3)
    await fill(opener, [SEEN] * 10)
    async with opener() as stores:
        mailbox = await inbox(stores)
        start = mailbox.info()
        await stores.mail.set_flags(mailbox.id, range(1, 9), FlagOperation.ADD, DELETED)
        assert mailbox._loaded.journal_floor > start.highest_modseq
        monkeypatch.delattr(type(stores.store.mail._reader), "pages")
        changes = await mailbox.changes_since(start.highest_modseq, start.uid_next)
        assert [one.uid for one in changes.changed] == list(range(1, 9))


async def test_changes_from_before_the_mailbox_was_read(opener: Opener) -> None:
    await fill(opener, [SEEN] * 10)
    async with opener() as stores:
        mailbox = await inbox(stores)
        since = mailbox.info()
        await stores.mail.set_flags(mailbox.id, [4], FlagOperation.ADD, DELETED)
        await stores.deliver(mailbox.id, mailbox.id)
    async with opener() as stores:
        mailbox = await inbox(stores)
        changes = await mailbox.changes_since(since.highest_modseq, since.uid_next)
        assert [one.uid for one in changes.changed] == [4]
        assert [one.uid for one in changes.arrived] == [11, 12]
        assert 1 not in in_memory(mailbox), "old pages stay where they are"
        await check_index_equals_database(stores)


@pytest.mark.parametrize(
    ("unseen", "then"),
    [
        pytest.param([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 2, id="all"),
        pytest.param([10], None, id="the-last"),
        pytest.param([3, 9], 9, id="a-few"),
        pytest.param([3, 4, 5, 6, 7, 8], 4, id="most"),
    ],
)
async def test_the_first_unseen_is_found_without_the_entries(
    opener: Opener, unseen: list[int], then: int | None
) -> None:
    await fill(opener, [frozenset() if uid in unseen else SEEN for uid in range(1, 11)])
    async with opener() as stores:
        mailbox = await inbox(stores)
        assert mailbox.first_unseen() == unseen[0]
        assert in_memory(mailbox) == []
        await stores.mail.set_flags(mailbox.id, [unseen[0]], FlagOperation.ADD, SEEN)
        assert mailbox.first_unseen() is None  # nobody knows, so nothing is said
        assert (await inbox(stores)).first_unseen() == then
        assert mailbox.first_unseen() == then, "one look is for all sessions"
        await stores.mail.set_flags(mailbox.id, [2], FlagOperation.REMOVE, SEEN)
        assert mailbox.first_unseen() == 2


async def test_a_page_is_not_taken_in_before_its_commit_is_published(opener: Opener) -> None:
    await fill(opener, [SEEN] * 10)
    async with opener(new_database=Pausing) as stores:
        mailbox = await inbox(stores)
        database = stores.store._writer._committer._database
        go_on, database.durable = trio.Event(), trio.Event()
        database.go_on, database.token = go_on, trio.lowlevel.current_trio_token()
        loaded = trio.Event()

        async def load() -> None:
            await mailbox.load([3, 4])
            loaded.set()

        async with trio.open_nursery() as nursery:
            with trio.fail_after(60):
                nursery.start_soon(
                    stores.mail.set_flags, mailbox.id, [3], FlagOperation.ADD, DELETED
                )
                await database.durable.wait()
                nursery.start_soon(load)
                await trio.testing.wait_all_tasks_blocked(0.05)
                assert not loaded.is_set()
                assert in_memory(mailbox) == []
                go_on.set()
                await loaded.wait()
        assert mailbox.entry(3).flags == SEEN | DELETED
        await check_index_equals_database(stores)


async def test_a_page_read_before_a_commit_does_not_undo_it(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(opener, [SEEN] * 10)
    async with opener() as stores:
        mailbox = await inbox(stores)
        reader = stores.store.mail._reader
        real = reader.pages

        async def late(*arguments: object) -> object:
            found = await real(*arguments)
            await stores.mail.set_flags(mailbox.id, [3], FlagOperation.ADD, DELETED)
            await stores.mail.expunge(mailbox.id, [3])
            await stores.mail.set_flags(mailbox.id, [4], FlagOperation.REMOVE, SEEN)
            return found

        monkeypatch.setattr(reader, "pages", late)
        await mailbox.load([3, 4])
        assert mailbox.entry(3) is None
        assert mailbox.entry(4).flags == frozenset()
        await check_index_equals_database(stores)


async def test_a_mailbox_that_goes_while_a_page_is_read(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opener() as stores:
        account = await stores.account()
        info = await stores.mail.create(account.id, "Other", None, NOW_S)
        for _ in range(6):
            await stores.deliver(info.id)
    async with opener() as stores:
        mailbox = await stores.mail.open(account.id, "Other")
        reader = stores.store.mail._reader
        real = reader.pages

        async def late(*arguments: object) -> object:
            await stores.mail.delete(account.id, "Other")
            return await real(*arguments)

        monkeypatch.setattr(reader, "pages", late)
        with pytest.raises(MailboxGone):
            await mailbox.load([1])
        with pytest.raises(MailboxGone):
            await mailbox.load([])


async def test_a_page_that_cannot_be_read_is_asked_for_again(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(opener, [SEEN] * 10)
    async with opener() as stores:
        mailbox = await inbox(stores)
        with monkeypatch.context() as patch:
            patch.setattr(MailboxRows, "pages", _fail)
            with pytest.raises(TransientFailure):
                await mailbox.load([1])
        await mailbox.load([1])
        assert mailbox.entry(1).flags == SEEN


def _fail(*_: object) -> None:
    import sqlite3

    raise sqlite3.OperationalError("disk I/O error")


async def test_two_sessions_read_a_page_once_each_at_most(opener: Opener) -> None:
    await fill(opener, [SEEN] * 10)
    async with opener() as stores:
        one, two = await inbox(stores), await inbox(stores)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.load, range(1, 11))
            nursery.start_soon(two.load, range(10, 0, -1))
        assert in_memory(one) == list(range(1, 11))
        assert one.entry(3) is two.entry(3)
        await check_index_equals_database(stores)


async def test_pages_count_for_the_bound_of_the_index(opener: Opener) -> None:
    await fill(opener, [SEEN] * 10)
    async with opener(new_index=lambda: StoreIndex(max_entries=5)) as stores:
        mailbox = await inbox(stores)
        index = stores.store.index
        assert index._entries == 0
        await mailbox.load(range(1, 11))
        assert index._entries == 10
        mailbox.close()
        assert (index._entries, index.loaded) == (0, {})


async def test_uids_alone_count_for_the_bound_too(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded_module, "UIDS_PER_ENTRY", 2)
    await fill(opener, [SEEN] * 10)
    async with opener(new_index=lambda: StoreIndex(max_entries=4)) as stores:
        mailbox = await inbox(stores)
        assert stores.store.index._entries == 5
        mailbox.close()
        assert not stores.store.index.loaded
