"""Contract of `DeviceTokens`."""

from __future__ import annotations

from tests.unit.ports.world import DAY_S, NOW_S, Stores


async def test_tokens_are_an_append_set_in_order_of_first_registration(stores: Stores) -> None:
    ann = await stores.account()
    for token in ("1111", "2222", "1111"):
        await stores.tokens.add(ann.id, token, NOW_S)
    assert await stores.tokens.of(ann.id, NOW_S) == ["1111", "2222"]


async def test_a_removed_token_is_gone_and_the_others_stay(stores: Stores) -> None:
    ann = await stores.account()
    for token in ("1111", "2222"):
        await stores.tokens.add(ann.id, token, NOW_S)
    await stores.tokens.remove(ann.id, "1111")
    await stores.tokens.remove(ann.id, "unknown")
    assert await stores.tokens.of(ann.id, NOW_S) == ["2222"]


async def test_tokens_live_90_days_from_their_last_refresh(stores: Stores) -> None:
    ann = await stores.account()
    await stores.tokens.add(ann.id, "kept", NOW_S)
    await stores.tokens.add(ann.id, "lost", NOW_S)
    await stores.tokens.add(ann.id, "kept", NOW_S + 10 * DAY_S)
    assert await stores.tokens.of(ann.id, NOW_S + 90 * DAY_S) == ["kept"]


async def test_tokens_from_the_future_are_ignored(stores: Stores) -> None:
    ann = await stores.account()
    await stores.tokens.add(ann.id, "near", NOW_S + 60)
    await stores.tokens.add(ann.id, "far", NOW_S + 61)
    assert await stores.tokens.of(ann.id, NOW_S) == ["near"]


async def test_of_more_than_30_the_oldest_goes(stores: Stores) -> None:
    ann = await stores.account()
    for number in range(31):
        await stores.tokens.add(ann.id, f"t{number}", NOW_S + number)
    found = await stores.tokens.of(ann.id, NOW_S + 31)
    assert found == [f"t{number}" for number in range(1, 31)]
