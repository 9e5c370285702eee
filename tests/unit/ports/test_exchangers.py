"""Exchangers: named, claimed once per interval, and what was taken from them."""

from __future__ import annotations

import attrs
import trio

from chatmail.domain.model.exchanger import Exchanger
from tests.patience import PATIENCE_S
from tests.unit.ports.world import NOW_S, Stores

HUB = Exchanger(name="hub", url="https://hub.test", interval_s=60)


async def test_they_are_listed_by_name(stores: Stores) -> None:
    assert list(await stores.exchangers.all()) == []
    other = Exchanger(name="a", url="https://a.test/x", is_enabled=False, interval_s=9)
    await stores.exchangers.put(HUB)
    await stores.exchangers.put(other)
    assert list(await stores.exchangers.all()) == [other, HUB]
    assert await stores.exchangers.remove("a")
    assert not await stores.exchangers.remove("a")
    assert list(await stores.exchangers.all()) == [HUB]


async def test_each_is_asked_once_in_an_interval(stores: Stores) -> None:
    store = stores.exchangers
    await store.put(HUB)
    assert await store.claim("hub", NOW_S)
    assert not await store.claim("hub", NOW_S + 59)
    assert await store.claim("hub", NOW_S + 60)
    assert not await store.claim("other", NOW_S)
    await store.put(attrs.evolve(HUB, url="https://new.test"))
    (found,) = await store.all()
    assert (found.url, found.last_poll_s) == ("https://new.test", NOW_S + 60)
    # The clock was set back.
    assert await store.claim("hub", NOW_S - 5000)
    assert not await store.claim("hub", NOW_S - 4999)


async def test_one_that_is_off_is_not_asked(stores: Stores) -> None:
    store = stores.exchangers
    await store.put(HUB)
    assert await store.enable("hub", False)
    assert not await store.claim("hub", NOW_S)
    assert await store.enable("hub", True)
    assert await store.claim("hub", NOW_S)
    assert not await store.enable("other", True)


async def test_what_was_taken_is_known_for_a_while(stores: Stores) -> None:
    store = stores.exchangers
    assert not await store.is_taken(b"key", NOW_S)
    await store.note_taken(b"key", NOW_S + 100)
    assert await store.is_taken(b"key", NOW_S + 99)
    assert not await store.is_taken(b"key", NOW_S + 100)
    assert not await store.is_taken(b"other", NOW_S)


async def test_waiting_ends_with_a_change(stores: Stores) -> None:
    with trio.fail_after(PATIENCE_S):
        await stores.exchangers.put(HUB)
        await stores.exchangers.wait_for_more()
        await stores.exchangers.enable("hub", False)
        await stores.exchangers.wait_for_more()
