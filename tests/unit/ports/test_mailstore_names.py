"""Contract of `MailStore`: mailboxes are made, listed, renamed, subscribed to, deleted."""

from __future__ import annotations

import pytest

from chatmail.domain.model.errors import MailboxGone
from chatmail.domain.model.mailbox import MailboxInfo
from chatmail.domain.ports.mailstore import FlagOperation, MailboxProblem
from tests.unit.ports.inboxes import SEEN, SIZE, inbox_with, uids_of
from tests.unit.ports.world import NOW_S, Stores


async def test_create_list_and_info(stores: Stores) -> None:
    account = await stores.account()
    made = await stores.mail.create(account.id, "Sent", "\\Sent", NOW_S)
    assert isinstance(made, MailboxInfo)
    assert made.special_use == "\\Sent"
    assert (
        await stores.mail.create(account.id, "Sent", None, NOW_S) is MailboxProblem.ALREADY_EXISTS
    )
    assert [info.name for info in await stores.mail.list(account.id)] == ["INBOX", "Sent"]
    assert await stores.mail.info(account.id, "Sent") == made
    assert await stores.mail.info(account.id, "None") is None


async def test_uid_validity_grows_with_every_mailbox_of_an_account(stores: Stores) -> None:
    account = await stores.account()
    seen = [(await stores.mail.info(account.id, "INBOX")).uid_validity]
    for _ in range(3):
        made = await stores.mail.create(account.id, "Other", None, NOW_S)
        seen.append(made.uid_validity)
        await stores.mail.delete(account.id, "Other")
    assert seen == sorted(set(seen))
    later = await stores.mail.create(account.id, "Other", None, NOW_S + 1000)
    assert later.uid_validity == NOW_S + 1000


async def test_a_deleted_mailbox_is_gone_for_those_who_have_it_open(stores: Stores) -> None:
    account = await stores.account()
    made = await stores.mail.create(account.id, "Other", None, NOW_S)
    await stores.deliver(made.id)
    opened = await stores.mail.open(account.id, "Other")
    hints = []
    with stores.hints.subscribe(made.id, lambda: hints.append(1)):
        assert await stores.mail.delete(account.id, "Other") is None
    assert hints
    with pytest.raises(MailboxGone):
        opened.info()
    with pytest.raises(MailboxGone):
        opened.uids()
    with pytest.raises(MailboxGone):
        opened.has_news(1, 1)
    with pytest.raises(MailboxGone):
        await opened.changes_since(1, 1)
    with pytest.raises(MailboxGone):
        await stores.mail.set_flags(made.id, [1], FlagOperation.ADD, SEEN)
    assert await stores.mail.open(account.id, "Other") is None
    assert await stores.mail.usage(account.id) == 0
    opened.close()


async def test_inbox_cannot_be_deleted_and_the_missing_not_found(stores: Stores) -> None:
    account = await stores.account()
    assert await stores.mail.delete(account.id, "INBOX") is MailboxProblem.CANNOT
    assert await stores.mail.delete(account.id, "Other") is MailboxProblem.NONEXISTENT


async def test_delete_leaves_children(stores: Stores) -> None:
    account = await stores.account()
    for name in ("a", "a/b"):
        await stores.mail.create(account.id, name, None, NOW_S)
    await stores.mail.delete(account.id, "a")
    assert [info.name for info in await stores.mail.list(account.id)] == ["INBOX", "a/b"]


async def test_rename_takes_children_along(stores: Stores) -> None:
    account = await stores.account()
    for name in ("a", "a/b", "ab"):
        await stores.mail.create(account.id, name, None, NOW_S)
    opened = await stores.mail.open(account.id, "a/b")
    assert await stores.mail.rename(account.id, "a", "c", NOW_S) is None
    names = [info.name for info in await stores.mail.list(account.id)]
    assert names == ["INBOX", "ab", "c", "c/b"]
    assert opened.name == "c/b"
    assert await stores.mail.info(account.id, "a") is None


async def test_rename_below_itself(stores: Stores) -> None:
    account = await stores.account()
    for name in ("a", "a/a", "a/a/a"):
        await stores.mail.create(account.id, name, None, NOW_S)
    assert await stores.mail.rename(account.id, "a", "a/x", NOW_S) is None
    names = [info.name for info in await stores.mail.list(account.id)]
    assert names == ["INBOX", "a/x", "a/x/a", "a/x/a/a"]
    for name in names:
        assert await stores.mail.open(account.id, name) is not None


async def test_rename_refusals(stores: Stores) -> None:
    account = await stores.account()
    for name in ("a", "a/b", "c/b"):
        await stores.mail.create(account.id, name, None, NOW_S)
    assert await stores.mail.rename(account.id, "x", "y", NOW_S) is MailboxProblem.NONEXISTENT
    assert await stores.mail.rename(account.id, "a", "c/b", NOW_S) is MailboxProblem.ALREADY_EXISTS
    assert await stores.mail.rename(account.id, "a", "c", NOW_S) is MailboxProblem.ALREADY_EXISTS
    names = [info.name for info in await stores.mail.list(account.id)]
    assert names == ["INBOX", "a", "a/b", "c/b"]


async def test_rename_of_inbox_moves_its_messages(stores: Stores) -> None:
    mailbox = await inbox_with(stores, 2)
    account = await stores.account()
    assert await stores.mail.rename(account.id, "INBOX", "Old", NOW_S) is None
    assert mailbox.info().messages == 0
    assert mailbox.info().uid_next == 3
    old = await stores.mail.open(account.id, "Old")
    assert uids_of(old) == [1, 2]
    assert await stores.mail.usage(account.id) == 2 * SIZE


async def test_subscription(stores: Stores) -> None:
    account = await stores.account()
    await stores.mail.create(account.id, "Other", None, NOW_S)
    assert await stores.mail.subscribe(account.id, "Other", True)
    assert (await stores.mail.info(account.id, "Other")).is_subscribed
    assert await stores.mail.subscribe(account.id, "Other", False)
    assert not (await stores.mail.info(account.id, "Other")).is_subscribed
    assert not await stores.mail.subscribe(account.id, "None", True)
