"""Submissions over memory streams: dialogues, limits, outcomes."""

from __future__ import annotations

import logging

import pytest
import trio

from chatmail.domain.formats.body_digest import BodyDigests, Canonicalization
from chatmail.domain.model.account import Credentials
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.errors import Overloaded, TransientFailure
from chatmail.domain.model.message import Door, Envelope
from chatmail.domain.model.settings import LimitSettings
from chatmail.domain.model.verdict import RefusalReason, Refuse
from chatmail.domain.wire.smtp.sequence import Role
from tests.unit.adapters.smtp.dialogue import (
    ALICE,
    BOB,
    CONTENT,
    ENVELOPE,
    GO_AHEAD,
    MAIL,
    RCPT,
    STORED,
)
from tests.unit.adapters.smtp.fakes import AUTH, USER, Accepted, World, connect


async def test_a_pipelined_submission_in_three_writes(nursery: trio.Nursery) -> None:
    connection = connect(nursery, World())
    await connection.log_in()
    client, writes = connection.client, connection.stream.writes
    writes.clear()
    assert await client.ask(ENVELOPE, 3) == GO_AHEAD
    assert await client.ask(CONTENT) == b"250 2.0.0 Ok: queued as 7x\r\n"
    assert len(writes) == 2
    assert await client.ask(b"QUIT\r\n") == b"221 2.0.0 Bye\r\n"
    assert await client.rest() == b""
    world = connection.world
    assert world.messages == [(Door.SUBMISSION, Envelope(ALICE, (BOB,)), STORED)]
    assert world.doors == [(Door.SUBMISSION, 31457280)]
    assert world.sinks == ["opened", "left"]
    assert world.logins == [(Credentials(USER, b"secret"), "192.0.2.7")]
    assert world.sessions.open == {}
    assert world.drain.subscribers == 0


async def test_content_is_hashed_as_it_comes_when_the_use_case_wants_it(
    nursery: trio.Nursery,
) -> None:
    connection = connect(nursery, World())
    connection.world.hashes = BodyDigests(Canonicalization.SIMPLE)
    await connection.log_in()
    assert await connection.client.ask(ENVELOPE, 3) == GO_AHEAD
    assert (await connection.client.ask(CONTENT)).startswith(b"250 ")
    assert connection.world.collected_with == [{"digests": connection.world.hashes}]


async def test_what_another_relay_said_is_the_reply(nursery: trio.Nursery) -> None:
    refused = Refuse(RefusalReason.REMOTE, subject="554 5.7.1 We do not know you")
    connection = connect(nursery, World(outcome=refused))
    await connection.log_in()
    assert await connection.client.ask(ENVELOPE, 3) == GO_AHEAD
    assert await connection.client.ask(CONTENT) == b"554 5.7.1 We do not know you\r\n"


async def test_greeting_and_capabilities(nursery: trio.Nursery) -> None:
    client = connect(nursery, World()).client
    assert await client.reply() == b"220 mx.relay.example ESMTP\r\n"
    assert await client.ask(b"EHLO [127.0.0.1]\r\n") == (
        b"250-mx.relay.example\r\n250-PIPELINING\r\n250-SIZE 31457280\r\n"
        b"250-AUTH PLAIN LOGIN\r\n250-ENHANCEDSTATUSCODES\r\n250 8BITMIME\r\n"
    )


async def test_two_transactions_keep_their_own_recipients(nursery: trio.Nursery) -> None:
    connection = connect(nursery, World())
    await connection.log_in()
    client = connection.client
    for recipient in (b"bob", b"carol"):
        await client.ask(MAIL + b"RCPT TO:<" + recipient + b"@relay.example>\r\nDATA\r\n", 3)
        assert (await client.ask(CONTENT)).startswith(b"250 2.0.0")
    recipients = [message[1].recipients for message in connection.world.messages]
    assert recipients == [(BOB,), (EmailAddress.parse("carol@relay.example"),)]


async def test_each_message_of_a_long_session_counts_as_a_login_of_the_day(
    nursery: trio.Nursery,
) -> None:
    connection = connect(nursery, World())
    await connection.log_in()
    for _ in range(2):
        await connection.client.ask(ENVELOPE, 3)
        await connection.client.ask(CONTENT)
    assert [account.last_login_day for account in connection.world.senders] == [1, 2]


async def test_a_rest_of_ninety_seconds_between_transactions(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    connection = connect(nursery, World())
    await connection.log_in()
    await trio.sleep(90)
    assert await connection.client.ask(ENVELOPE, 3) == GO_AHEAD


async def test_recipients_are_unique_and_lose_their_detail_only_here(
    nursery: trio.Nursery,
) -> None:
    connection = connect(nursery, World())
    await connection.log_in()
    recipients = [b"bob", b"Bob+x", b"bob+y", b"u+tag@far.example", b"u+tag@FAR.example"]
    rcpts = b"".join(
        b"RCPT TO:<" + (r if b"@" in r else r + b"@relay.example") + b">\r\n" for r in recipients
    )
    replies = await connection.client.ask(MAIL + rcpts + b"DATA\r\n" + CONTENT, 8)
    assert replies.count(b"250 2.1.5 Ok\r\n") == 5
    envelope = connection.world.messages[0][1]
    assert [str(recipient) for recipient in envelope.recipients] == [
        "bob@relay.example",
        "u+tag@far.example",
    ]


async def test_bad_recipient_syntax_is_refused_alone(nursery: trio.Nursery) -> None:
    connection = connect(nursery, World())
    await connection.log_in()
    replies = await connection.client.ask(MAIL + b"RCPT TO:<nobody>\r\n" + RCPT, 3)
    assert replies.endswith(b"501 5.1.3 Bad recipient address syntax\r\n250 2.1.5 Ok\r\n")
    assert len(connection.world.admitted) == 1


async def test_the_recipient_limit_is_452_and_duplicates_do_not_count(
    nursery: trio.Nursery,
) -> None:
    connection = connect(nursery, World(limits=LimitSettings(max_recipients=3)))
    await connection.log_in()
    rcpts = b"".join(b"RCPT TO:<r%d@relay.example>\r\n" % number for number in (1, 2, 2, 3, 4))
    replies = await connection.client.ask(MAIL + rcpts, 6)
    assert replies.endswith(b"250 2.1.5 Ok\r\n" * 4 + b"452 4.5.3 Too many recipients\r\n")


async def test_a_thousand_recipients_in_one_transaction(nursery: trio.Nursery) -> None:
    connection = connect(nursery, World())
    await connection.log_in()
    rcpts = b"".join(b"RCPT TO:<r%d@relay.example>\r\n" % number for number in range(1001))
    replies = await connection.client.ask(MAIL + rcpts + b"DATA\r\n", 1003)
    assert replies.count(b"250 2.1.5") == 1000
    assert b"452 4.5.3" in replies
    assert (await connection.client.ask(CONTENT)).startswith(b"250 2.0.0")
    assert len(connection.world.messages[0][1].recipients) == 1000


@pytest.mark.parametrize(
    ("verdict", "reply"),
    [
        (
            Refuse(RefusalReason.NOT_OWNER, subject="eve@x.example", object=USER),
            b"553 5.7.1 <eve@x.example>: Sender address rejected: "
            b"not owned by user alice@relay.example\r\n",
        ),
        (
            Refuse(RefusalReason.TOO_MUCH_MAIL, subject=USER),
            b"450 4.7.1: Too much mail from <alice@relay.example>\r\n",
        ),
    ],
)
async def test_a_refused_sender_is_told_at_every_rcpt_and_judged_once(
    nursery: trio.Nursery, verdict: Refuse, reply: bytes
) -> None:
    connection = connect(nursery, World(sender_verdict=verdict))
    await connection.log_in()
    client, world = connection.client, connection.world
    assert await client.ask(MAIL + RCPT + RCPT + b"DATA\r\n", 4) == (
        b"250 2.1.0 Ok\r\n" + reply * 2 + b"554 5.5.1 No valid recipients\r\n"
    )
    assert world.admitted == [ALICE]
    assert world.doors == []
    world.sender_verdict = None
    await client.ask(b"RSET\r\n")
    assert await client.ask(ENVELOPE, 3) == GO_AHEAD
    assert world.admitted == [ALICE, ALICE]


async def test_the_null_sender_is_for_the_use_case_to_judge(nursery: trio.Nursery) -> None:
    connection = connect(nursery, World())
    await connection.log_in()
    await connection.client.ask(b"MAIL FROM:<>\r\n" + RCPT, 2)
    assert connection.world.admitted == [None]


async def test_an_announced_size_above_the_limit_is_refused_at_mail(nursery: trio.Nursery) -> None:
    connection = connect(nursery, World())
    await connection.log_in()
    client = connection.client
    too_big = b"MAIL FROM:<alice@relay.example> SIZE=31457281\r\n"
    assert await client.ask(too_big) == b"552 5.3.4 message file too big\r\n"
    fits = b"MAIL FROM:<alice@relay.example> SIZE=31457280\r\n"
    assert await client.ask(fits) == b"250 2.1.0 Ok\r\n"


@pytest.mark.parametrize("role", list(Role))
async def test_a_full_disk_is_452_at_mail_and_heals(nursery: trio.Nursery, role: Role) -> None:
    connection = connect(nursery, World(has_room=False), role)
    await connection.client.ask(b"EHLO [127.0.0.1]\r\n", 2)
    mail = b"MAIL FROM:<alice@far.example>\r\n"
    if role is Role.SUBMISSION:
        await connection.client.ask(AUTH)
    assert await connection.client.ask(mail) == b"452 4.3.1 Insufficient system storage\r\n"
    assert await connection.client.ask(RCPT) == b"503 5.5.1 Send MAIL first\r\n"
    connection.world.has_room = True
    assert await connection.client.ask(mail) == b"250 2.1.0 Ok\r\n"


async def test_content_one_octet_too_large_is_552_and_the_session_goes_on(
    nursery: trio.Nursery,
) -> None:
    connection = connect(nursery, World(limits=LimitSettings(max_message_bytes=len(STORED))))
    await connection.log_in()
    client = connection.client
    await client.ask(ENVELOPE, 3)
    assert await client.ask(b"x" + CONTENT) == b"552 5.3.4 message file too big\r\n"
    assert await client.ask(ENVELOPE, 3) == GO_AHEAD
    assert await client.ask(CONTENT) == b"250 2.0.0 Ok: queued as 7x\r\n"
    assert [message[2] for message in connection.world.messages] == [STORED]


async def test_content_above_twice_the_limit_closes(nursery: trio.Nursery) -> None:
    connection = connect(nursery, World(limits=LimitSettings(max_message_bytes=1000)))
    await connection.log_in()
    await connection.client.ask(ENVELOPE, 3)
    await connection.client.say(b"x" * 70_000)
    assert await connection.client.rest() == b"552 5.3.4 message file too big\r\n"


async def test_a_setting_changed_meanwhile_counts_from_the_next_command(
    nursery: trio.Nursery,
) -> None:
    connection = connect(nursery, World())
    await connection.log_in()
    connection.world.limits = LimitSettings(max_message_bytes=10)
    sized = b"MAIL FROM:<alice@relay.example> SIZE=11\r\n"
    assert (await connection.client.ask(sized)).startswith(b"552")


@pytest.mark.parametrize("fake_end", [b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n", b"\r\n\0.\r\n"])
@pytest.mark.parametrize("role", Role)
async def test_smuggling_is_554_and_close_and_never_a_message(
    nursery: trio.Nursery, fake_end: bytes, role: Role
) -> None:
    connection = connect(nursery, World(), role)
    if role is Role.SUBMISSION:
        await connection.log_in()
    else:
        await connection.client.ask(b"EHLO x\r\n", 2)
    foreign = ENVELOPE.replace(b"alice@relay", b"alice@peer")
    await connection.client.ask(foreign, 3)
    await connection.client.say(b"one" + fake_end + foreign + b"two\r\n.\r\n" + foreign + CONTENT)
    assert await connection.client.rest() == b"554 5.6.0 Bare CR, LF or NUL not allowed\r\n"
    assert connection.world.messages == []
    assert connection.world.sinks == ["opened", "left"]


@pytest.mark.parametrize(
    ("outcome", "reply"),
    [
        (
            Refuse(RefusalReason.ENCRYPTION_NEEDED, "M-01"),
            b"523 5.7.1 Encryption Needed: Invalid Unencrypted Mail\r\n",
        ),
        (
            Refuse(RefusalReason.UNKNOWN_RECIPIENT, subject="b@relay.example"),
            b"550 5.1.1 <b@relay.example>: Recipient address rejected: User unknown\r\n",
        ),
        (TransientFailure("disk /secret/path"), b"451 4.3.0 Temporary failure\r\n"),
        (Overloaded("queue"), b"452 4.3.1 Server is busy, try again later\r\n"),
    ],
)
async def test_outcomes_at_the_end_of_data_leave_the_session_usable(
    nursery: trio.Nursery, outcome: object, reply: bytes
) -> None:
    connection = connect(nursery, World(outcome=outcome))
    await connection.log_in()
    await connection.client.ask(ENVELOPE, 3)
    assert await connection.client.ask(CONTENT) == reply
    connection.world.outcome = Accepted("8y")
    await connection.client.ask(ENVELOPE, 3)
    assert await connection.client.ask(CONTENT) == b"250 2.0.0 Ok: queued as 8y\r\n"


async def test_a_disk_that_fails_while_content_comes_is_451_after_the_end(
    nursery: trio.Nursery,
) -> None:
    connection = connect(nursery, World(feed_failure=TransientFailure("full")))
    await connection.log_in()
    await connection.client.ask(ENVELOPE, 3)
    await connection.client.say(b"x" * 100_000 + b"\r\n")
    assert await connection.client.ask(b"x" * 100_000 + b"\r\n.\r\n") == (
        b"451 4.3.0 Temporary failure\r\n"
    )
    assert connection.world.messages == []
    assert await connection.client.ask(b"NOOP\r\n") == b"250 2.0.0 Ok\r\n"


async def test_an_overloaded_spool_is_452(nursery: trio.Nursery) -> None:
    connection = connect(nursery, World(feed_failure=Overloaded("full")))
    await connection.log_in()
    await connection.client.ask(ENVELOPE, 3)
    assert (await connection.client.ask(CONTENT)).startswith(b"452 4.3.1")


@pytest.mark.parametrize(
    "content", [b"half a mess", b"half\r\nQUIT\r\n", b"x\r\n.\r", b"y" * 99_999]
)
async def test_a_peer_that_leaves_inside_content_leaves_nothing(
    nursery: trio.Nursery, content: bytes
) -> None:
    # T25: after a refused recipient core says QUIT into the content and closes.
    connection = connect(nursery, World())
    await connection.log_in()
    await connection.client.ask(ENVELOPE, 3)
    await connection.client.say(content)
    connection.client.leave()
    assert await connection.client.rest() == b""
    await connection.done.wait()
    assert connection.world.messages == []
    assert connection.world.sinks == ["opened", "left"]
    assert connection.world.sessions.open == {}


async def test_nothing_private_is_logged(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    world = World(outcome=Refuse(RefusalReason.INVALID_FROM, "F-02", "h@x.example", USER))
    connection = connect(nursery, world)
    await connection.log_in()
    await connection.client.ask(ENVELOPE, 3)
    await connection.client.ask(CONTENT)
    assert world.logged == [
        ("smtp_message_refused", {"reason": "invalid_from", "rule": "F-02"}),
    ]
    assert caplog.records == []
