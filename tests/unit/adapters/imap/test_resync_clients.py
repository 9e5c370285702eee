"""Clients that come back with QRESYNC end with the server's mailbox."""

from __future__ import annotations

import re

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.adapters.imap.resyncing import filled, resyncing
from tests.unit.adapters.imap.world import Client, World

EXAMPLES = 80


class Cache:
    """What a disconnected client keeps of a mailbox, by the rules of RFC 7162 §6."""

    def __init__(self) -> None:
        self.uids: list[int] = []  # by message number; 0: announced, not yet known
        self.flags: dict[int, str] = {}
        self.modseq = 0
        self.validity = 0
        self._seen = 0
        self._told = 0

    def hear(self, lines: list[bytes]) -> None:
        self._seen = self._told = 0
        for raw in lines:
            self._one(raw.decode())
        self.modseq = self._told or max(self._seen, self.modseq)

    def _one(self, line: str) -> None:
        if found := re.search(r"\[HIGHESTMODSEQ (\d+)\]", line):
            self._told = int(found[1])
        if found := re.fullmatch(r"\* (\d+) EXISTS", line):
            assert int(found[1]) >= len(self.uids), "EXISTS without VANISHED"
            self.uids += [0] * (int(found[1]) - len(self.uids))
        elif found := re.fullmatch(r"\* VANISHED (\(EARLIER\) )?([\d:,]+)", line):
            for uid in expanded(found[2]):
                self.flags.pop(uid, None)
                if not found[1]:
                    self.uids.remove(uid)
        elif found := re.fullmatch(r"\* (\d+) FETCH \((.*)\)", line):
            self._fetch(int(found[1]), found[2])
        assert not re.fullmatch(r"\* \d+ EXPUNGE", line)

    def _fetch(self, number: int, items: str) -> None:
        if found := re.search(r"MODSEQ \((\d+)\)", items):
            self._seen = max(self._seen, int(found[1]))
        if found := re.search(r"UID (\d+)", items):
            assert self.uids[number - 1] in (0, int(found[1]))
            self.uids[number - 1] = int(found[1])
        if found := re.search(r"FLAGS \(([^)]*)\)", items):
            self.flags[self.uids[number - 1]] = found[1]


def expanded(text: str) -> list[int]:
    uids = []
    for item in text.split(","):
        first, _, last = item.partition(":")
        uids += range(int(first), int(last or first) + 1)
    return uids


async def come_back(client: Client, cache: Cache, *, with_match: bool) -> None:
    """SELECT with what is known, then ask for the messages whose flags are not known."""
    parameter = b""
    kept = sorted(cache.flags)
    if cache.validity:
        known = f" 1:{kept[-1]}" if kept else ""
        if with_match and kept and cache.uids == kept:
            places = range(0, len(kept), 2)
            numbers = ",".join(str(place + 1) for place in places)
            known += f" ({numbers} {','.join(str(kept[place]) for place in places)})"
        parameter = f" (QRESYNC ({cache.validity} {cache.modseq}{known}))".encode()
    lines = await client.ok(b"SELECT INBOX" + parameter)
    cache.uids = []
    cache.validity = cache.validity or 1700000000
    cache.hear(lines)
    for place, uid in enumerate(sorted(cache.flags)):  # in step again: old ones come first
        assert cache.uids[place] in (0, uid)
        cache.uids[place] = uid
    cache.hear(await client.ok(b"UID FETCH %d:* (FLAGS)" % (kept[-1] + 1 if kept else 1)))


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ("deliver", "flag", "expunge", "noop", "fetch", "store", "uidfetch", "move", "lost")
        ),
        st.integers(1, 12),
    ),
    max_size=25,
)


async def _history(steps: list[tuple[str, int]]) -> None:
    world = filled(3)
    cache = Cache()

    async with world.session() as other:
        await other.ok(b"CREATE old")
        todo = list(steps)
        while True:
            async with resyncing(world, b"") as client:
                await come_back(client, cache, with_match=len(todo) % 2 == 0)
                while todo:
                    step, number = todo.pop(0)
                    if step == "lost":
                        break
                    await _step(world, client, other, cache, step, number)
                    if 0 in cache.uids:  # new ones: ask for what is behind the last known
                        last = max(cache.flags, default=0)
                        cache.hear(await client.ok(b"UID FETCH %d:* (FLAGS)" % (last + 1)))
                else:
                    await _check(world, client, cache)
                    return


async def _step(
    world: World, client: Client, other: Client, cache: Cache, step: str, number: int
) -> None:
    flag = (b"\\Seen", b"\\Flagged", b"kw")[number % 3]
    if step == "deliver":
        world.deliver()
    elif step == "flag":
        await other.ok(b"UID STORE %d +FLAGS.SILENT (%b)" % (number, flag))
    elif step == "expunge":
        await other.ok(b"UID STORE %d +FLAGS.SILENT (\\Deleted)" % number)
        await other.ok(b"EXPUNGE")
    elif step == "move":
        await other.ok(b"UID MOVE %d old" % number)
    elif step == "noop":
        cache.hear(await client.ok(b"NOOP"))
    elif step == "uidfetch":
        cache.hear(await client.ok(b"UID FETCH 1:* (FLAGS)"))
    elif step == "store" and number <= len(cache.uids) and cache.uids[number - 1]:
        cache.hear(await client.ok(b"STORE %d +FLAGS (%b)" % (number, flag)))
    elif step == "fetch" and cache.uids:
        cache.hear(await client.ok(b"FETCH 1:%d (UID FLAGS)" % len(cache.uids)))


async def _check(world: World, client: Client, cache: Cache) -> None:
    cache.hear(await client.ok(b"NOOP"))
    cache.hear(await client.ok(b"FETCH 1:* (UID FLAGS)"))
    box = world.state.by_id(world.inbox)
    assert cache.uids == list(box.uids)
    there = {int(uid): entry.flags for uid, entry in box.entries.items()}
    assert {uid: frozenset(flags.split()) for uid, flags in cache.flags.items()} == there


@given(_STEPS)
@settings(max_examples=EXAMPLES, deadline=None)
def test_a_client_that_comes_back_ends_with_the_servers_mailbox(
    steps: list[tuple[str, int]],
) -> None:
    trio.run(_history, steps)
