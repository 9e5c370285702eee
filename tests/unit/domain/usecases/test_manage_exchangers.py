"""What an operator may say about exchangers."""

from __future__ import annotations

import pytest

from chatmail.domain.model.exchanger import Exchanger
from chatmail.domain.usecases.manage_exchangers import MAX_EXCHANGERS, ManageExchangers
from chatmail.domain.usecases.manage_federation import BadWord
from chatmail.domain.usecases.poll_exchanger import Polled
from tests.unit.fakes.exchangers import MemoryExchangerStore
from tests.unit.fakes.system import FakeLog


def make(**parts: object) -> ManageExchangers:
    return ManageExchangers(store=MemoryExchangerStore(), log=FakeLog(), **parts)  # type: ignore[arg-type]


async def test_an_exchanger_is_added_changed_and_removed() -> None:
    manage = make()
    hub = Exchanger(name="hub", url="https://hub.test:8443/x", interval_s=60)
    assert await manage.put("hub", " https://hub.test:8443/x/ ") == hub
    await manage.enable("hub", False)
    changed = await manage.put("hub", "https://192.0.2.1", 5)
    assert list(await manage.all()) == [changed]
    assert await manage.remove("hub")
    assert not await manage.remove("hub")
    assert not await manage.enable("hub", True)


@pytest.mark.parametrize(
    ("name", "url", "interval_s"),
    [
        ("", "https://hub.test", 60),
        ("a b", "https://hub.test", 60),
        ("a" * 65, "https://hub.test", 60),
        ("hub", "http://hub.test", 60),
        ("hub", "hub.test", 60),
        ("hub", "https://", 60),
        ("hub", "https://u:p@hub.test", 60),
        ("hub", "https://hub.test/?x=1", 60),
        ("hub", "https://hub.test/#x", 60),
        ("hub", "https://hub.test:99999", 60),
        ("hub", "https://hub.test/a b", 60),
        ("hub", "https://hub.test/\r\nx", 60),
        ("hub", "https://hub.test/" + "x" * 500, 60),
        ("hub", "https://hub.test", 4),
        ("hub", "https://hub.test", 86401),
    ],
)
async def test_what_makes_no_sense_changes_nothing(name: str, url: str, interval_s: int) -> None:
    manage = make()
    assert isinstance(await manage.put(name, url, interval_s), BadWord)
    assert list(await manage.all()) == []


async def test_there_is_an_end_to_their_number() -> None:
    manage = make()
    for number in range(MAX_EXCHANGERS):
        assert isinstance(await manage.put(f"h{number}", "https://hub.test"), Exchanger)
    assert isinstance(await manage.put("more", "https://hub.test"), BadWord)
    assert isinstance(await manage.put("h1", "https://other.test"), Exchanger)


async def test_one_is_asked_by_hand_enabled_or_not() -> None:
    asked: list[str] = []

    async def ask(exchanger: Exchanger) -> Polled:
        asked.append(exchanger.name)
        return Polled(is_reached=True, taken=3)

    manage = make(ask=ask)
    await manage.put("hub", "https://hub.test")
    await manage.enable("hub", False)
    assert await manage.poll("hub") == Polled(is_reached=True, taken=3)
    assert await manage.poll("other") is None
    assert asked == ["hub"]
    assert await make().poll("hub") is None
