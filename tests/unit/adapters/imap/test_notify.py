"""NOTIFY at the face: events between commands, in IDLE, and their bounds."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from chatmail.domain.model.mailbox import MailboxId
from tests.unit.adapters.imap.world import MESSAGE, NOW_S, SETTINGS, Client, World

SELECTED = b"(SELECTED (MessageNew (UID RFC822.SIZE) MessageExpunge FlagChange))"
DELAYED = b"(SELECTED-DELAYED (MessageNew MessageExpunge FlagChange))"
OTHERS = b"(PERSONAL (MessageNew MessageExpunge MailboxName SubscriptionChange))"


@asynccontextmanager
async def notified(world: World, groups: bytes):  # type: ignore[no-untyped-def]
    async with world.session() as client:
        assert await client.ok(b"NOTIFY SET " + groups) == []
        yield client


def other_mailbox(world: World, name: str = "other") -> MailboxId:
    return world.state.add_mailbox(world.account.id, name, None, NOW_S).id


async def test_selected_mailbox_speaks_between_commands() -> None:
    world = World()
    world.deliver()
    async with notified(world, SELECTED) as client, world.session() as other:
        world.deliver()
        assert await client.line() == b"* 2 EXISTS"
        assert await client.line() == b"* 2 FETCH (UID 2 RFC822.SIZE %d)" % len(MESSAGE)
        await other.ok(b"UID STORE 1 +FLAGS.SILENT (\\Seen)")
        assert await client.line() == b"* 1 FETCH (UID 1 FLAGS (\\Seen))"
        await other.ok(b"UID STORE 1 +FLAGS.SILENT (\\Deleted)")
        assert await client.line() == b"* 1 FETCH (UID 1 FLAGS (\\Deleted \\Seen))"
        await other.ok(b"EXPUNGE")
        assert await client.line() == b"* 1 EXPUNGE"
        assert await client.ok(b"NOOP") == []
        assert await client.quiet()


async def test_qresync_sessions_are_told_by_uid() -> None:
    world = World()
    world.deliver(MESSAGE, "\\Deleted")
    async with world.connect() as client, world.session() as other:
        await client.login()
        await client.ok(b"ENABLE QRESYNC")
        await client.ok(b"NOTIFY SET (SELECTED (MessageNew (FLAGS) MessageExpunge))")
        await client.select()
        await other.ok(b"EXPUNGE")
        assert await client.line() == b"* VANISHED 1"
        # Nothing else says up to where the client knows all.
        assert await client.line() == b"* OK [HIGHESTMODSEQ 3] Highest"
        world.deliver()
        assert await client.line() == b"* 1 EXISTS"
        assert await client.line() == b"* 1 FETCH (UID 2 FLAGS () MODSEQ (4))"
        assert await client.line() == b"* OK [HIGHESTMODSEQ 4] Highest"


async def append(client: Client, mailbox: bytes = b"INBOX") -> list[bytes]:
    return await client.ok(b"APPEND %b {%d+}\r\n%b" % (mailbox, len(MESSAGE), MESSAGE))


async def test_own_messages_are_told_by_exists_alone() -> None:
    """RFC 5465 §5: what the client has caused is no event; EXISTS is APPEND's own (RFC 3501)."""
    world = World()
    async with notified(world, SELECTED + b" " + OTHERS) as client:
        assert await append(client) == [b"* 1 EXISTS"]
        assert await client.ok(b"COPY 1 INBOX") == [b"* 2 EXISTS"]
        assert await client.quiet()
        world.deliver()
        assert await client.line() == b"* 3 EXISTS"
        assert await client.line() == b"* 3 FETCH (UID 3 RFC822.SIZE %d)" % len(MESSAGE)


async def test_own_messages_in_other_mailboxes_are_no_news() -> None:
    world = World()
    world.deliver()
    other = other_mailbox(world)
    async with notified(world, OTHERS) as client:
        assert await append(client, b"other") == []
        await client.ok(b"NOOP")
        assert await client.quiet()
        await client.ok(b"UID COPY 1 other")
        await client.ok(b"UID MOVE 1 other")
        assert await client.quiet()
        world.deliver(mailbox=other)
        assert await client.line() == b'* STATUS "other" (MESSAGES 4 UIDNEXT 5)'


async def test_what_a_session_did_in_a_mailbox_it_leaves_is_no_news() -> None:
    world = World()
    world.deliver(MESSAGE, "\\Deleted")
    other_mailbox(world)
    async with notified(world, OTHERS) as client:
        await client.ok(b"CLOSE")
        assert await client.quiet()
        await client.select(b"other")
        world.deliver()
        assert await client.line() == b'* STATUS "INBOX" (MESSAGES 1 UIDNEXT 3)'


async def test_arrivals_during_a_fetch_are_told_behind_it(autojump_clock: object) -> None:
    """A client that reads EXISTS inside FETCH may take it for part of the answer (interimap)."""
    world = World()
    async with notified(world, SELECTED) as client:
        world.deliver()
        assert await client.line() == b"* 1 EXISTS"
        assert (await client.line()).startswith(b"* 1 FETCH (UID 1")
        world.deliver()  # within 20 ms of the last: it waits
        assert await client.ok(b"FETCH 1 (FLAGS)") == [b"* 1 FETCH (FLAGS ())"]
        assert await client.line() == b"* 2 EXISTS"
        assert (await client.line()).startswith(b"* 2 FETCH (UID 2")


async def test_body_sections_of_new_messages_do_not_set_seen() -> None:
    world = World()
    group = b"(SELECTED (MessageNew (BODY[TEXT] ENVELOPE) MessageExpunge))"
    async with notified(world, group) as client:
        world.deliver()
        assert await client.line() == b"* 1 EXISTS"
        line = await client.line()
        assert line.startswith(b"* 1 FETCH (ENVELOPE (")
        assert line.endswith(b" BODY[TEXT] {7}\r\nhello\r\n)")
        assert await client.ok(b"FETCH 1 FLAGS") == [b"* 1 FETCH (FLAGS ())"]


async def test_flags_are_left_out_when_they_were_not_asked_for() -> None:
    world = World()
    world.deliver()
    group = b"(SELECTED (MessageNew MessageExpunge))"
    async with notified(world, group) as client, world.session() as other:
        await other.ok(b"STORE 1 +FLAGS.SILENT (\\Seen)")
        world.deliver()
        assert await client.line() == b"* 2 EXISTS"
        assert await client.ok(b"NOOP") == []


async def test_delayed_keeps_numbers_until_a_command_lets_them_change() -> None:
    world = World()
    for _ in range(2):
        world.deliver()
    async with notified(world, DELAYED) as client, world.session() as other:
        world.deliver()
        assert await client.line() == b"* 3 EXISTS"
        await other.ok(b"UID STORE 1 +FLAGS.SILENT (\\Deleted)")
        assert await client.line() == b"* 1 FETCH (UID 1 FLAGS (\\Deleted))"
        await other.ok(b"EXPUNGE")
        assert await client.quiet()
        assert await client.ok(b"FETCH 3 UID") == [b"* 3 FETCH (UID 3)"]
        assert await client.ok(b"NOOP") == [b"* 1 EXPUNGE"]


@pytest.mark.parametrize("command", [b"NOTIFY NONE", b"NOTIFY SET (SELECTED NONE)"])
async def test_who_wants_nothing_hears_nothing_but_its_own_expunges(command: bytes) -> None:
    world = World()
    for _ in range(3):
        world.deliver()
    async with world.session() as client, world.session() as other:
        await client.ok(command)
        await other.ok(b"STORE 1 +FLAGS.SILENT (\\Deleted)")
        await other.ok(b"EXPUNGE")
        world.deliver()
        assert await client.quiet()
        assert await client.ok(b"NOOP") == []
        assert await client.ok(b"FETCH 2 UID") == [b"* 2 FETCH (UID 2)"]
        await client.ok(b"UID STORE 2 +FLAGS.SILENT (\\Deleted)")
        assert await client.ok(b"EXPUNGE") == [b"* 2 EXPUNGE", b"* 1 EXPUNGE", b"* 2 EXISTS"]


async def test_own_moves_are_told_to_who_wants_nothing_else() -> None:
    world = World()
    for _ in range(2):
        world.deliver()
    async with world.session() as client:
        await client.ok(b"CREATE old")
        await client.ok(b"NOTIFY NONE")
        assert (await client.ok(b"MOVE 1 old"))[1:] == [b"* 1 EXPUNGE"]
        await client.ok(b"ENABLE QRESYNC")
        assert (await client.ok(b"MOVE 1 old"))[1:] == [b"* VANISHED 2"]


async def test_modseqs_of_news_nobody_tells_are_covered() -> None:
    """RFC 7162 §3.2: a client that resumes has to ask from below what it was not told."""
    world = World()
    for _ in range(2):
        world.deliver()  # modseq 3
    async with world.session() as client, world.session() as other:
        await client.ok(b"ENABLE QRESYNC")
        await client.ok(b"NOTIFY NONE")
        await other.ok(b"STORE 1 +FLAGS.SILENT (\\Deleted)")
        await other.ok(b"EXPUNGE")
        await other.ok(b"UID STORE 2 +FLAGS.SILENT (\\Seen)")
        assert await client.ok(b"UID FETCH 2 FLAGS") == [
            b"* 2 FETCH (UID 2 FLAGS (\\Seen) MODSEQ (6))",
            b"* OK [HIGHESTMODSEQ 3] Some changes wait",
        ]


async def test_set_tells_at_once_what_the_selected_mailbox_has_gathered() -> None:
    world = World()
    async with world.session() as client:
        await client.ok(b"NOTIFY NONE")
        world.deliver()
        assert await client.quiet()
        assert await client.ok(b"NOTIFY SET " + SELECTED) == [
            b"* 1 EXISTS",
            b"* 1 FETCH (UID 1 RFC822.SIZE %d)" % len(MESSAGE),
        ]


# --- other mailboxes --------------------------------------------------------------------------


async def test_other_mailboxes_are_told_by_status_with_one_line_for_many_messages() -> None:
    world = World()
    other = other_mailbox(world)
    async with notified(world, OTHERS) as client:
        for _ in range(3):
            world.deliver(mailbox=other)
        assert await client.line() == b'* STATUS "other" (MESSAGES 3 UIDNEXT 4)'
        world.deliver()  # into the selected one, of which nothing was asked
        assert await client.quiet()
        await client.ok(b"ENABLE CONDSTORE")
        world.deliver(mailbox=other)
        assert await client.line() == (b'* STATUS "other" (MESSAGES 4 UIDNEXT 5 HIGHESTMODSEQ 5)')


async def test_set_status_tells_how_things_are() -> None:
    world = World()
    other_mailbox(world)
    async with world.session() as client:
        assert await client.ok(b"NOTIFY SET STATUS " + OTHERS) == [
            b'* STATUS "other" (MESSAGES 0 UIDNEXT 1 UIDVALIDITY %d)' % NOW_S
        ]


async def test_names_and_subscriptions_of_other_sessions_are_told_and_own_ones_not() -> None:
    world = World()
    async with notified(world, OTHERS) as client, world.session() as other:
        await other.ok(b"CREATE a")
        assert await client.line() == b'* LIST (\\HasNoChildren) "/" "a"'
        await other.ok(b"SUBSCRIBE a")
        assert await client.line() == b'* LIST (\\HasNoChildren \\Subscribed) "/" "a"'
        await other.ok(b"RENAME a b")
        assert await client.line() == (
            b'* LIST (\\HasNoChildren \\Subscribed) "/" "b" ("OLDNAME" ("a"))'
        )
        await other.ok(b"DELETE b")
        assert await client.line() == b'* LIST (\\Noselect \\NonExistent \\HasNoChildren) "/" "b"'
        await client.ok(b"CREATE mine")
        await client.ok(b"SUBSCRIBE mine")
        await client.ok(b"RENAME mine yours")
        await client.ok(b"UNSUBSCRIBE yours")
        await client.ok(b"DELETE yours")
        assert await client.quiet()


async def test_a_mailbox_created_later_is_watched_as_well() -> None:
    world = World()
    async with notified(world, OTHERS) as client, world.session() as other:
        await other.ok(b"CREATE late")
        assert await client.line() == b'* LIST (\\HasNoChildren) "/" "late"'
        late = world.state.named(world.account.id, "late")
        assert late is not None
        world.deliver(mailbox=late.id)
        assert await client.line() == b'* STATUS "late" (MESSAGES 1 UIDNEXT 2)'


async def test_push_tokens_of_other_sessions_are_told() -> None:
    """RFC 5465 §5.6: a server with METADATA tells its changes."""
    world = World()
    token = b'SETMETADATA INBOX (/private/devicetoken "%b")'
    async with (
        notified(world, b"(PERSONAL (MailboxMetadataChange))") as client,
        world.session() as other,
    ):
        await other.ok(token % b"one")
        assert await client.line() == b'* METADATA "INBOX" /private/devicetoken'
        await other.ok(token % b"one")
        await client.ok(token % b"two")
        assert await client.quiet()


@pytest.mark.parametrize("is_idle", [False, True])
async def test_new_settings_are_told_within_a_minute(autojump_clock: object, is_idle: bool) -> None:
    world = World()
    async with notified(world, b"(PERSONAL (ServerMetadataChange))") as client:
        if is_idle:
            await client.send(b"i IDLE\r\n")
            assert await client.line() == b"+ idling"
        identity = attrs.evolve(SETTINGS.identity, operator_comment="new")
        world.settings = attrs.evolve(SETTINGS, identity=identity)
        started = trio.current_time()
        assert await client.line() == b'* METADATA "" /shared/comment'
        assert trio.current_time() - started <= 60.1


# --- waits ------------------------------------------------------------------------------------


async def test_idle_tells_the_same_events(autojump_clock: object) -> None:
    world = World()
    elsewhere = other_mailbox(world)
    async with notified(world, SELECTED + b" " + OTHERS) as client, world.session() as other:
        await client.send(b"i IDLE\r\n")
        assert await client.line() == b"+ idling"
        world.deliver()
        assert await client.line() == b"* 1 EXISTS"
        assert (await client.line()).startswith(b"* 1 FETCH (UID 1 RFC822.SIZE ")
        world.deliver(mailbox=elsewhere)
        assert await client.line() == b'* STATUS "other" (MESSAGES 1 UIDNEXT 2)'
        await other.ok(b"CREATE a")
        assert await client.line() == b'* LIST (\\HasNoChildren) "/" "a"'
        await client.send(b"DONE\r\n")
        assert await client.line() == b"i OK Idle completed"


async def test_idle_is_silent_about_a_mailbox_nothing_was_asked_of(autojump_clock: object) -> None:
    world = World()
    async with notified(world, OTHERS) as client:
        await client.send(b"i IDLE\r\n")
        assert await client.line() == b"+ idling"
        world.deliver()
        assert await client.line() == b"* OK Still here"
        await client.send(b"DONE\r\n")
        assert await client.line() == b"i OK Idle completed"


async def test_a_command_in_pieces_is_not_interrupted() -> None:
    world = World()
    async with notified(world, SELECTED) as client:
        await client.send(b"a CREATE {3}\r\n")
        assert await client.line() == b"+ OK"
        world.deliver()
        assert await client.quiet()
        await client.send(b"new\r\n")
        *told, done = await client.until(b"a")
        assert told == [b"* 1 EXISTS", b"* 1 FETCH (UID 1 RFC822.SIZE %d)" % len(MESSAGE)]
        assert done.endswith(b"Create completed")


async def test_nothing_is_pushed_behind_compress_before_the_client_speaks() -> None:
    """RFC 4978, spec mail 4.4 (COMPRESS): the client drops what came with the OK."""
    world = World()
    async with notified(world, SELECTED) as client:
        await client.ok(b"COMPRESS DEFLATE")
        world.deliver()
        assert await client.quiet()
        client.start_deflate()
        assert (await client.ok(b"NOOP"))[0] == b"* 1 EXISTS"
        world.deliver()
        assert await client.line() == b"* 2 EXISTS"


async def test_events_do_not_put_off_the_end_for_inactivity(autojump_clock: object) -> None:
    world = World()
    async with notified(world, SELECTED) as client:
        started = trio.current_time()
        for number in range(1, 5):
            await trio.sleep(400)
            world.deliver()
            assert await client.line() == b"* %d EXISTS" % number
            await client.line()
        assert await client.line() == b"* BYE Disconnected for inactivity"
        assert trio.current_time() - started == pytest.approx(1800)


async def test_what_comes_within_20_ms_is_one_line_and_the_client_is_heard(
    autojump_clock: object,
) -> None:
    world = World()
    async with notified(world, b"(SELECTED (MessageNew MessageExpunge))") as client:
        world.deliver()
        assert await client.line() == b"* 1 EXISTS"
        started = trio.current_time()
        for _ in range(5):
            world.deliver()
            await trio.testing.wait_all_tasks_blocked()
        assert await client.ok(b"NOOP") == [b"* 6 EXISTS"]
        assert trio.current_time() == started
        world.deliver()
        assert await client.line() == b"* 7 EXISTS"
        assert trio.current_time() - started <= 0.021


async def test_a_deleted_mailbox_ends_the_session_at_once() -> None:
    world = World()
    other_mailbox(world, "old")
    async with world.session(b"old") as client, world.session() as other:
        await client.ok(b"NOTIFY SET " + SELECTED)
        await other.ok(b"DELETE old")
        assert await client.line() == b"* BYE Mailbox deleted"
        assert await client.line() == b""


async def test_trouble_with_the_store_ends_the_session() -> None:
    world = World()
    elsewhere = other_mailbox(world)
    async with notified(world, OTHERS) as client:
        world.state.fail = 1
        world.deliver(mailbox=elsewhere)
        assert (await client.line()).startswith(b"* BYE [UNAVAILABLE] ")
    assert "imap_command_failed" in world.log.events


async def test_trouble_at_the_start_is_no_and_changes_nothing() -> None:
    world = World()
    async with world.session() as client:
        world.state.fail = 1
        assert (await client.cmd(b"NOTIFY SET " + OTHERS))[-1].startswith(b"NO [UNAVAILABLE] ")
        world.deliver()
        assert await client.quiet()
        assert await client.ok(b"NOOP") == [b"* 1 EXISTS"]


async def test_a_drain_reaches_a_session_that_waits_for_events() -> None:
    world = World()
    async with notified(world, OTHERS) as client:
        world.drain.start()
        assert await client.line() == b"* BYE [UNAVAILABLE] Server restarting"


async def test_listening_ends_with_the_session_and_with_the_next_notify() -> None:
    world = World()
    elsewhere = other_mailbox(world)
    hints = world.state.hints
    async with world.session() as client:
        assert hints.subscribers(elsewhere) == 0
        for _ in range(3):
            await client.ok(b"NOTIFY SET " + OTHERS)
            assert hints.subscribers(elsewhere) == 1
        await client.ok(b"NOTIFY SET " + SELECTED)
        assert hints.subscribers(elsewhere) == 0
        assert hints.subscribers(world.inbox) == 1
        await client.ok(b"NOTIFY SET " + OTHERS)
    await trio.testing.wait_all_tasks_blocked()
    assert hints.subscribers(elsewhere) == hints.subscribers(world.inbox) == 0


async def test_sessions_without_notify_hear_nothing_of_names(autojump_clock: object) -> None:
    world = World()
    async with world.session() as client, world.session() as other:
        await client.send(b"i IDLE\r\n")
        assert await client.line() == b"+ idling"
        await other.ok(b"CREATE a")
        await other.ok(b"SUBSCRIBE a")
        assert await client.line() == b"* OK Still here"
        assert await _next_is_silent(client)


async def _next_is_silent(client: Client) -> bool:
    return await client.line() == b"* OK Still here"


async def test_notify_is_refused_before_login_and_by_grammar() -> None:
    async with World().connect() as client:
        await client.line()
        assert (await client.cmd(b"NOTIFY NONE"))[-1].startswith(b"BAD ")
    async with World().session() as client:
        reply = await client.cmd(b"NOTIFY SET (PERSONAL (AnnotationChange))")
        assert reply[-1].startswith(b"NO [BADEVENT (MessageNew ")


# --- a client that only listens ---------------------------------------------------------------


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
