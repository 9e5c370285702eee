"""Contract of `AccountStore`."""

from __future__ import annotations

import trio

from chatmail.domain.model.account import Account, NewAccount
from chatmail.domain.model.address import EmailAddress
from tests.unit.ports.world import DAY_S, NOW_S, Stores, make_report

ANN = EmailAddress.parse("ann@relay.test")


async def test_a_new_account_has_an_empty_subscribed_inbox(stores: Stores) -> None:
    account = await stores.account()
    (inbox,) = await stores.mail.list(account.id)
    assert (inbox.id, inbox.name, inbox.messages) == (account.inbox, "INBOX", 0)
    assert inbox.is_subscribed
    assert inbox.uid_next == 1
    assert inbox.uid_validity >= NOW_S


async def test_an_account_is_found_as_it_was_created(stores: Stores) -> None:
    account = await stores.account()
    assert await stores.accounts.get(ANN) == account
    assert account.secret == "hash of ann"
    assert await stores.accounts.get(EmailAddress.parse("bob@relay.test")) is None


async def test_resolve_keeps_order_doubles_and_gaps(stores: Stores) -> None:
    ann, bob = await stores.account("ann"), await stores.account("bob")
    nobody = EmailAddress.parse("nobody@relay.test")
    found = await stores.accounts.resolve([bob.address, nobody, ann.address, bob.address])
    assert found == [bob, None, ann, bob]


async def test_of_concurrent_creations_exactly_one_creates(stores: Stores) -> None:
    results: list[tuple[Account, bool]] = []

    async def create(secret: str) -> None:
        new = NewAccount(address=ANN, secret=secret, created_s=NOW_S, first_login_day=None)
        results.append(await stores.accounts.create(new))

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(create, f"hash {number}")
    assert sum(is_new for _, is_new in results) == 1
    assert len({(account.id, account.secret) for account, _ in results}) == 1
    assert await stores.accounts.count() == 1


async def test_used_bytes_follow_every_commit(stores: Stores) -> None:
    account = await stores.account()
    await stores.deliver(account.inbox, flags=frozenset({"\\Deleted"}))
    await stores.deliver(account.inbox)
    both = (await stores.accounts.get(ANN)).used_bytes
    assert both == await stores.mail.usage(account.id) > 0
    await stores.mail.expunge(account.inbox, None)
    assert (await stores.accounts.get(ANN)).used_bytes == both // 2


async def test_secret_block_and_login_day_are_kept(stores: Stores) -> None:
    account = await stores.account()
    await stores.accounts.set_secret(account.id, "new hash")
    await stores.accounts.set_blocked(account.id, True)
    await stores.accounts.touch(account.id, NOW_S // DAY_S * DAY_S)
    found = await stores.accounts.get(ANN)
    assert found is not None
    assert found.secret == "new hash"
    assert found.is_blocked
    assert found.last_login_day == NOW_S // DAY_S * DAY_S
    await stores.accounts.set_blocked(account.id, False)
    assert not (await stores.accounts.get(ANN)).is_blocked


async def test_the_block_list_names_addresses(stores: Stores) -> None:
    assert not await stores.accounts.is_barred(ANN)
    await stores.accounts.bar(ANN, "manually blocked", NOW_S)
    await stores.accounts.bar(ANN, "again", NOW_S)
    assert await stores.accounts.is_barred(ANN)
    await stores.accounts.unbar(ANN)
    assert not await stores.accounts.is_barred(ANN)


async def test_the_block_list_is_right_about_addresses_with_accounts(stores: Stores) -> None:
    account = await stores.account("ann")
    for _ in range(2):
        assert not await stores.accounts.is_barred(account.address)
        assert not await stores.accounts.is_barred(account.address)
        await stores.accounts.bar(account.address, "manually blocked", NOW_S)
        assert await stores.accounts.is_barred(account.address)
        assert await stores.accounts.is_barred(account.address)
        await stores.accounts.unbar(account.address)
    await stores.accounts.delete(account.id, None, barred_for="banned")
    assert await stores.accounts.is_barred(account.address)


async def test_deletion_takes_everything_of_the_account(stores: Stores) -> None:
    ann, bob = await stores.account("ann"), await stores.account("bob")
    await stores.deliver(ann.inbox, bob.inbox, reports=(make_report(),))
    await stores.mail.create(ann.id, "Other", None, NOW_S)
    await stores.tokens.add(ann.id, "token", NOW_S)
    await stores.accounts.delete(ann.id, None)
    assert await stores.accounts.get(ANN) is None
    assert await stores.accounts.count() == 1
    assert await stores.mail.list(ann.id) == []
    assert await stores.tokens.of(ann.id, NOW_S) == []
    assert await stores.queue.next_due_s() is None
    assert await stores.deliver(ann.inbox) == (None,)
    opened = await stores.mail.open(bob.id, "INBOX")
    assert opened is not None
    entry = opened.entry(opened.uids()[0][0])
    assert (await stores.mail.read(entry, 0, entry.size)).endswith(b"hello\r\n")


async def test_a_tombstone_holds_the_old_hash_until_it_expires(stores: Stores) -> None:
    account = await stores.account()
    await stores.accounts.delete(account.id, NOW_S + 100)
    stone = await stores.accounts.tombstone(ANN, NOW_S)
    assert stone is not None
    assert (stone.secret, stone.expires_s) == ("hash of ann", NOW_S + 100)
    assert await stores.accounts.tombstone(ANN, NOW_S + 100) is None
    await stores.account()
    assert await stores.accounts.tombstone(ANN, NOW_S) is None


async def test_deletion_without_tombstone_leaves_none(stores: Stores) -> None:
    account = await stores.account()
    await stores.accounts.delete(account.id, None)
    assert await stores.accounts.tombstone(ANN, NOW_S) is None
