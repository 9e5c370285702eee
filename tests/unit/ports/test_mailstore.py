"""Contract of `MailStore` and `OpenMailbox`: entries, flags, changes, copies, what goes."""

from __future__ import annotations

import pytest
import trio

from chatmail.domain.model.mailbox import NO_FLAGS, CopyReceipt
from chatmail.domain.ports.mailstore import FlagOperation, MailboxProblem
from tests.unit.ports.inboxes import DELETED, SEEN, SIZE, inbox_with, uids_of
from tests.unit.ports.world import HEADER, NOW_S, Stores


async def test_opening_what_is_not_there_gives_none(stores: Stores) -> None:
    account = await stores.account()
    assert await stores.mail.open(account.id, "Other") is None
    assert await stores.mail.open(account.id + 1000, "INBOX") is None


async def test_an_open_mailbox_shows_counters_and_entries(stores: Stores) -> None:
    mailbox = await inbox_with(stores, 3)
    info = mailbox.info()
    assert (info.messages, info.unseen, info.deleted, info.uid_next) == (3, 3, 0, 4)
    assert info.octets == 3 * SIZE
    assert uids_of(mailbox) == [1, 2, 3]
    assert mailbox.entry(2).uid == 2
    assert mailbox.entry(2).flags == NO_FLAGS
    assert mailbox.entry(4) is None
    assert mailbox.name == "INBOX"


async def test_the_first_count_uids_never_change_under_a_reader(stores: Stores) -> None:
    mailbox = await inbox_with(stores, 3)
    uids, count = mailbox.uids()
    await stores.deliver(mailbox.id, flags=DELETED)
    await stores.mail.set_flags(mailbox.id, [1], FlagOperation.ADD, DELETED)
    if stores.store is not None:  # the memory fake rebuilds its list; the promise is the store's
        await stores.mail.expunge(mailbox.id, None)
    assert list(uids[:count]) == [1, 2, 3]


async def test_uidnext_stays_when_the_mailbox_is_emptied(stores: Stores) -> None:
    mailbox = await inbox_with(stores, 5)
    await stores.mail.set_flags(mailbox.id, [1, 2, 3, 4, 5], FlagOperation.ADD, DELETED)
    await stores.mail.expunge(mailbox.id, None)
    info = mailbox.info()
    assert (info.messages, info.octets, info.uid_next) == (0, 0, 6)
    (receipt,) = await stores.deliver(mailbox.id)
    assert receipt.uid == 6


async def test_every_change_set_takes_one_modseq(stores: Stores) -> None:
    mailbox = await inbox_with(stores, 2)
    start = mailbox.info().highest_modseq
    outcome = await stores.mail.set_flags(mailbox.id, [1, 2], FlagOperation.ADD, SEEN)
    assert mailbox.info().highest_modseq == start + 1
    assert [entry.modseq for entry in outcome.entries] == [start + 1, start + 1]
    again = await stores.mail.set_flags(mailbox.id, [1, 2], FlagOperation.ADD, SEEN)
    assert mailbox.info().highest_modseq == start + 1
    assert [entry.modseq for entry in again.entries] == [start + 1, start + 1]


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (FlagOperation.REPLACE, {"\\Flagged"}),
        (FlagOperation.ADD, {"\\Seen", "\\Flagged"}),
        (FlagOperation.REMOVE, {"\\Seen"}),
    ],
)
async def test_flag_operations(
    stores: Stores, operation: FlagOperation, expected: set[str]
) -> None:
    mailbox = await inbox_with(stores, 1)
    await stores.mail.set_flags(mailbox.id, [1], FlagOperation.REPLACE, SEEN)
    await stores.mail.set_flags(mailbox.id, [1], operation, frozenset({"\\Flagged"}))
    assert mailbox.entry(1).flags == expected


async def test_counters_follow_flags(stores: Stores) -> None:
    mailbox = await inbox_with(stores, 3)
    await stores.mail.set_flags(mailbox.id, [1, 2], FlagOperation.ADD, SEEN | DELETED)
    assert (mailbox.info().unseen, mailbox.info().deleted) == (1, 2)
    await stores.mail.set_flags(mailbox.id, [2], FlagOperation.REMOVE, SEEN | DELETED)
    assert (mailbox.info().unseen, mailbox.info().deleted) == (2, 1)


async def test_missing_uids_are_ignored_and_the_rest_ascends(stores: Stores) -> None:
    mailbox = await inbox_with(stores, 3)
    outcome = await stores.mail.set_flags(mailbox.id, [900, 3, 1, 3], FlagOperation.ADD, SEEN)
    assert [entry.uid for entry in outcome.entries] == [1, 3]
    assert outcome.modified == []


async def test_unchangedsince_refuses_what_changed_since(stores: Stores) -> None:
    mailbox = await inbox_with(stores, 3)
    limit = mailbox.info().highest_modseq
    await stores.mail.set_flags(mailbox.id, [2], FlagOperation.ADD, SEEN)
    outcome = await stores.mail.set_flags(
        mailbox.id, [1, 2, 3], FlagOperation.ADD, DELETED, unchanged_since=limit
    )
    assert list(outcome.modified) == [2]
    assert [entry.uid for entry in outcome.entries] == [1, 3]
    assert mailbox.entry(2).flags == SEEN


async def test_keywords_keep_their_first_spelling(stores: Stores) -> None:
    mailbox = await inbox_with(stores, 2)
    await stores.mail.set_flags(mailbox.id, [1], FlagOperation.ADD, frozenset({"$Work"}))
    await stores.mail.set_flags(mailbox.id, [2], FlagOperation.ADD, frozenset({"$WORK", "b"}))
    assert mailbox.entry(2).flags == {"$Work", "b"}
    assert list(mailbox.keywords()) == ["$Work", "b"]
    await stores.mail.set_flags(mailbox.id, [2], FlagOperation.REMOVE, frozenset({"$work", "c"}))
    assert mailbox.entry(2).flags == {"b"}
    assert list(mailbox.keywords()) == ["$Work", "b"]


async def test_first_unseen(stores: Stores) -> None:
    mailbox = await inbox_with(stores, 3)
    assert mailbox.first_unseen() == 1
    await stores.mail.set_flags(mailbox.id, [1, 2], FlagOperation.ADD, SEEN)
    assert mailbox.first_unseen() == 3
    await stores.mail.set_flags(mailbox.id, [3], FlagOperation.ADD, SEEN)
    assert mailbox.first_unseen() is None
    await stores.mail.set_flags(mailbox.id, [2], FlagOperation.REMOVE, SEEN)
    assert mailbox.first_unseen() == 2
    await stores.deliver(mailbox.id)
    assert mailbox.first_unseen() == 2


async def test_expunge_takes_only_what_is_marked_and_asked_for(stores: Stores) -> None:
    mailbox = await inbox_with(stores, 4)
    await stores.mail.set_flags(mailbox.id, [1, 2, 3], FlagOperation.ADD, DELETED)
    changes = await stores.mail.expunge(mailbox.id, [2, 4])
    assert list(changes.expunged) == [2]
    changes = await stores.mail.expunge(mailbox.id, None)
    assert list(changes.expunged) == [1, 3]
    assert uids_of(mailbox) == [4]
    assert mailbox.entry(2) is None
    assert mailbox.info().deleted == 0


async def test_expunge_of_nothing_changes_nothing(stores: Stores) -> None:
    mailbox = await inbox_with(stores, 1)
    before = mailbox.info()
    assert list((await stores.mail.expunge(mailbox.id, None)).expunged) == []
    assert mailbox.info() == before


async def test_changes_since_tells_arrivals_flags_and_expunges(stores: Stores) -> None:
    mailbox = await inbox_with(stores, 4)
    start = mailbox.info()
    await stores.deliver(mailbox.id)
    await stores.mail.set_flags(mailbox.id, [2, 5], FlagOperation.ADD, SEEN)
    await stores.mail.set_flags(mailbox.id, [3], FlagOperation.ADD, DELETED)
    await stores.mail.expunge(mailbox.id, None)
    assert mailbox.has_news(start.highest_modseq, start.uid_next)
    changes = await mailbox.changes_since(start.highest_modseq, start.uid_next)
    assert [entry.uid for entry in changes.arrived] == [5]
    assert [entry.uid for entry in changes.changed] == [2]
    assert list(changes.expunged) == [3]
    assert changes.highest_modseq == mailbox.info().highest_modseq
    assert changes.uid_next == 6
    assert not mailbox.has_news(changes.highest_modseq, changes.uid_next)
    nothing = await mailbox.changes_since(changes.highest_modseq, changes.uid_next)
    assert (list(nothing.arrived), list(nothing.changed), list(nothing.expunged)) == ([], [], [])


async def test_reads_are_clipped_at_the_end(stores: Stores) -> None:
    mailbox = await inbox_with(stores, 2)
    entry = mailbox.entry(1)
    assert await stores.mail.read(entry, SIZE - 3, 100) == b"o\r\n"
    assert await stores.mail.read(entry, SIZE + 5, 100) == b""
    assert await stores.mail.read_many(
        [(entry, 0, entry.header_size), (mailbox.entry(2), entry.header_size, 5)]
    ) == [HEADER, b"hello"]


async def test_an_expunged_message_can_still_be_read_by_who_holds_it(stores: Stores) -> None:
    mailbox = await inbox_with(stores, 1)
    entry = mailbox.entry(1)
    await stores.mail.set_flags(mailbox.id, [1], FlagOperation.ADD, DELETED)
    await stores.mail.expunge(mailbox.id, None)
    assert await stores.mail.read(entry, 0, SIZE) == HEADER + b"hello\r\n"


async def test_copy_keeps_flags_and_date_and_gives_new_uids(stores: Stores) -> None:
    mailbox = await inbox_with(stores, 3)
    (account,) = await stores.accounts.resolve([(await stores.account()).address])
    other = await stores.mail.create(account.id, "Other", None, NOW_S)
    await stores.mail.set_flags(mailbox.id, [3], FlagOperation.ADD, frozenset({"\\Seen", "$X"}))
    receipt = await stores.mail.copy(mailbox.id, [3, 1, 99], account.id, "Other", limit_bytes=None)
    assert receipt == CopyReceipt(other.uid_validity, (1, 3), (1, 2))
    opened = await stores.mail.open(account.id, "Other")
    assert opened.entry(2).flags == {"\\Seen", "$X"}
    assert opened.entry(2).internal_date_s == NOW_S
    assert await stores.mail.read(opened.entry(2), 0, SIZE) == HEADER + b"hello\r\n"
    assert await stores.mail.usage(account.id) == 5 * SIZE
    assert uids_of(mailbox) == [1, 2, 3]


async def test_copy_to_nowhere_or_over_quota_copies_nothing(stores: Stores) -> None:
    mailbox = await inbox_with(stores, 2)
    account = await stores.account()
    await stores.mail.create(account.id, "Other", None, NOW_S)
    assert (
        await stores.mail.copy(mailbox.id, [1], account.id, "None", limit_bytes=None)
        is MailboxProblem.TRY_CREATE
    )
    assert (
        await stores.mail.copy(mailbox.id, [1, 2], account.id, "Other", limit_bytes=3 * SIZE)
        is MailboxProblem.OVER_QUOTA
    )
    assert (await stores.mail.info(account.id, "Other")).messages == 0
    receipt = await stores.mail.copy(mailbox.id, [1, 2], account.id, "Other", limit_bytes=4 * SIZE)
    assert isinstance(receipt, CopyReceipt)


async def test_copying_nothing_gives_an_empty_receipt(stores: Stores) -> None:
    mailbox = await inbox_with(stores, 1)
    account = await stores.account()
    receipt = await stores.mail.copy(mailbox.id, [99], account.id, "INBOX", limit_bytes=None)
    assert (receipt.source, receipt.destination) == ((), ())
    assert mailbox.info().highest_modseq == 2


async def test_move_leaves_nothing_behind(stores: Stores) -> None:
    mailbox = await inbox_with(stores, 3)
    account = await stores.account()
    await stores.mail.create(account.id, "Other", None, NOW_S)
    start = mailbox.info()
    receipt = await stores.mail.move(mailbox.id, [1, 3], account.id, "Other")
    assert (receipt.source, receipt.destination) == ((1, 3), (1, 2))
    assert uids_of(mailbox) == [2]
    changes = await mailbox.changes_since(start.highest_modseq, start.uid_next)
    assert list(changes.expunged) == [1, 3]
    assert await stores.mail.usage(account.id) == 3 * SIZE
    opened = await stores.mail.open(account.id, "Other")
    assert await stores.mail.read(opened.entry(2), 0, SIZE) == HEADER + b"hello\r\n"


async def test_move_within_a_mailbox_gives_new_uids(stores: Stores) -> None:
    mailbox = await inbox_with(stores, 2)
    account = await stores.account()
    receipt = await stores.mail.move(mailbox.id, [1], account.id, "INBOX")
    assert (receipt.source, receipt.destination) == ((1,), (3,))
    assert uids_of(mailbox) == [2, 3]
    assert mailbox.info().octets == 2 * SIZE
    assert await stores.mail.read(mailbox.entry(3), 0, SIZE) == HEADER + b"hello\r\n"


async def test_move_to_nowhere_moves_nothing(stores: Stores) -> None:
    mailbox = await inbox_with(stores, 1)
    account = await stores.account()
    problem = await stores.mail.move(mailbox.id, [1], account.id, "Other")
    assert problem is MailboxProblem.TRY_CREATE
    assert uids_of(mailbox) == [1]


async def test_trim_takes_the_oldest_of_all_mailboxes_seen_or_not(stores: Stores) -> None:
    account = await stores.account()
    other = await stores.mail.create(account.id, "Other", None, NOW_S)
    await stores.deliver(account.inbox, date_s=NOW_S - 300)
    await stores.deliver(other.id, date_s=NOW_S - 500, flags=SEEN)
    await stores.deliver(other.id, date_s=NOW_S - 400)
    await stores.deliver(account.inbox, date_s=NOW_S - 200)
    opened = await stores.mail.open(account.id, "Other")
    used = await stores.mail.trim(account.id, 2 * SIZE, NOW_S - 100)
    assert used == 2 * SIZE == await stores.mail.usage(account.id)
    assert uids_of(opened) == []
    assert (await stores.mail.info(account.id, "INBOX")).messages == 2
    changes = await opened.changes_since(1, 1)
    assert list(changes.expunged) == [1, 2]


async def test_trim_spares_what_is_young(stores: Stores) -> None:
    account = await stores.account()
    await stores.deliver(account.inbox, date_s=NOW_S - 100)
    await stores.deliver(account.inbox, date_s=NOW_S - 101)
    assert await stores.mail.trim(account.id, 0, NOW_S - 100) == SIZE
    assert await stores.mail.trim(account.id, 10 * SIZE, NOW_S) == SIZE


async def test_trim_of_two_copies_of_one_message(stores: Stores) -> None:
    mailbox = await inbox_with(stores, 1)
    account = await stores.account()
    await stores.mail.create(account.id, "Other", None, NOW_S)
    await stores.mail.copy(mailbox.id, [1], account.id, "Other", limit_bytes=None)
    assert await stores.mail.trim(account.id, 0, NOW_S + 1) == 0
    assert mailbox.info().messages == 0


async def test_sessions_share_what_they_see(stores: Stores) -> None:
    mailbox = await inbox_with(stores, 1)
    account = await stores.account()
    second = await stores.mail.open(account.id, "INBOX")
    await stores.mail.set_flags(mailbox.id, [1], FlagOperation.ADD, SEEN)
    await stores.deliver(account.inbox)
    assert second.entry(1).flags == SEEN
    assert uids_of(second) == uids_of(mailbox) == [1, 2]
    second.close()
    second.close()


async def test_many_deliveries_at_once_get_distinct_ascending_uids(stores: Stores) -> None:
    account = await stores.account()
    landed = []

    async def deliver() -> None:
        landed.extend(await stores.deliver(account.inbox))

    async with trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(deliver)
    assert sorted(receipt.uid for receipt in landed) == list(range(1, 41))
    mailbox = await stores.mail.open(account.id, "INBOX")
    assert uids_of(mailbox) == list(range(1, 41))
    assert len({mailbox.entry(uid).modseq for uid in range(1, 41)}) == 40
