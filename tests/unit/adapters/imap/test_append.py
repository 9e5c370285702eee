"""APPEND: early refusals, streaming, the gate's answer, line ends."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.adapters.imap import append
from chatmail.adapters.imap.append import LineEnds
from chatmail.domain.model.settings import LimitSettings
from tests.unit.adapters.imap.world import MESSAGE, SETTINGS, World


def small(**limits: int) -> World:
    return World(attrs.evolve(SETTINGS, limits=LimitSettings(**limits)))


async def test_append_with_a_synchronising_literal() -> None:
    world = World()
    async with world.session() as client:
        await client.send(
            b'a APPEND INBOX (\\Seen kw) "01-Jan-2026 12:00:00 +0000" {%d}\r\n' % len(MESSAGE)
        )
        assert (await client.line()).startswith(b"+ ")
        await client.send(MESSAGE + b"\r\n")
        assert await client.until(b"a") == [
            b"* 1 EXISTS",
            b"a OK [APPENDUID 1700000000 1] Append completed",
        ]
        assert await client.ok(b"UID FETCH 1 (FLAGS INTERNALDATE RFC822.SIZE)") == [
            b'* 1 FETCH (UID 1 FLAGS (\\Seen kw) INTERNALDATE " 1-Jan-2026 12:00:00 +0000" '
            b"RFC822.SIZE %d)" % len(MESSAGE)
        ]


async def test_the_named_mailbox_is_used_not_the_selected_one() -> None:
    async with World().session() as client:
        await client.ok(b"CREATE a")
        await client.ok(b"APPEND a {%d+}\r\n" % len(MESSAGE) + MESSAGE)
        assert await client.ok(b"STATUS a (MESSAGES)") == [b'* STATUS "a" (MESSAGES 1)']
        assert await client.ok(b"STATUS INBOX (MESSAGES)") == [b'* STATUS "INBOX" (MESSAGES 0)']


async def test_other_sessions_get_exists() -> None:
    world = World()
    async with world.session() as client, world.session() as other:
        await other.send(b"i IDLE\r\n")
        assert await other.line() == b"+ idling"
        await client.ok(b"APPEND INBOX {%d+}\r\n" % len(MESSAGE) + MESSAGE)
        assert await other.line() == b"* 1 EXISTS"


@pytest.mark.parametrize(
    ("world", "mailbox", "code"),
    [
        pytest.param(World(), b"nowhere", b"TRYCREATE", id="missing mailbox"),
        pytest.param(small(max_message_bytes=100), b"INBOX", b"TOOBIG", id="too big"),
        pytest.param(small(max_mailbox_bytes=100), b"INBOX", b"OVERQUOTA", id="over quota"),
    ],
)
async def test_early_refusals_send_no_continuation(
    world: World, mailbox: bytes, code: bytes
) -> None:
    async with world.session() as client:
        await client.send(b"a APPEND %b {%d}\r\n" % (mailbox, len(MESSAGE)))
        assert (await client.line()).startswith(b"a NO [%b] " % code)
        await client.ok(b"NOOP")
        reply = await client.cmd(b"APPEND %b {%d+}\r\n" % (mailbox, len(MESSAGE)) + MESSAGE)
        assert reply[0].startswith(b"NO [%b] " % code)  # swallowed, still in step
        await client.ok(b"NOOP")


async def test_a_limit_lowered_meanwhile_holds_before_the_literal_is_sent() -> None:
    world = World()
    async with world.session() as client:
        world.settings = small(max_message_bytes=100).settings
        await client.send(b"a APPEND INBOX {%d}\r\n" % len(MESSAGE))
        assert await client.line() == b"a NO [TOOBIG] message file too big"


async def test_a_hopeless_literal_ends_the_connection() -> None:
    async with small(max_message_bytes=100).session() as client:
        await client.send(b"a APPEND INBOX {99999999+}\r\n")
        lines = await client.until(b"* BYE")
        assert any(line.startswith(b"* BYE [TOOBIG]") for line in lines)


async def test_the_gate_has_the_last_word() -> None:
    async with World().session() as client:
        message = MESSAGE + b"PLAINTEXT"
        assert await client.cmd(b"APPEND INBOX {%d+}\r\n" % len(message) + message) == [
            b"NO [CANNOT] Encryption Needed: Invalid Unencrypted Mail"
        ]


async def test_a_disk_that_fails_is_a_temporary_no_after_the_whole_literal() -> None:
    world = World()
    world.append.breaks_feed = True
    async with world.session() as client:
        assert await client.cmd(b"APPEND INBOX {%d+}\r\n" % len(MESSAGE) + MESSAGE) == [
            b"NO [UNAVAILABLE] Temporary server problem, try again later."
        ]
        await client.ok(b"NOOP")


async def test_a_store_that_fails_is_a_temporary_no() -> None:
    world = World()
    async with world.session() as client:
        world.state.fail = 1  # the lookup of the mailbox
        assert (await client.cmd(b"APPEND INBOX {3+}\r\nabc"))[-1].startswith(b"NO [UNAVAILABLE]")
        await client.send(b"a APPEND INBOX {%d}\r\n" % len(MESSAGE))
        await client.line()
        world.state.fail = 1  # the commit
        await client.send(MESSAGE + b"\r\n")
        assert (await client.line()).startswith(b"a NO [UNAVAILABLE]")


async def test_a_mailbox_deleted_meanwhile() -> None:
    world = World()
    async with world.session() as client, world.session() as other:
        await client.ok(b"CREATE a")
        await client.send(b"a APPEND a {%d}\r\n" % len(MESSAGE))
        await client.line()
        await other.ok(b"DELETE a")
        await client.send(MESSAGE + b"\r\n")
        assert (await client.line()).startswith(b"a NO [TRYCREATE] ")


async def test_octets_behind_the_literal_store_nothing() -> None:
    async with World().session() as client:
        reply = await client.cmd(b"APPEND INBOX {%d+}\r\n" % len(MESSAGE) + MESSAGE + b" x")
        assert reply[-1].startswith(b"BAD ")
        assert await client.ok(b"STATUS INBOX (MESSAGES)") == [b'* STATUS "INBOX" (MESSAGES 0)']


async def test_a_client_that_leaves_inside_the_literal_stores_nothing() -> None:
    world = World()
    async with world.session() as client:
        await client.send(b"a APPEND INBOX {%d}\r\n" % len(MESSAGE))
        await client.line()
        await client.send(MESSAGE[:20])
    assert world.state.usage(world.account.id) == 0


async def test_a_silent_client_inside_the_literal_is_dropped(autojump_clock: object) -> None:
    async with World().session() as client:
        await client.send(b"a APPEND INBOX {%d}\r\n" % len(MESSAGE))
        await client.line()
        assert (await client.line()).startswith(b"* BYE ")


async def test_keyword_limits_of_the_target() -> None:
    async with World().session() as client:
        reply = await client.cmd(b"APPEND INBOX (%b) {3+}\r\nabc" % (b"k" * 65))
        assert reply[-1].startswith(b"NO [LIMIT] ")


async def test_bare_lf_becomes_crlf_before_the_check() -> None:
    world = World()
    async with world.session() as client:
        message = MESSAGE.replace(b"\r\n", b"\n")
        await client.ok(b"APPEND INBOX {%d+}\r\n" % len(message) + message)
        (line,) = await client.ok(b"FETCH 1 BODY.PEEK[]")
        assert MESSAGE in line


@given(st.lists(st.sampled_from((b"\r", b"\n", b"a", b"\r\n")), max_size=20), st.integers(1, 5))
def test_line_ends_do_not_depend_on_the_chunks(pieces: list[bytes], step: int) -> None:
    octets = b"".join(pieces)
    lines = LineEnds()
    got = b"".join(
        lines.convert(octets[start : start + step]) for start in range(0, len(octets), step)
    )
    assert got == octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


# --- several at once (RFC 3502) -------------------------------------------------------------------

OTHER = MESSAGE.replace(b"m1@", b"m2@")


async def test_several_messages_in_one_command() -> None:
    world = World()
    async with world.session() as client:
        await client.send(b"a APPEND INBOX (\\Seen) {%d}\r\n" % len(MESSAGE))
        assert (await client.line()).startswith(b"+ ")
        await client.send(MESSAGE + b' (kw) "01-Jan-2020 00:00:00 +0000" {%d}\r\n' % len(OTHER))
        assert (await client.line()).startswith(b"+ ")
        await client.send(OTHER + b" {%d+}\r\n" % len(MESSAGE) + MESSAGE + b"\r\n")
        assert await client.until(b"a") == [
            b"* 3 EXISTS",
            b"a OK [APPENDUID 1700000000 1:3] Append completed",
        ]
        assert await client.ok(b"FETCH 1:* (FLAGS INTERNALDATE)") == [
            b'* 1 FETCH (FLAGS (\\Seen) INTERNALDATE " 1-Jan-2026 00:00:00 +0000")',
            b'* 2 FETCH (FLAGS (kw) INTERNALDATE " 1-Jan-2020 00:00:00 +0000")',
            b'* 3 FETCH (FLAGS () INTERNALDATE " 1-Jan-2026 00:00:00 +0000")',
        ]
    assert world.append.open == []


async def test_a_message_the_gate_refuses_takes_all_with_it() -> None:
    async with World().session() as client:
        bad = MESSAGE + b"PLAINTEXT"
        reply = await client.cmd(
            b"APPEND INBOX {%d+}\r\n%b {%d+}\r\n%b" % (len(MESSAGE), MESSAGE, len(bad), bad)
        )
        assert reply == [b"NO [CANNOT] Encryption Needed: Invalid Unencrypted Mail"]
        assert await client.ok(b"STATUS INBOX (MESSAGES)") == [b'* STATUS "INBOX" (MESSAGES 0)']


@pytest.mark.parametrize(
    ("world", "announced", "code"),
    [
        pytest.param(
            small(max_mailbox_bytes=2 * len(MESSAGE) - 1), len(MESSAGE), b"OVERQUOTA", id="sum"
        ),
        pytest.param(small(max_message_bytes=1000), 1001, b"TOOBIG", id="one too big"),
    ],
)
async def test_a_later_message_is_refused_before_its_continuation(
    world: World, announced: int, code: bytes
) -> None:
    async with world.session() as client:
        await client.send(b"a APPEND INBOX {%d}\r\n" % len(MESSAGE))
        await client.line()
        await client.send(MESSAGE + b" {%d}\r\n" % announced)
        assert (await client.line()).startswith(b"a NO [%b] " % code)
        assert await client.ok(b"STATUS INBOX (MESSAGES)") == [b'* STATUS "INBOX" (MESSAGES 0)']
        octets = b"APPEND INBOX {%d+}\r\n%b" % (len(MESSAGE), MESSAGE)
        reply = await client.cmd(octets + b" {%d+}\r\n%b" % (announced, b"x" * announced))
        assert reply[-1].startswith(b"NO [%b] " % code)  # swallowed, still in step
        await client.ok(octets)
    assert world.append.open == []


async def test_keywords_of_all_messages_count() -> None:
    async with World().session() as client:
        words = [" ".join(f"k{start + n}" for n in range(70)).encode() for start in (0, 70)]
        octets = b"APPEND INBOX (%b) {%d+}\r\n%b" % (words[0], len(MESSAGE), MESSAGE)
        more = b" (%b) {%d+}\r\n%b" % (words[1], len(MESSAGE), MESSAGE)
        assert (await client.cmd(octets + more))[-1].startswith(b"NO [LIMIT] ")
        await client.ok(octets)


async def test_the_number_of_messages_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(append, "MAX_MESSAGES", 2)
    async with World().session() as client:
        one = b"{%d+}\r\n%b" % (len(MESSAGE), MESSAGE)
        reply = await client.cmd(b"APPEND INBOX " + b" ".join([one] * 3))
        assert reply[-1] == b"NO [LIMIT] Too many messages in one command"
        await client.ok(b"APPEND INBOX " + b" ".join([one] * 2))


async def test_memory_of_several_messages_is_that_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(append, "HELD_OCTETS", 2 * len(MESSAGE) + 10)
    monkeypatch.setattr(append, "MAX_SPOOLED", 3)
    world = World()
    async with world.session() as client:
        one = b"{%d+}\r\n%b" % (len(MESSAGE), MESSAGE)
        await client.send(b"a APPEND INBOX " + b" ".join([one] * 5))
        assert await client.quiet()
        assert [message.is_spooled for message in world.append.open] == [False] * 2 + [True] * 3
        await client.send(b" {1}\r\n")
        assert (await client.line()).startswith(b"a NO [LIMIT] ")
        await client.ok(b"APPEND INBOX " + b" ".join([one] * 5))
    assert world.append.open == []


async def test_a_disk_that_fails_at_one_message_refuses_the_next() -> None:
    world = World()
    world.append.breaks_feed = True
    async with world.session() as client:
        await client.send(b"a APPEND INBOX {%d}\r\n" % len(MESSAGE))
        await client.line()
        await client.send(MESSAGE + b" {%d}\r\n" % len(MESSAGE))
        assert (await client.line()).startswith(b"a NO [UNAVAILABLE] ")
        await client.ok(b"NOOP")
