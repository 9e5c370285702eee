"""The contract of `AccountRoster`, on every store."""

from __future__ import annotations

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.ports.accounts import AccountRoster
from tests.unit.fakes.roster import MemoryRoster
from tests.unit.ports.world import DAY_S, HEADER, NOW_S, Stores


def roster_of(stores: Stores) -> AccountRoster:
    if stores.store is None:
        return MemoryRoster(stores.accounts)  # type: ignore[arg-type]
    roster: AccountRoster = stores.store.roster
    return roster


async def test_accounts_come_by_address_and_page(stores: Stores) -> None:
    for name in ("carol", "ann", "bob"):
        await stores.account(name)
    roster = roster_of(stores)
    first = await roster.page(None, 2)
    assert [one.address.local for one in first] == ["ann", "bob"]
    rest = await roster.page(first[-1].address, 2)
    assert [one.address.local for one in rest] == ["carol"]
    assert await roster.page(rest[-1].address, 2) == []


async def test_a_summary_tells_use_days_and_blocks(stores: Stores) -> None:
    ann = await stores.account("ann")
    await stores.deliver(ann.inbox, content=b"hello\r\n")
    await stores.accounts.touch(ann.id, NOW_S - NOW_S % DAY_S)
    await stores.accounts.set_blocked(ann.id, True)
    one = await roster_of(stores).summary(ann.address)
    assert one is not None
    assert (one.id, one.is_blocked, one.created_s) == (ann.id, True, NOW_S)
    assert (one.used_bytes, one.used_messages) == (len(HEADER) + 7, 1)
    assert one.first_login_s == one.last_login_s == NOW_S - NOW_S % DAY_S
    nobody = EmailAddress.parse("nobody@relay.test")
    assert await roster_of(stores).summary(nobody) is None


async def test_an_empty_account_holds_nothing_and_was_never_used(stores: Stores) -> None:
    ann = await stores.account("ann")
    one = await roster_of(stores).summary(ann.address)
    assert one is not None
    assert (one.used_bytes, one.used_messages, one.last_login_s) == (0, 0, None)


async def test_the_block_list_is_paged_counted_and_looked_up(stores: Stores) -> None:
    roster = roster_of(stores)
    addresses = [EmailAddress.parse(f"{name}@relay.test") for name in ("a", "b", "c")]
    for address in addresses:
        await stores.accounts.bar(address, f"reason {address.local}", NOW_S)
    assert await roster.count_barred() == 3
    first = await roster.barred_page(None, 2)
    assert [(str(one.address), one.reason) for one in first] == [
        ("a@relay.test", "reason a"),
        ("b@relay.test", "reason b"),
    ]
    assert [one.address for one in await roster.barred_page(first[-1].address, 2)] == addresses[2:]
    entry = await roster.barred_entry(addresses[0])
    assert entry is not None
    assert entry.reason == "reason a"
    await stores.accounts.unbar(addresses[0])
    assert await roster.barred_entry(addresses[0]) is None
    assert await roster.count_barred() == 2
