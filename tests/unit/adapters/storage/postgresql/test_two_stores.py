"""Two processes on one database: what one commits, the other shows."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import trio

from chatmail.domain.model.errors import MailboxGone, TransientFailure
from chatmail.domain.ports.mailstore import FlagOperation, MailboxProblem
from tests.unit.adapters.storage.invariants import check_index_equals_database
from tests.unit.adapters.storage.postgresql.conftest import Pair, hinted, until
from tests.unit.adapters.storage.postgresql.sharing import DELETED, SEEN, opened_by_both
from tests.unit.ports.world import NOW_S, Stores


async def test_an_account_of_one_is_there_for_the_other_at_once(pair: Pair) -> None:
    one, other = pair
    account = await one.account()
    assert await other.accounts.get(account.address) == account
    assert (await other.account()).id == account.id
    assert await other.accounts.count() == 1


async def test_of_simultaneous_creations_one_wins(pair: Pair) -> None:
    found = []

    async def create(stores: Stores, name: str) -> None:
        found.append((name, await stores.account(name)))

    async with trio.open_nursery() as nursery:
        for name in ("ann", "bob", "eve"):
            for stores in pair:
                nursery.start_soon(create, stores, name)
    for name in ("ann", "bob", "eve"):
        assert len({account.id for known, account in found if known == name}) == 1
    assert await pair[0].accounts.count() == 3
    for stores in pair:
        await check_index_equals_database(stores)


async def test_an_account_that_came_and_went_is_a_passing_trouble(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    account = await one.account()
    writer = other.store._writer
    await other.accounts.get(account.address)
    never = SimpleNamespace(one=lambda address: None)
    monkeypatch.setattr(writer._committer._sql, "account_at", never)
    with pytest.raises(TransientFailure):
        await other.account()
    monkeypatch.undo()
    assert (await other.account()).id == account.id


async def test_uids_never_collide(pair: Pair) -> None:
    account, first, second = await opened_by_both(pair)
    uids = []

    async def deliver(stores: Stores) -> None:
        for _ in range(10):
            (receipt,) = await stores.deliver(account.inbox)
            uids.append(receipt.uid)

    async with trio.open_nursery() as nursery:
        for stores in pair * 3:
            nursery.start_soon(deliver, stores)
    assert sorted(uids) == list(range(1, 61))
    for stores, mailbox in zip(pair, (first, second), strict=True):
        assert (await stores.mail.info(account.id, "INBOX")).messages == 60
        assert list(mailbox.uids()[0]) == list(range(1, 61))
        await check_index_equals_database(stores)


async def test_a_message_of_one_wakes_a_session_of_the_other(pair: Pair) -> None:
    one, other = pair
    account, _, second = await opened_by_both(pair)
    before = second.info()
    async with hinted(other, account.inbox):
        await one.deliver(account.inbox, content=b"from afar\r\n")
    await until(lambda: second.info().messages == 1)
    changes = await second.changes_since(before.highest_modseq, before.uid_next)
    assert [entry.uid for entry in changes.arrived] == [1]
    entry = changes.arrived[0]
    assert (await other.mail.read(entry, 0, entry.size)).endswith(b"from afar\r\n")


async def test_flags_and_expunges_of_one_are_told_by_the_other(pair: Pair) -> None:
    one, other = pair
    account, _, second = await opened_by_both(pair)
    for _ in range(4):
        await one.deliver(account.inbox)
    await other.mail.info(account.id, "INBOX")
    start = second.info()
    await one.mail.set_flags(account.inbox, [1, 3], FlagOperation.ADD, SEEN)
    await one.mail.set_flags(account.inbox, [2], FlagOperation.ADD, DELETED)
    await one.mail.expunge(account.inbox, None)
    await one.deliver(account.inbox)
    await one.mail.set_flags(account.inbox, [5], FlagOperation.ADD, SEEN)
    last = (await one.mail.info(account.id, "INBOX")).highest_modseq
    await until(lambda: second.info().highest_modseq == last)
    changes = await second.changes_since(start.highest_modseq, start.uid_next)
    assert [entry.uid for entry in changes.arrived] == [5]
    assert [(one.uid, one.flags) for one in changes.changed] == [(1, SEEN), (3, SEEN)]
    assert list(changes.expunged) == [2]
    assert second.first_unseen() == 4
    await check_index_equals_database(other)


async def test_status_is_right_without_waiting_for_a_hint(pair: Pair) -> None:
    one, other = pair
    account = await one.account()
    await other.mail.list(account.id)
    for count in range(1, 10):
        await one.deliver(account.inbox)
        info = await other.mail.info(account.id, "INBOX")
        assert (info.messages, info.unseen, info.uid_next) == (count, count, count + 1)
        assert await other.mail.usage(account.id) == info.octets
        opened = await other.mail.open(account.id, "INBOX")
        assert opened.info().messages == len(opened.uids()[0]) == count
        opened.close()


async def test_own_commits_come_after_the_missed_ones(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    account, _, second = await opened_by_both(pair)

    async def deaf(news: object) -> None:
        """Hear nothing: as if notices came late."""

    monkeypatch.setattr(other.store.listener, "heed", deaf)
    for _ in range(3):
        await one.deliver(account.inbox)
    await one.mail.set_flags(account.inbox, [2], FlagOperation.ADD, DELETED)
    await one.mail.expunge(account.inbox, [2])
    start = second.info()
    assert start.messages == 0
    (receipt,) = await other.deliver(account.inbox)
    assert receipt.uid == 4
    assert list(second.uids()[0]) == [1, 3, 4]
    assert second.info().messages == 3
    changes = await second.changes_since(start.highest_modseq, start.uid_next)
    assert [entry.uid for entry in changes.arrived] == [1, 3, 4]
    await one.mail.set_flags(account.inbox, [1], FlagOperation.ADD, SEEN)
    outcome = await other.mail.set_flags(account.inbox, [1, 3], FlagOperation.ADD, SEEN)
    assert [entry.flags for entry in outcome.entries] == [SEEN, SEEN]
    assert second.entry(1).flags == second.entry(3).flags == SEEN
    await check_index_equals_database(other)


async def test_names_of_one_are_names_of_the_other(pair: Pair) -> None:
    one, other = pair
    account = await one.account()
    await other.mail.list(account.id)
    await one.mail.create(account.id, "Work", None, NOW_S)
    assert await other.mail.create(account.id, "Work", None, NOW_S) is MailboxProblem.ALREADY_EXISTS
    opened = await other.mail.open(account.id, "Work")
    await one.mail.rename(account.id, "Work", "Play", NOW_S)
    await until(lambda: opened.name == "Play")
    await one.mail.subscribe(account.id, "Play", True)
    assert [info.name for info in await other.mail.list(account.id)] == ["INBOX", "Play"]
    assert (await other.mail.info(account.id, "Play")).is_subscribed
    assert await other.mail.open(account.id, "Work") is None


async def test_a_mailbox_deleted_by_one_ends_sessions_of_the_other(pair: Pair) -> None:
    one, other = pair
    account = await one.account()
    info = await one.mail.create(account.id, "Work", None, NOW_S)
    await one.deliver(info.id)
    opened = await other.mail.open(account.id, "Work")
    async with hinted(other, info.id):
        await one.mail.delete(account.id, "Work")
    with pytest.raises(MailboxGone):
        opened.info()
    assert await other.mail.open(account.id, "Work") is None
    (receipt,) = await other.deliver(info.id)
    assert receipt is None


async def test_an_account_removed_by_one_is_gone_for_the_other(pair: Pair) -> None:
    one, other = pair
    account, _, second = await opened_by_both(pair)
    await other.tokens.add(account.id, "token", NOW_S)
    async with hinted(other, account.inbox):
        await one.accounts.delete(account.id, NOW_S + 100)
    assert await other.accounts.get(account.address) is None
    with pytest.raises(MailboxGone):
        second.info()
    assert await other.tokens.of(account.id, NOW_S) == []
    # Both use one key for tombstones.
    assert (await other.accounts.tombstone(account.address, NOW_S)).secret == account.secret
    assert await other.mail.open(account.id, "INBOX") is None
    await until(lambda: other.store.index.record_of(account.id) is None)


async def test_an_account_removed_and_made_anew_by_others_replaces_the_old_one(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    old, _, second = await opened_by_both(pair)

    async def deaf(news: object) -> None:
        """Hear nothing: as if notices came late."""

    monkeypatch.setattr(other.store.listener, "heed", deaf)
    await one.accounts.delete(old.id, None)
    new = await one.account()
    for _ in range(2):
        assert (await other.account()).id == new.id
        assert (await other.accounts.get(new.address)).id == new.id
    with pytest.raises(MailboxGone):
        second.info()
    assert other.store.index.record_of(old.id) is None
    await check_index_equals_database(other)


async def test_a_token_set_on_one_is_read_on_the_other(pair: Pair) -> None:
    one, other = pair
    account = await one.account()
    assert await other.tokens.of(account.id, NOW_S) == []
    await one.tokens.add(account.id, "token", NOW_S)
    await until(lambda: other.store.listener._tokens.get(account.id) is None)
    assert await other.tokens.of(account.id, NOW_S) == ["token"]


async def test_shown_marks_of_two_are_one(pair: Pair) -> None:
    account, first, second = await opened_by_both(pair)
    await pair[0].deliver(account.inbox)
    await pair[1].mail.info(account.id, "INBOX")
    for mailbox in (first, second):
        mailbox.uids()
    async with trio.open_nursery() as nursery:
        for stores in pair:
            nursery.start_soon(stores.store.retention.save_shown)
    for stores in pair:
        assert len(stores.store.index.shown) == 0
        assert not stores.log.events


async def test_a_load_overtaken_by_another_process_is_done_again(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    account = await one.account()
    await one.deliver(account.inbox)
    reader = other.store.mail._reader
    real = reader.mailbox
    reads = []

    async def slow(id):
        found = await real(id)
        reads.append(found.head.highest_modseq)
        if len(reads) == 1:
            await one.deliver(account.inbox)
            # The notice is followed while the mailbox is being loaded.
            await until(lambda: other.store.index.loading[account.inbox].head is not None)
        return found

    monkeypatch.setattr(reader, "mailbox", slow)
    opened = await other.mail.open(account.id, "INBOX")
    await until(lambda: opened.info().messages == 2)
    assert len(opened.uids()[0]) == 2
