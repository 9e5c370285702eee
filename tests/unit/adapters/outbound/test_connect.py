from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

import pytest
import trio

from chatmail.adapters.outbound.connect import Connector, HopError
from chatmail.adapters.outbound.patience import Patience
from chatmail.domain.model.federation import HopFault
from chatmail.domain.policy.reachable import AddressScope, may_connect
from chatmail.domain.ports.remote import DnsFault
from tests.unit.adapters.outbound.rig import FakeResolver, PeerStream, connector, peer

DEAD = "192.0.2.1"  # documentation: nothing answers, ever


async def hold(stream: PeerStream) -> None:
    await stream.to_the_end()


def guarded(
    allows: Callable[[str, int, bool], bool], *ips: str, bind: str = ""
) -> tuple[Connector, FakeResolver]:
    resolver = FakeResolver(peer=ips or ("127.0.0.1",))
    return Connector(resolver, allows, bind=bind, patience=Patience(stagger=0.02)), resolver


# --- the guard -----------------------------------------------------------------------------------


async def test_every_address_is_judged_before_a_packet_leaves() -> None:
    """A name may lead anywhere: what it resolves to is what counts."""
    asked: list[tuple[str, int, bool]] = []

    def allows(host: str, port: int, is_operators_word: bool) -> bool:
        asked.append((host, port, is_operators_word))
        return False

    out, _ = guarded(allows, "127.0.0.1", "10.0.0.1", "::1")
    async with peer(hold) as served:
        with pytest.raises(HopError) as caught:
            await out.connect("peer.example", served.port, timeout_s=60)
    assert caught.value.fault is HopFault.FORBIDDEN
    assert served.connections == []
    assert asked == [
        ("127.0.0.1", served.port, False),
        ("10.0.0.1", served.port, False),
        ("::1", served.port, False),
    ]


async def test_a_literal_is_judged_too() -> None:
    out, resolver = guarded(lambda *_: False)
    with pytest.raises(HopError) as caught:
        await out.connect("127.0.0.1", 25, timeout_s=60)
    assert caught.value.fault is HopFault.FORBIDDEN
    assert resolver.asked == []


async def test_only_allowed_addresses_of_a_host_are_used() -> None:
    scope = AddressScope(allows_loopback=True)
    out, _ = guarded(
        lambda host, port, word: may_connect(scope, host, port, word),
        "169.254.169.254",
        "127.0.0.1",
    )
    async with peer(hold) as served:
        stream = await out.connect("peer.example", served.port, timeout_s=60)
        await stream.aclose()


async def test_the_operators_word_is_passed_on() -> None:
    out, _ = guarded(lambda host, port, word: word)
    async with peer(hold) as served:
        stream = await out.connect(
            "peer.example", served.port, is_operators_word=True, timeout_s=60
        )
        await stream.aclose()


# --- addresses in turn ---------------------------------------------------------------------------


async def connect_race(
    monkeypatch: pytest.MonkeyPatch, ips: Sequence[str], outcomes: dict[str, str | None]
) -> tuple[str, list[tuple[str, float]]]:
    """Race with scripted addresses: an errno-like reply, None connects, "hang" never ends."""
    started: list[tuple[str, float]] = []
    begun = trio.current_time()
    out = Connector(
        FakeResolver(peer=ips), lambda *_: True, bind="", patience=Patience(stagger=0.25)
    )
    near, far = socket.socketpair()

    async def attempt(target: tuple[str, int], timeout_s: float) -> trio.SocketStream | str:
        started.append((target[0], round(trio.current_time() - begun, 2)))
        outcome = outcomes[target[0]]
        if outcome == "hang":
            await trio.sleep(timeout_s)
            return "451 4.4.1 Connection timed out"
        if outcome is not None:
            return outcome
        return winner

    winner = trio.SocketStream.__new__(trio.SocketStream)
    monkeypatch.setattr(out, "_connect_one", attempt)
    near.close()
    far.close()
    try:
        found = await out.connect("peer.example", 25, timeout_s=10)
    except HopError as error:
        return error.reply, started
    assert found is winner
    return "connected", started


async def test_the_next_address_is_tried_after_a_quarter_of_a_second(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A2.7."""
    said, started = await connect_race(
        monkeypatch, ["a", "b", "c"], {"a": "hang", "b": "hang", "c": None}
    )
    assert said == "connected"
    assert started == [("a", 0.0), ("b", 0.25), ("c", 0.5)]


async def test_a_refusal_brings_the_next_address_at_once(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, started = await connect_race(monkeypatch, ["a", "b"], {"a": "451 refused", "b": None})
    assert said == "connected"
    assert started == [("a", 0.0), ("b", 0.0)]


async def test_the_first_complaint_is_told_when_all_fail(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, started = await connect_race(
        monkeypatch, ["a", "b", "c"], {"a": "hang", "b": "451 refused", "c": "hang"}
    )
    assert said == "451 4.4.1 Connection timed out"
    assert len(started) == 3


async def test_a_dead_address_does_not_hide_a_living_one() -> None:
    out = connector(resolver=FakeResolver(peer=("127.0.0.9", "127.0.0.1")))
    async with peer(hold) as served:
        stream = await out.connect("peer.example", served.port, timeout_s=60)
        assert stream.socket.getpeername()[0] == "127.0.0.1"
        await stream.aclose()


# --- what may go wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "reply"),
    [
        (DnsFault.NXDOMAIN, "451 4.4.4"),
        (DnsFault.NO_DATA, "451 4.4.4"),
        (DnsFault.SERVFAIL, "451 4.4.3"),
        (DnsFault.TIMEOUT, "451 4.4.3"),
    ],
)
async def test_a_host_that_cannot_be_looked_up(fault: DnsFault, reply: str) -> None:
    """A2.5."""
    out = connector(resolver=FakeResolver(peer=fault))
    with pytest.raises(HopError) as caught:
        await out.connect("peer.example", 25, timeout_s=60)
    assert caught.value.fault is HopFault.CONNECT
    assert caught.value.reply.startswith(reply)


async def test_nobody_listens() -> None:
    async with peer(hold) as served:
        pass
    with pytest.raises(HopError) as caught:
        await connector().connect("127.0.0.1", served.port, timeout_s=60)
    assert caught.value.reply == "451 4.4.1 Connection refused"


async def test_a_full_backlog_times_out() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port = listening.getsockname()[1]
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        with pytest.raises(HopError) as caught:
            await connector().connect("127.0.0.1", port, timeout_s=0.1)
        for filler in fillers:
            filler.close()
    assert caught.value.reply == "451 4.4.1 Connection timed out"


async def test_the_address_to_connect_from() -> None:
    """A2.7: `outbound_bind`, for hosts of its family."""
    out = connector(bind="127.0.0.7")
    async with peer(hold) as served:
        stream = await out.connect("127.0.0.1", served.port, timeout_s=60)
        assert stream.socket.getsockname()[0] == "127.0.0.7"
        await stream.aclose()
    async with peer(hold, host="::1") as served:
        stream = await out.connect("::1", served.port, timeout_s=60)
        assert stream.socket.getsockname()[0] == "::1"
        await stream.aclose()


async def test_an_address_to_connect_from_that_is_not_ours() -> None:
    with pytest.raises(HopError) as caught:
        await connector(bind=DEAD).connect("127.0.0.1", 25, timeout_s=60)
    assert caught.value.fault is HopFault.CONNECT
