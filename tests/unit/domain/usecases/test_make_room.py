"""Room by trimming: when it is tried, when it is not, and what it spares."""

from __future__ import annotations

import pytest

from chatmail.domain.model.account import Account
from chatmail.domain.model.settings import DAY_S
from chatmail.domain.policy.quota import FRUITLESS_S
from chatmail.domain.usecases import make_room
from chatmail.domain.usecases.make_room import MakeRoom
from tests.unit.domain.usecases.relay import NOW_S, MemoryRelay
from tests.unit.ports.world import HEADER, Stores

BOB = "bob@relay.test"
OLD = int(NOW_S) - 2 * DAY_S
YOUNG = int(NOW_S) - DAY_S + 3600
SIZE = 100


class Room:
    """An account with messages of SIZE octets, and how often it was trimmed."""

    def __init__(self, old: int = 0, young: int = 0) -> None:
        self.relay = MemoryRelay()
        self.relay.limit(max_mailbox_bytes=10 * SIZE)
        self.bob = self.relay.accounts.add(BOB)
        self.make = MakeRoom(
            accounts=self.relay.accounts,  # type: ignore[arg-type]
            mail=self.relay.mail,
            clock=self.relay.clock,
        )
        self.trims = 0
        trim = self.relay.mail.trim

        async def counting(*args: object, **more: object) -> int:
            self.trims += 1
            return await trim(*args, **more)  # type: ignore[arg-type]

        self.relay.mail.trim = counting  # type: ignore[method-assign,assignment]
        self._fill = [OLD] * old + [YOUNG] * young

    async def fill(self) -> Room:
        for date_s in self._fill:
            await self.add(date_s)
        return self

    async def add(self, date_s: int) -> None:
        stores = Stores.__new__(Stores)
        stores.intake = self.relay.intake
        content = b"x" * (SIZE - len(HEADER))
        await stores.deliver(self.bob.inbox, content=content, date_s=date_s)

    async def account(self) -> Account:
        (found,) = await self.relay.accounts.resolve([self.bob.address])
        assert found is not None
        return found

    async def before(self, size: int = SIZE) -> bool:
        return await self.make.before(await self.account(), size, self.relay.settings)

    async def after(self) -> None:
        """Deliver one more and clean up behind it."""
        account = await self.account()
        await self.add(int(NOW_S))
        await self.make.after([account], SIZE, self.relay.settings)


async def test_what_fits_is_decided_without_a_look_at_the_store() -> None:
    room = await Room(old=9).fill()
    assert await room.before()
    assert room.trims == 0


async def test_what_does_not_fit_makes_the_oldest_go() -> None:
    room = await Room(old=10).fill()
    assert await room.before()
    assert (await room.account()).used_bytes == 7 * SIZE


async def test_a_large_message_makes_more_go() -> None:
    room = await Room(old=10).fill()
    assert await room.before(5 * SIZE)
    assert (await room.account()).used_bytes == 5 * SIZE


async def test_mail_of_the_last_day_is_spared_whatever_the_need() -> None:
    room = await Room(young=10).fill()
    assert not await room.before()
    assert (await room.account()).used_bytes == 10 * SIZE


async def test_what_can_never_fit_costs_nobody_his_mail() -> None:
    room = await Room(old=10).fill()
    assert not await room.before(11 * SIZE)
    assert room.trims == 0


async def test_a_delivery_above_three_quarters_is_followed_by_a_trim() -> None:
    room = await Room(old=6).fill()
    await room.after()
    assert room.trims == 0
    await room.after()
    assert room.trims == 1
    assert (await room.account()).used_bytes == 7 * SIZE


async def test_a_trim_in_vain_is_not_tried_again_for_a_while() -> None:
    room = await Room(young=8).fill()
    for _ in range(2):
        await room.after()
    assert room.trims == 1
    assert not await room.before()
    assert room.trims == 1
    room.relay.clock.now += FRUITLESS_S + 1
    assert not await room.before()
    assert room.trims == 2


async def test_deleting_mail_by_hand_makes_room_at_once() -> None:
    room = await Room(young=10).fill()
    assert not await room.before()
    box = room.relay.state.by_id(room.bob.inbox)
    box.remove(box.uids[:1])
    assert await room.before()


async def test_ten_thousand_cycles_leave_no_drift() -> None:
    room = await Room(young=9).fill()
    box = room.relay.state.by_id(room.bob.inbox)
    for _ in range(100):
        assert await room.before()
        await room.add(int(NOW_S))
        box.remove(box.uids[-1:])
    assert (await room.account()).used_bytes == 9 * SIZE


async def test_the_number_of_messages_is_a_quota_of_its_own() -> None:
    room = await Room(old=4).fill()
    room.relay.limit(max_messages_per_account=4)
    assert await room.before()
    assert (await room.account()).used_messages == 2
    room = await Room(young=4).fill()
    room.relay.limit(max_messages_per_account=4)
    assert not await room.before()


async def test_what_is_remembered_of_trims_in_vain_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(make_room, "MAX_RESTING", 1)
    room = await Room(young=10).fill()
    assert not await room.before()
    other = room.relay.accounts.add("other@relay.test")
    room.make._rest(other.id)
    assert list(room.make._resting) == [room.bob.id]
    room.relay.clock.now += FRUITLESS_S + 1
    room.make._rest(other.id)
    assert list(room.make._resting) == [other.id]
