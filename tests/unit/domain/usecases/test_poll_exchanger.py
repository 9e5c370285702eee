"""Mail from an exchanger: the same checks as at every door, each message once."""

from __future__ import annotations

import base64
import json

import attrs
import pytest
import trio

from chatmail.domain.formats.exchange import MAX_ANSWER_OCTETS
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.exchanger import Exchanger
from chatmail.domain.policy.encryption_gate import DkimResult
from chatmail.domain.ports.remote import Fetched, FetchFault
from chatmail.domain.usecases.poll_exchanger import TAKEN_S, Polled, PollExchanger
from tests.unit.domain.usecases.inbound import ANN, BOB, MESSAGE, PEER, InboundRelay
from tests.unit.fakes.exchangers import MemoryExchangerStore

HUB = Exchanger(name="hub", url="https://hub.test:8443/base")


class Fetcher:
    """Answers with what lies there."""

    def __init__(self) -> None:
        self.messages: list[dict[str, object]] = []
        self.fault: FetchFault | None = None
        self.raw: bytes | None = None
        self.asked: list[tuple[str, int]] = []

    async def get(
        self, url: str, *, max_octets: int, timeout_s: float, is_operators_word: bool = False
    ) -> Fetched | FetchFault:
        await trio.lowlevel.checkpoint()
        self.asked.append((url, max_octets))
        assert is_operators_word
        if self.fault is not None:
            return self.fault
        answer = {"hash": "h", "count": len(self.messages), "messages": self.messages}
        return Fetched("application/json", self.raw or json.dumps(answer).encode())

    def put(self, id: str = "1", octets: bytes = MESSAGE, sender: str = ANN, *to: str) -> None:
        body = base64.b64encode(octets).decode()
        self.messages.append({"id": id, "from": sender, "to": list(to) or [BOB], "body": body})


class World:
    def __init__(self) -> None:
        self.relay = InboundRelay()
        self.relay.accounts.add(BOB)
        self.fetcher, self.store = Fetcher(), MemoryExchangerStore()
        self.poll = PollExchanger(
            store=self.store,
            fetcher=self.fetcher,
            receive=self.relay.receive,
            collect=self.relay.collect,
            clock=self.relay.clock,
            settings=lambda: self.relay.settings,
            log=self.relay.log,
            secret=b"k" * 32,
        )

    async def __call__(self) -> Polled:
        return await self.poll(HUB)

    @property
    def count(self) -> int:
        return len(self.relay.intake.committed)


async def test_a_message_is_taken_in_once() -> None:
    world = World()
    world.fetcher.put()
    assert await world() == Polled(is_reached=True, taken=1)
    assert world.fetcher.asked == [("https://hub.test:8443/base/me/full", MAX_ANSWER_OCTETS)]
    (batch,) = world.relay.intake.committed
    assert len(batch.deliveries) == 1
    assert await world() == Polled(is_reached=True, known=1)
    assert world.count == 1
    assert world.relay.log.events() == ["exchanger_polled"]
    (until_s,) = world.store.taken.values()
    assert until_s - int(world.relay.clock.now_s()) == TAKEN_S == 7 * 86400


async def test_bare_line_feeds_become_crlf() -> None:
    world = World()
    world.fetcher.put(octets=MESSAGE.replace(b"\r\n", b"\n"))
    assert (await world()).taken == 1


@pytest.mark.parametrize(
    "case", ["plain", "dkim", "spoof", "policy", "foreign", "nonsense", "not base64", "envelope"]
)
async def test_nothing_passes_that_would_not_pass_elsewhere(case: str) -> None:
    world = World()
    octets, sender, to = MESSAGE, ANN, BOB
    match case:
        case "plain":
            octets = b"From: <" + ANN.encode() + b">\r\nMessage-ID: <a@b>\r\n\r\nhello\r\n"
        case "dkim":
            world.relay.verifier.result = DkimResult.NONE
        case "spoof":
            sender = "me@relay.test"
        case "policy":
            world.relay.denied.add(PEER)
        case "foreign":
            to = "x@elsewhere.test"
        case "envelope":
            sender = "not an address"
        case "nonsense":
            to = "@"
    world.fetcher.put("1", octets, sender, to)
    if case == "not base64":
        world.fetcher.messages[0]["body"] = "%%%%"
    assert await world() == Polled(is_reached=True, refused=1)
    assert world.count == 0
    assert (await world()).known == 1


async def test_recipients_elsewhere_are_left_out() -> None:
    world = World()
    world.fetcher.put("1", MESSAGE, ANN, "x@elsewhere.test", BOB, BOB)
    assert (await world()).taken == 1
    assert len(world.relay.intake.committed[0].deliveries) == 1


async def test_what_the_store_could_not_take_comes_again() -> None:
    world = World()
    world.fetcher.put("1")
    world.fetcher.put("2")
    commit, failures = world.relay.intake.commit, 1

    async def fail_once(batch):  # type: ignore[no-untyped-def]
        nonlocal failures
        if failures:
            failures -= 1
            raise TransientFailure("full")
        return await commit(batch)

    world.relay.intake.commit = fail_once  # type: ignore[method-assign]
    assert await world() == Polled(is_reached=True, taken=1, later=1)
    assert await world() == Polled(is_reached=True, taken=1, known=1)


async def test_what_is_refused_for_now_comes_again() -> None:
    world = World()
    world.fetcher.put()
    world.relay.verifier.result = DkimResult.UNAVAILABLE
    assert await world() == Polled(is_reached=True, later=1)
    world.relay.verifier.result, world.relay.budgets.empty = DkimResult.PASS, {"inbound"}
    assert await world() == Polled(is_reached=True, later=1)
    world.relay.budgets.empty = set()
    assert await world() == Polled(is_reached=True, taken=1)


async def test_ids_of_two_exchangers_are_two_things() -> None:
    world = World()
    world.fetcher.put()
    await world()
    assert (await world.poll(attrs.evolve(HUB, name="other"))).known == 0


@pytest.mark.parametrize(
    ("fault", "raw", "is_reached"),
    [
        (FetchFault.ABSENT, None, True),
        (FetchFault.UNREACHABLE, None, False),
        (FetchFault.TOO_LARGE, None, False),
        (None, b"<html>", False),
    ],
)
async def test_an_answer_without_messages(
    fault: FetchFault | None, raw: bytes | None, is_reached: bool
) -> None:
    world = World()
    world.fetcher.fault, world.fetcher.raw = fault, raw
    assert await world() == Polled(is_reached=is_reached)
    assert world.relay.log.events() == ([] if is_reached else ["exchanger_unreachable"])
