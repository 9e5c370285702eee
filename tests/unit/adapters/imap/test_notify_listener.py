"""A client that only listens has the server's numbers, whatever happens."""

from __future__ import annotations

import re

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.adapters.imap.notifying import notified
from tests.unit.adapters.imap.world import Client, World

_STEPS = st.lists(
    st.tuples(
        st.sampled_from(("deliver", "flag", "expunge", "move", "noop", "fetch", "store", "own")),
        st.integers(1, 9),
    ),
    max_size=25,
)


async def _listen(steps: list[tuple[str, int]], group: bytes) -> None:
    """Do things elsewhere and here; the client's numbers must stay those of the mailbox."""
    world = World()
    for _ in range(3):
        world.deliver()
    known = [1, 2, 3]

    def hear(lines: list[bytes]) -> None:
        for line in lines:
            number, _, rest = line.removeprefix(b"* ").partition(b" ")
            if rest == b"EXPUNGE":
                del known[int(number) - 1]
            elif rest == b"EXISTS":
                known.extend([0] * (int(number) - len(known)))
            elif found := re.match(rb"FETCH \(UID (\d+)", rest):
                assert known[int(number) - 1] in (0, int(found[1]))
                known[int(number) - 1] = int(found[1])

    async def heard(client: Client) -> None:
        while not await client.quiet():
            hear([await client.line()])

    async with notified(world, group) as client, world.session() as other:
        await other.ok(b"CREATE old")
        for step, number in steps:
            if b"DELAYED" not in group and step in ("store", "fetch"):
                await heard(client)  # RFC 5465 §5.3: numbers may have changed at any time
            if step == "deliver":
                world.deliver()
            elif step == "flag":
                await other.ok(b"UID STORE %d +FLAGS.SILENT (\\Seen)" % number)
            elif step == "expunge":
                await other.ok(b"UID STORE %d +FLAGS.SILENT (\\Deleted)" % number)
                await other.ok(b"EXPUNGE")
            elif step == "move":
                await other.ok(b"UID MOVE %d old" % number)
            elif step == "noop":
                hear(await client.ok(b"NOOP"))
            elif step == "own":
                hear(await client.ok(b"UID MOVE %d old" % number))
            elif step == "store" and number <= len(known):
                hear(await client.ok(b"STORE %d +FLAGS (\\Answered)" % number))
            elif step == "fetch" and known:
                hear(await client.ok(b"FETCH 1:%d (UID)" % len(known)))
            if number % 3:
                await heard(client)
        await heard(client)
        hear(await client.ok(b"NOOP"))
        assert known == list(world.state.by_id(world.inbox).uids)


@pytest.mark.parametrize(
    "group",
    [
        pytest.param(b"(SELECTED (MessageNew (UID) MessageExpunge FlagChange))", id="selected"),
        pytest.param(b"(SELECTED-DELAYED (MessageNew (UID) MessageExpunge))", id="delayed"),
    ],
)
@given(steps=_STEPS)
@settings(max_examples=25, deadline=None)
def test_a_client_that_listens_keeps_the_servers_numbers(
    group: bytes, steps: list[tuple[str, int]]
) -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(_listen, steps, group, clock=clock)
