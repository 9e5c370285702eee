"""Accounts in the operator's hands."""

from __future__ import annotations

import pytest

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.usecases import manage_accounts
from chatmail.domain.usecases.manage_accounts import AccountOrder, CannotCreate, Created
from tests.unit.fakes.operator import Operator

ANN = EmailAddress.parse("annannann@chat.example")


async def test_an_account_is_created_though_registration_is_closed() -> None:
    world = Operator()
    created = await world.manage_accounts().create(ANN, "a-long-password")
    assert created == Created(address=ANN, password="a-long-password")
    assert "a-long-password" not in repr(created)
    account = await world.store.get(ANN)
    assert account is not None
    assert account.secret == await world.hasher.hash(b"a-long-password")
    assert ("info", "account_created", {"account": ANN, "way": "operator"}) in world.log.records


async def test_a_password_is_drawn_where_none_is_given() -> None:
    created = await Operator().manage_accounts().create(ANN)
    assert isinstance(created, Created)
    assert len(created.password) == 22


async def test_an_account_is_not_created_twice_abroad_or_for_the_blocked() -> None:
    world = Operator()
    manage = world.manage_accounts()
    await manage.create(ANN)
    assert await manage.create(ANN) is CannotCreate.EXISTS
    assert await manage.create(EmailAddress.parse("a@far.example")) is CannotCreate.FOREIGN
    bob = EmailAddress.parse("bobbobbob@chat.example")
    await manage.ban(bob)
    assert await manage.create(bob) is CannotCreate.BARRED
    eve = EmailAddress.parse("eveeveeve@chat.example")
    assert await manage.create(eve, "short") is CannotCreate.PASSWORD
    assert await manage.create(eve, "x" * 257) is CannotCreate.PASSWORD
    assert await world.store.count() == 1


async def test_random_accounts_have_fresh_names() -> None:
    world = Operator()
    first, second = [await world.manage_accounts().create_random() for _ in range(2)]
    assert isinstance(first, Created)
    assert isinstance(second, Created)
    assert first.address != second.address
    assert first.address.domain == "chat.example"
    assert len(first.address.local) == 9


async def test_deleting_blocks_the_address_and_unbanning_frees_it() -> None:
    world = Operator()
    manage = world.manage_accounts()
    await manage.create(ANN)
    assert await manage.delete(ANN, "spam") is True
    facts = await manage.facts(ANN)
    assert facts is not None
    assert facts.summary is None
    assert facts.barred is not None
    assert facts.barred.reason == "spam"
    assert await manage.delete(ANN) is False
    assert await manage.unban(ANN) is True
    assert await manage.unban(ANN) is False
    assert isinstance(await manage.create(ANN), Created)


async def test_accounts_are_found_by_a_part_and_counted() -> None:
    world = Operator()
    manage = world.manage_accounts()
    for name in ("carolcaro", "annannann", "bobbobbob"):
        await manage.create(EmailAddress.parse(f"{name}@chat.example"))
    await manage.ban(EmailAddress.parse("bobbobbob@chat.example"))
    found = await manage.find()
    assert [one.address.local for one in found] == ["annannann", "bobbobbob", "carolcaro"]
    assert [one.is_blocked for one in found] == [False, True, False]
    assert [one.address.local for one in await manage.find("BOB")] == ["bobbobbob"]
    assert len(await manage.find(limit=2)) == 2
    totals = await manage.totals()
    assert (totals.accounts, totals.barred) == (3, 1)
    assert [str(one.address) for one in await manage.block_list()] == ["bobbobbob@chat.example"]
    assert await manage.facts(EmailAddress.parse("nobody@chat.example")) is None


async def test_a_long_list_is_read_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manage_accounts, "PAGE", 2)
    manage = Operator().manage_accounts()
    for letter in "abcd":
        await manage.create(EmailAddress.parse(f"{letter * 9}@chat.example"))
    assert [one.address.local[0] for one in await manage.find()] == list("abcd")
    assert [one.address.local[0] for one in await manage.find(limit=2)] == list("ab")


async def test_of_two_who_create_one_account_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Operator()
    manage = world.manage_accounts()

    async def nobody(address: EmailAddress) -> None:
        return None

    await manage.create(ANN)
    monkeypatch.setattr(world.store, "get", nobody)
    assert await manage.create(ANN) is CannotCreate.EXISTS


async def test_names_with_a_tombstone_are_not_drawn_and_drawing_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = Operator()

    async def buried(address: EmailAddress, now_s: float) -> object:
        return object()

    monkeypatch.setattr(world.store, "tombstone", buried)
    assert await world.manage_accounts().create_random() is CannotCreate.NO_NAME


async def test_accounts_are_filtered_by_use_and_sorted() -> None:
    world = Operator()
    manage = world.manage_accounts()
    for letter in "abc":
        await manage.create(EmailAddress.parse(f"{letter * 9}@chat.example"))
        world.clock.advance(40 * 86400)
    b = await world.store.get(EmailAddress.parse("bbbbbbbbb@chat.example"))
    assert b is not None
    await world.store.touch(b.id, int(world.clock.now_s()))

    async def letters(**wanted: object) -> str:
        found = await manage.find(**wanted)  # type: ignore[arg-type]
        return "".join(one.address.local[0] for one in found)

    assert await letters(inactive_s=90 * 86400.0) == "a"
    assert await letters(inactive_s=30 * 86400.0) == "ac"
    assert await letters(order=AccountOrder.CREATED) == "cba"
    assert await letters(order=AccountOrder.CREATED, limit=1) == "c"
    assert await letters(order=AccountOrder.LAST_LOGIN) == "acb"
    assert await letters(order=AccountOrder.USED) == "abc"
    assert await letters(is_over_quota=True) == ""
