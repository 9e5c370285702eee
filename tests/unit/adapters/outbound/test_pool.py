from __future__ import annotations

import pytest
import trio
import trio.testing

from chatmail.adapters.outbound import pool as module
from chatmail.adapters.outbound.pool import ConnectionPool, has_input
from tests.unit.adapters.outbound.rig import PeerStream, connector, peer


class FakeConnection:
    def __init__(self) -> None:
        self.usable = True
        self.aborted = False

    def is_usable(self) -> bool:
        return self.usable

    def abort(self) -> None:
        self.aborted = True


def make_pool(idle_s: float = 30.0, per_key: int = 2) -> ConnectionPool[FakeConnection]:
    return ConnectionPool(idle_s=idle_s, per_key=per_key)


async def test_what_was_kept_last_is_taken_first() -> None:
    pool = make_pool()
    first, second = FakeConnection(), FakeConnection()
    pool.put("a", first)
    pool.put("a", second)
    assert [pool.take("a"), pool.take("a"), pool.take("a")] == [second, first, None]


async def test_keys_are_apart() -> None:
    pool = make_pool()
    pool.put("a", FakeConnection())
    assert pool.take("b") is None
    assert len(pool) == 1


async def test_what_the_peer_closed_is_not_taken() -> None:
    pool = make_pool()
    good, bad = FakeConnection(), FakeConnection()
    pool.put("a", good)
    pool.put("a", bad)
    bad.usable = False
    assert pool.take("a") is good
    assert bad.aborted
    assert len(pool) == 0


async def test_what_was_idle_for_too_long_is_not_taken(
    autojump_clock: trio.testing.MockClock,
) -> None:
    pool = make_pool(idle_s=30.0)
    old = FakeConnection()
    pool.put("a", old)
    await trio.sleep(31)
    assert pool.take("a") is None
    assert old.aborted


async def test_a_key_has_a_bound() -> None:
    pool = make_pool(per_key=2)
    connections = [FakeConnection() for _ in range(3)]
    for connection in connections:
        pool.put("a", connection)
    assert [connection.aborted for connection in connections] == [False, False, True]
    assert len(pool) == 2


async def test_dead_ones_make_room() -> None:
    pool = make_pool(per_key=1)
    dead, new = FakeConnection(), FakeConnection()
    pool.put("a", dead)
    dead.usable = False
    pool.put("a", new)
    assert dead.aborted
    assert pool.take("a") is new


async def test_all_keys_together_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEPT", 3)
    pool = make_pool()
    connections = [FakeConnection() for _ in range(4)]
    for number, connection in enumerate(connections):
        pool.put(number, connection)
    assert [connection.aborted for connection in connections] == [False, False, False, True]
    assert len(pool) == 3
    assert pool.take(3) is None


async def test_sweeping_closes_the_old_and_the_dead(
    autojump_clock: trio.testing.MockClock,
) -> None:
    pool = make_pool(idle_s=30.0)
    old, dead, young = FakeConnection(), FakeConnection(), FakeConnection()
    pool.put("a", old)
    await trio.sleep(20)
    pool.put("a", young)
    pool.put("b", dead)
    dead.usable = False
    await trio.sleep(11)
    pool.sweep()
    assert (old.aborted, dead.aborted, young.aborted) == (True, True, False)
    assert len(pool) == 1


async def test_closing_closes_everything() -> None:
    pool = make_pool()
    connections = [FakeConnection() for _ in range(2)]
    for number, connection in enumerate(connections):
        pool.put(number, connection)
    pool.close()
    assert all(connection.aborted for connection in connections)
    assert len(pool) == 0


@pytest.mark.parametrize("what", ["nothing", "octets", "end"])
async def test_an_idle_stream_that_has_something_to_read(what: str) -> None:
    go = trio.Event()

    async def serve(stream: PeerStream) -> None:
        await go.wait()
        if what == "octets":
            await stream.send("x")
        if what == "end":
            await stream.stream.aclose()
        await trio.sleep_forever()

    async with peer(serve) as served:
        stream = await connector().connect("127.0.0.1", served.port, timeout_s=10)
        assert not has_input(stream)
        go.set()
        if what != "nothing":
            with trio.fail_after(60):
                await trio.lowlevel.wait_readable(stream.socket)
        assert has_input(stream) == (what != "nothing")
        stream.socket.close()
        assert has_input(stream)
