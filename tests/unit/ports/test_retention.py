"""The contract of `Retention`, on every store."""

from __future__ import annotations

import attrs
import pytest

from chatmail.domain.model.account import Account
from chatmail.domain.model.retention import MessageRule, TrimGoal
from tests.unit.ports.world import DAY_S, HEADER, NOW_S, Stores

SEEN = frozenset({"\\Seen"})
OLD = MessageRule(before_s=NOW_S)


async def prune(stores: Stores, rule: MessageRule, *, is_dry_run: bool = False) -> int:
    step = await stores.retention.prune(rule, is_dry_run=is_dry_run)
    removed = step.removed
    while step.cursor is not None:
        step = await stores.retention.prune(rule, step.cursor, is_dry_run=is_dry_run)
        removed += step.removed
    return removed


async def held(stores: Stores, account: Account, name: str = "INBOX") -> list[int]:
    mailbox = await stores.mail.open(account.id, name)
    assert mailbox is not None
    # Not by uids(): that would count as being shown.
    found = [uid for uid in range(1, mailbox.info().uid_next) if mailbox.entry(uid)]
    mailbox.close()
    return found


async def look(stores: Stores, account: Account, name: str = "INBOX") -> None:
    """Do what a session does with a mailbox."""
    mailbox = await stores.mail.open(account.id, name)
    assert mailbox is not None
    mailbox.uids()
    mailbox.close()
    await stores.retention.save_shown()


async def test_what_is_older_goes_from_every_mailbox_and_account(stores: Stores) -> None:
    ann, bob = await stores.account("ann"), await stores.account("bob")
    other = await stores.mail.create(ann.id, "Other", None, NOW_S)
    await stores.deliver(ann.inbox, bob.inbox, date_s=NOW_S - 1)
    await stores.deliver(ann.inbox, date_s=NOW_S)
    await stores.deliver(other.id, flags=SEEN, date_s=NOW_S - 100)
    assert await prune(stores, OLD) == 3
    assert await held(stores, ann) == [2]
    assert await held(stores, bob) == []
    assert await held(stores, ann, "Other") == []
    assert await prune(stores, OLD) == 0


async def test_removal_is_an_ordinary_expunge(stores: Stores) -> None:
    account = await stores.account()
    for date_s in (NOW_S - 2, NOW_S, NOW_S - 1):
        await stores.deliver(account.inbox, date_s=date_s)
    mailbox = await stores.mail.open(account.id, "INBOX")
    before = mailbox.info()
    stores.hints.published.clear()
    assert await prune(stores, OLD) == 2
    after = mailbox.info()
    assert after.highest_modseq > before.highest_modseq
    assert after.uid_next == before.uid_next
    assert (after.messages, after.unseen) == (1, 1)
    assert after.octets == await stores.mail.usage(account.id) == before.octets // 3
    changes = await mailbox.changes_since(before.highest_modseq, before.uid_next)
    assert list(changes.expunged) == [1, 3]
    assert account.inbox in {hint.mailbox for hint in stores.hints.published}
    fresh = await stores.accounts.get(account.address)
    assert (fresh.used_bytes, fresh.used_messages) == (after.octets, 1)


async def test_a_dry_run_counts_what_a_real_one_removes(stores: Stores) -> None:
    account = await stores.account()
    for number in range(10):
        await stores.deliver(account.inbox, date_s=NOW_S - 5 + number)
    counted = await prune(stores, OLD, is_dry_run=True)
    assert len(await held(stores, account)) == 10
    assert await prune(stores, OLD) == counted == 5


async def test_messages_of_one_instant_are_found_once_each(stores: Stores) -> None:
    account = await stores.account()
    for _ in range(10):
        await stores.deliver(account.inbox, account.inbox, date_s=NOW_S - 5)
    assert await prune(stores, OLD, is_dry_run=True) == 20
    assert await prune(stores, OLD) == 20


@pytest.mark.parametrize(("is_seen", "left"), [(True, [2]), (False, [1])])
async def test_seen_and_unseen_mail_are_told_apart(
    stores: Stores, is_seen: bool, left: list[int]
) -> None:
    account = await stores.account()
    await stores.deliver(account.inbox, flags=SEEN, date_s=1)
    await stores.deliver(account.inbox, date_s=1)
    rule = attrs.evolve(OLD, is_seen=is_seen)
    assert await prune(stores, rule, is_dry_run=True) == 1
    assert await prune(stores, rule) == 1
    assert await held(stores, account) == left


@pytest.mark.parametrize("threshold", [1000, 65_536, 200_000])
async def test_large_is_strictly_larger(stores: Stores, threshold: int) -> None:
    account = await stores.account()
    for size in (threshold, threshold + 1):
        content = b"x" * (size - len(HEADER))
        await stores.deliver(account.inbox, content=content, date_s=1)
    assert await prune(stores, attrs.evolve(OLD, larger_than_bytes=threshold)) == 1
    assert await held(stores, account) == [1]


async def test_what_no_session_was_shown_stays(stores: Stores) -> None:
    account = await stores.account()
    other = await stores.mail.create(account.id, "Other", None, NOW_S)
    rule = attrs.evolve(OLD, was_shown=True)
    for mailbox in (account.inbox, other.id):
        await stores.deliver(mailbox, date_s=1)
    assert await prune(stores, rule) == 0
    await look(stores, account)
    await stores.deliver(account.inbox, date_s=1)
    assert await prune(stores, rule, is_dry_run=True) == 1
    assert await prune(stores, rule) == 1
    assert await held(stores, account) == [2]
    assert await held(stores, account, "Other") == [1]
    await look(stores, account)
    assert await prune(stores, rule) == 1


async def test_what_a_session_hears_of_while_it_is_there_was_shown(stores: Stores) -> None:
    account = await stores.account()
    mailbox = await stores.mail.open(account.id, "INBOX")
    info = mailbox.info()
    await stores.deliver(account.inbox, date_s=1)
    await stores.retention.save_shown()
    assert await prune(stores, attrs.evolve(OLD, was_shown=True)) == 0
    await mailbox.changes_since(info.highest_modseq, info.uid_next)
    await stores.retention.save_shown()
    assert await prune(stores, attrs.evolve(OLD, was_shown=True)) == 1


async def test_marks_of_a_deleted_mailbox_do_not_matter(stores: Stores) -> None:
    account = await stores.account()
    await stores.mail.create(account.id, "Other", None, NOW_S)
    mailbox = await stores.mail.open(account.id, "Other")
    mailbox.uids()
    mailbox.close()
    await stores.mail.delete(account.id, "Other")
    await stores.retention.save_shown()


async def test_trimming_takes_the_oldest_of_all_mailboxes(stores: Stores) -> None:
    account = await stores.account()
    other = await stores.mail.create(account.id, "Other", None, NOW_S)
    for number in range(6):
        box = other.id if number % 2 else account.inbox
        await stores.deliver(box, date_s=NOW_S - 1000 + number)
    await stores.deliver(account.inbox, date_s=NOW_S)
    size = await stores.mail.usage(account.id) // 7
    goal = TrimGoal(octets=4 * size, messages=100, older_than_s=NOW_S)
    assert await stores.retention.trim(account.id, goal, is_dry_run=True) == 3
    assert await stores.retention.trim(account.id, goal) == 3
    assert await held(stores, account) == [3, 4]
    assert await held(stores, account, "Other") == [2, 3]
    assert await stores.retention.trim(account.id, goal) == 0
    spare = attrs.evolve(goal, octets=0, older_than_s=NOW_S - 998)
    assert await stores.retention.trim(account.id, spare) == 0


async def test_trimming_goes_by_number_as_well(stores: Stores) -> None:
    account = await stores.account()
    for number in range(6):
        await stores.deliver(account.inbox, date_s=number)
    goal = TrimGoal(octets=10**9, messages=4, older_than_s=NOW_S)
    assert await stores.retention.trim(account.id, goal) == 2
    assert await held(stores, account) == [3, 4, 5, 6]
    used = await stores.mail.trim(account.id, 10**9, NOW_S, target_messages=1)
    assert used == await stores.mail.usage(account.id)
    assert await held(stores, account) == [6]


async def test_accounts_nobody_used_are_found_by_their_creation(stores: Stores) -> None:
    ann, bob = await stores.account("ann"), await stores.account("bob")
    carol = await stores.account("carol")
    await stores.accounts.touch(bob.id, NOW_S)
    find = stores.retention.unused_accounts
    after = NOW_S + 1
    assert await find(NOW_S, NOW_S, None, 10) == []
    found = await find(after, after, None, 1)
    assert [one.account.id for one in found] == [ann.id]
    found = await find(after, after, (found[0].since_s, found[0].account.id), 10)
    assert [one.account.address for one in found] == [carol.address]
    assert await find(after, after, (found[0].since_s, found[0].account.id), 10) == []


async def test_imported_accounts_nobody_used_have_a_time_of_their_own(stores: Stores) -> None:
    ann = await stores.account("ann")
    bob, carol = [await stores.account(name, is_imported=True) for name in ("bob", "carol")]
    await stores.accounts.touch(carol.id, NOW_S)
    find = stores.retention.unused_accounts
    found = await find(NOW_S + 1, NOW_S, None, 10)
    assert [one.account.id for one in found] == [ann.id]
    found = await find(NOW_S + 1, NOW_S + 1, None, 10)
    assert [one.account.id for one in found] == [ann.id, bob.id]


async def test_inactive_accounts_are_found_by_their_last_login(stores: Stores) -> None:
    ann, bob = await stores.account("ann"), await stores.account("bob")
    await stores.account("carol")
    await stores.accounts.touch(ann.id, NOW_S)
    await stores.accounts.touch(bob.id, NOW_S - DAY_S)
    find = stores.retention.inactive_accounts
    assert [one.account.id for one in await find(NOW_S, None, 10)] == [bob.id]
    found = await find(NOW_S + 1, None, 1)
    assert [one.account.id for one in found] == [bob.id]
    found = await find(NOW_S + 1, (found[0].since_s, found[0].account.id), 10)
    assert [one.account.id for one in found] == [ann.id]


async def test_usages_are_paged_by_account(stores: Stores) -> None:
    ann, bob = await stores.account("ann"), await stores.account("bob")
    other = await stores.mail.create(ann.id, "Other", None, NOW_S)
    await stores.deliver(ann.inbox, other.id)
    (first,) = await stores.retention.usages(None, 1)
    assert (first.account, first.messages) == (ann.id, 2)
    assert first.octets == await stores.mail.usage(ann.id)
    (second,) = await stores.retention.usages(first.account, 5)
    assert (second.account, second.octets, second.messages) == (bob.id, 0, 0)


async def test_old_tokens_are_forgotten(stores: Stores) -> None:
    account = await stores.account()
    await stores.tokens.add(account.id, "old", NOW_S - 100)
    await stores.tokens.add(account.id, "new", NOW_S)
    assert await stores.tokens.of(account.id, NOW_S) == ["old", "new"]
    assert await stores.retention.prune_tokens(NOW_S, is_dry_run=True) == 1
    assert await stores.retention.prune_tokens(NOW_S) == 1
    assert await stores.tokens.of(account.id, NOW_S) == ["new"]
    assert await stores.retention.prune_tokens(NOW_S) == 0


async def test_facts_are_remembered(stores: Stores) -> None:
    assert await stores.retention.recall("a fact") is None
    await stores.retention.remember("a fact", 2**40)
    await stores.retention.remember("a fact", 5)
    assert await stores.retention.recall("a fact") == 5


async def test_copies_respect_the_number_of_messages(stores: Stores) -> None:
    account = await stores.account()
    for _ in range(3):
        await stores.deliver(account.inbox)

    async def copy(limit: int) -> object:
        return await stores.mail.copy(
            account.inbox, [1, 2], account.id, "INBOX", limit_bytes=None, limit_messages=limit
        )

    assert str(await copy(4)) == "MailboxProblem.OVER_QUOTA"
    assert await held(stores, account) == [1, 2, 3]
    await copy(5)
    assert await held(stores, account) == [1, 2, 3, 4, 5]


async def test_deleting_an_account_may_bar_its_address(stores: Stores) -> None:
    account = await stores.account()
    assert await stores.accounts.delete(account.id, None, barred_for="because")
    assert await stores.accounts.is_barred(account.address)
    assert not await stores.accounts.delete(account.id, None)


async def test_an_account_that_was_used_meanwhile_is_not_deleted(stores: Stores) -> None:
    account = await stores.account()
    await stores.accounts.touch(account.id, NOW_S)
    delete = stores.accounts.delete
    assert not await delete(account.id, None, unless_used_since_s=NOW_S)
    assert await stores.accounts.get(account.address) is not None
    assert await delete(account.id, None, unless_used_since_s=NOW_S + 1)
    assert await stores.accounts.get(account.address) is None
