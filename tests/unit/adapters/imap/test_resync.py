"""QRESYNC at the face: SELECT, UID FETCH, VANISHED, HIGHESTMODSEQ, clients that come back."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.adapters.imap.world import MESSAGE, Client, World

EXAMPLES = 80


@asynccontextmanager
async def resyncing(world: World, select: bytes = b"SELECT INBOX"):  # type: ignore[no-untyped-def]
    async with world.connect() as client:
        await client.login()
        assert await client.ok(b"ENABLE QRESYNC") == [b"* ENABLED QRESYNC"]
        if select:
            await client.ok(select)
        yield client


def filled(count: int = 5) -> World:
    world = World()
    for _ in range(count):
        world.deliver()
    return world


async def test_enable_is_needed() -> None:
    async with filled().session() as client:
        for command in (
            b"SELECT INBOX (QRESYNC (1700000000 1))",
            b"UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)",
        ):
            assert (await client.cmd(command))[-1] == b"BAD QRESYNC is not enabled"
        assert await client.ok(b"NOOP") == []  # the mailbox is still selected


async def test_qresync_brings_condstore() -> None:
    async with resyncing(filled(1)) as client:
        assert await client.ok(b"FETCH 1 FLAGS") == [b"* 1 FETCH (FLAGS () MODSEQ (2))"]


async def test_select_tells_what_went_and_what_changed_after_the_usual_lines() -> None:
    world = filled(5)  # modseqs 2 to 6
    async with world.session() as other:
        await other.ok(b"UID STORE 2,4 +FLAGS.SILENT (\\Deleted)")  # 7
        await other.ok(b"EXPUNGE")  # 8
        await other.ok(b"UID STORE 1,5 +FLAGS.SILENT (\\Seen)")  # 9
        world.deliver()  # 10
    async with resyncing(world, b"") as client:
        lines = await client.cmd(b"SELECT INBOX (QRESYNC (1700000000 6))")
        assert lines[-7:] == [
            b"* OK [HIGHESTMODSEQ 10] Highest",
            b"* OK [MAILBOXID (F1-1700000000)] Mailbox id",
            b"* VANISHED (EARLIER) 2,4",
            b"* 1 FETCH (UID 1 FLAGS (\\Seen) MODSEQ (9))",
            b"* 3 FETCH (UID 5 FLAGS (\\Seen) MODSEQ (9))",
            b"* 4 FETCH (UID 6 FLAGS () MODSEQ (10))",
            b"OK [READ-WRITE] Select completed",
        ]
        again = await client.cmd(b"EXAMINE INBOX (QRESYNC (1700000000 9 1:5))")
        assert again[0] == b"* OK [CLOSED] Previous mailbox is closed"
        assert again[-3:] == [
            b"* OK [HIGHESTMODSEQ 10] Highest",
            b"* OK [MAILBOXID (F1-1700000000)] Mailbox id",
            b"OK [READ-ONLY] Examine completed",
        ]


async def test_select_honours_known_uids_and_match_data() -> None:
    world = filled(6)
    async with world.session() as other:
        await other.ok(b"UID STORE 2,5 +FLAGS.SILENT (\\Deleted)")
        await other.ok(b"EXPUNGE")
        await other.ok(b"UID STORE 1,6 +FLAGS.SILENT (\\Seen)")
    async with resyncing(world, b"") as client:
        told = await client.ok(b"SELECT INBOX (QRESYNC (1700000000 7 1:3))")
        assert b"* VANISHED (EARLIER) 2" in told
        assert [line for line in told if b"FETCH" in line] == [
            b"* 1 FETCH (UID 1 FLAGS (\\Seen) MODSEQ (10))"
        ]
        # Message 3 is UID 4 still, as this client has it: nothing below went for it.
        told = await client.ok(b"SELECT INBOX (QRESYNC (1700000000 7 1:6 (3 4)))")
        assert b"* VANISHED (EARLIER) 5" in told


async def test_another_uidvalidity_leaves_the_parameters_aside() -> None:
    async with resyncing(filled(2), b"") as client:
        told = await client.ok(b"SELECT INBOX (QRESYNC (1699999999 1 1:2))")
        assert told[-2].startswith(b"* OK [HIGHESTMODSEQ ")


async def test_closed_is_told_only_where_a_mailbox_was_selected() -> None:
    async with resyncing(filled(1), b"") as client:
        assert b"CLOSED" not in b"".join(await client.select())
        lines = await client.cmd(b"SELECT nowhere")
        assert lines == [
            b"* OK [CLOSED] Previous mailbox is closed",
            b"NO [NONEXISTENT] Mailbox doesn't exist",
        ]
        assert b"CLOSED" not in b"".join(await client.select())
        await client.ok(b"CLOSE")
        assert b"CLOSED" not in b"".join(await client.select())


async def test_a_failing_store_does_not_leave_the_mailbox_open() -> None:
    world = filled(1)
    async with resyncing(world, b"") as client:
        opened = []
        original = world.store.open

        async def open_and_delete(account, name):  # type: ignore[no-untyped-def]
            opened.append(await original(account, name))
            world.state.drop(world.state.by_id(world.inbox))
            return opened[-1]

        world.store.open = open_and_delete  # type: ignore[method-assign]
        await client.send(b"x SELECT INBOX (QRESYNC (1700000000 1))\r\n")
        assert await client.line() == b"* BYE Mailbox deleted"
        assert opened[0].is_closed


# --- VANISHED in the place of EXPUNGE ---------------------------------------------------------


async def test_expunge_is_told_by_uid_with_the_new_modseq() -> None:
    world = filled(5)
    async with resyncing(world) as client:
        await client.ok(b"UID STORE 2:3,5 +FLAGS.SILENT (\\Deleted)")
        assert await client.cmd(b"UID EXPUNGE 1:3") == [
            b"* VANISHED 2:3",
            b"OK [HIGHESTMODSEQ 8] Expunge completed",
        ]
        assert await client.cmd(b"EXPUNGE") == [
            b"* VANISHED 5",
            b"OK [HIGHESTMODSEQ 9] Expunge completed",
        ]


async def test_move_is_told_by_uid_behind_copyuid() -> None:
    async with resyncing(filled(3)) as client:
        await client.ok(b"CREATE old")
        assert await client.cmd(b"UID MOVE 1,3 old") == [
            b"* OK [COPYUID 1767225600 1,3 1:2] Moved",
            b"* VANISHED 1,3",
            b"OK [HIGHESTMODSEQ 5] Move completed",
        ]


async def test_close_tells_neither_uids_nor_a_modseq() -> None:
    """RFC 7162 §3.2.8: a modseq there could skip what the client was never told."""
    async with resyncing(filled(2)) as client:
        await client.ok(b"STORE 1 +FLAGS.SILENT (\\Deleted)")
        assert await client.cmd(b"CLOSE") == [b"OK Close completed"]


async def test_noop_and_idle_tell_other_sessions_expunges_by_uid(autojump_clock: object) -> None:
    world = filled(4)
    async with resyncing(world) as client, world.session() as other:
        await other.ok(b"UID STORE 1 +FLAGS.SILENT (\\Deleted)")
        await other.ok(b"EXPUNGE")
        # VANISHED names no MODSEQ, so another line does.
        told = [b"* VANISHED 1", b"* OK [HIGHESTMODSEQ 7] Highest"]
        assert await client.ok(b"NOOP") == told
        await client.send(b"i IDLE\r\n")
        assert await client.line() == b"+ idling"
        await other.ok(b"UID STORE 2:3 +FLAGS.SILENT (\\Deleted)")
        await other.ok(b"EXPUNGE")
        assert await client.line() == b"* VANISHED 2:3"
        assert await client.line() == b"* OK [HIGHESTMODSEQ 9] Highest"
        world.deliver()
        assert await client.line() == b"* 2 EXISTS"
        assert await client.line() == b"* OK [HIGHESTMODSEQ 10] Highest"


async def test_a_message_never_announced_never_vanishes() -> None:
    world = filled(1)
    async with resyncing(world) as client, world.session() as other:
        await other.ok(b"NOOP")
        world.deliver(MESSAGE, "\\Deleted")
        await other.ok(b"EXPUNGE")
        assert await client.ok(b"NOOP") == [b"* OK [HIGHESTMODSEQ 4] Highest"]


async def test_a_session_without_qresync_reads_expunge() -> None:
    world = filled(3)
    async with world.session() as client, resyncing(world) as other:
        await other.ok(b"UID STORE 1:2 +FLAGS.SILENT (\\Deleted)")
        await other.ok(b"EXPUNGE")
        assert await client.ok(b"NOOP") == [b"* 2 EXPUNGE", b"* 1 EXPUNGE"]


# --- UID FETCH … (CHANGEDSINCE n VANISHED) ----------------------------------------------------


async def test_uid_fetch_tells_what_vanished_before_what_changed() -> None:
    world = filled(6)
    async with world.session() as other:
        await other.ok(b"UID STORE 2,4,6 +FLAGS.SILENT (\\Deleted)")
        await other.ok(b"EXPUNGE")
        await other.ok(b"UID STORE 3 +FLAGS.SILENT (\\Seen)")
    async with resyncing(world) as client:
        assert await client.ok(b"UID FETCH 3:* (FLAGS) (CHANGEDSINCE 7 VANISHED)") == [
            b"* VANISHED (EARLIER) 4,6",
            b"* 2 FETCH (UID 3 FLAGS (\\Seen) MODSEQ (10))",
        ]
        assert await client.ok(b"UID FETCH 7:* (FLAGS) (CHANGEDSINCE 9 VANISHED)") == []


async def test_what_the_client_still_counts_is_not_told_as_earlier() -> None:
    world = filled(3)
    async with resyncing(world) as client, world.session() as other:
        await other.ok(b"UID STORE 2 +FLAGS.SILENT (\\Deleted)")
        await other.ok(b"EXPUNGE")
        assert await client.ok(b"UID FETCH 1:3 (FLAGS) (CHANGEDSINCE 4 VANISHED)") == [
            b"* VANISHED 2",
            b"* OK [HIGHESTMODSEQ 6] Highest",
        ]


# --- news that waits --------------------------------------------------------------------------


async def test_commands_with_numbers_hold_expunges_and_say_how_far_all_is_told() -> None:
    """RFC 7162 §6, the example with the delayed VANISHED."""
    world = filled(3)  # modseq 4
    async with resyncing(world) as client, world.session() as other:
        await other.ok(b"UID STORE 3 +FLAGS.SILENT (\\Deleted)")  # 5
        await other.ok(b"EXPUNGE")  # 6
        assert await client.cmd(b"STORE 1 +FLAGS (\\Seen)") == [
            b"* 1 FETCH (FLAGS (\\Seen) MODSEQ (7))",
            b"* OK [HIGHESTMODSEQ 4] Some changes wait",
            b"OK Store completed",
        ]
        assert await client.ok(b"FETCH 1 (UID)") == [
            b"* 1 FETCH (UID 1)",
            b"* OK [HIGHESTMODSEQ 4] Some changes wait",
        ]
        assert (await client.ok(b"UID SEARCH 1:3"))[1:] == [
            b"* OK [HIGHESTMODSEQ 4] Some changes wait"
        ]
        assert await client.ok(b"UID FETCH 1 (UID)") == [
            b"* 1 FETCH (UID 1)",
            b"* VANISHED 3",
            b"* OK [HIGHESTMODSEQ 7] Highest",
        ]
        assert await client.ok(b"FETCH 1 (UID)") == [b"* 1 FETCH (UID 1)"]


async def test_uid_commands_tell_all_news_with_uids() -> None:
    world = filled(3)
    async with resyncing(world) as client, world.session() as other:
        await other.ok(b"UID STORE 1 +FLAGS.SILENT (\\Seen)")
        assert await client.ok(b"UID STORE 2 +FLAGS.SILENT (\\Seen)") == [
            b"* 1 FETCH (UID 1 FLAGS (\\Seen) MODSEQ (5))"
        ]


# --- clients that come back -------------------------------------------------------------------


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
