"""The SMTP face over memory streams: dialogues, limits, and every way a session can end."""

from __future__ import annotations

import base64
import logging

import pytest
import trio

from chatmail.domain.formats.body_digest import BodyDigests, Canonicalization
from chatmail.domain.model.account import AccountId, Credentials
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.errors import Overloaded, TransientFailure
from chatmail.domain.model.federation import Source, TransportKind
from chatmail.domain.model.message import Door, Envelope
from chatmail.domain.model.settings import FederationSettings, LimitSettings
from chatmail.domain.model.verdict import RefusalReason, Refuse
from chatmail.domain.wire.smtp.sequence import Role
from tests.unit.adapters.smtp.fakes import AUTH, USER, Accepted, LoginRefusal, World, connect

ALICE = EmailAddress.parse(USER)
BOB = EmailAddress.parse("bob@relay.example")
MAIL = b"MAIL FROM:<alice@relay.example> BODY=8BITMIME\r\n"
RCPT = b"RCPT TO:<bob@relay.example>\r\n"
ENVELOPE = MAIL + RCPT + b"DATA\r\n"
GO_AHEAD = b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n"
CONTENT = b"From: alice@relay.example\r\n\r\n..dot\r\nhi\r\n.\r\n"
STORED = b"From: alice@relay.example\r\n\r\n.dot\r\nhi\r\n"


# --- submission ---------------------------------------------------------------------------------


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


# --- login --------------------------------------------------------------------------------------


async def test_starttls_then_login_without_second_greeting(nursery: trio.Nursery) -> None:
    connection = connect(nursery, World(), tls=False)
    client = connection.client
    await client.reply()
    hello = await client.ask(b"EHLO [127.0.0.1]\r\n")
    assert b"250-STARTTLS\r\n" in hello
    assert b"AUTH" not in hello
    assert (await client.ask(AUTH)).startswith(b"530 5.7.0 Must issue a STARTTLS")
    assert (await client.ask(MAIL)).startswith(b"530 5.7.0 Must issue a STARTTLS")
    assert await client.ask(b"STARTTLS\r\n") == b"220 2.0.0 Ready to start TLS\r\n"
    hello = await client.ask(b"EHLO [127.0.0.1]\r\n")
    assert b"AUTH PLAIN LOGIN\r\n" in hello
    assert b"STARTTLS" not in hello
    assert (await client.ask(MAIL)).startswith(b"530 5.7.0 Authentication")
    assert (await client.ask(AUTH)).startswith(b"235")


@pytest.mark.parametrize("role", Role)
async def test_cleartext_behind_starttls_closes_without_a_word(
    nursery: trio.Nursery, role: Role
) -> None:
    connection = connect(nursery, World(), role, tls=False)
    await connection.client.reply()
    await connection.client.say(b"STARTTLS\r\nEHLO evil\r\n" + AUTH)
    assert await connection.client.rest() == b""
    assert connection.world.logins == []
    assert not connection.stream.is_tls


@pytest.mark.parametrize("password", ['a"b\\c d{}', "p\u00e4ssw\u00f6rt\u20ac", "  x  "])
async def test_odd_passwords_arrive_octet_for_octet(nursery: trio.Nursery, password: str) -> None:
    connection = connect(nursery, World())
    client = connection.client
    await client.ask(b"EHLO x\r\n", 2)
    assert await client.ask(b"AUTH LOGIN\r\n") == b"334 VXNlcm5hbWU6\r\n"
    await client.ask(base64.b64encode(USER.encode()) + b"\r\n")
    assert (await client.ask(base64.b64encode(password.encode()) + b"\r\n")).startswith(b"235")
    assert connection.world.logins[0][0] == Credentials(USER, password.encode())


@pytest.mark.parametrize(
    ("reason", "reply"),
    [
        (
            RefusalReason.BAD_CREDENTIALS,
            b"535 5.7.8 Error: authentication failed: Invalid credentials\r\n",
        ),
        (
            RefusalReason.LOGIN_UNAVAILABLE,
            b"454 4.7.0 Temporary server problem, try again later\r\n",
        ),
    ],
)
async def test_a_refused_login_waits_as_told(
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    reason: RefusalReason,
    reply: bytes,
) -> None:
    connection = connect(nursery, World(login=lambda _: LoginRefusal(reason, 8.0)))
    client = connection.client
    await client.ask(b"EHLO x\r\n", 2)
    start = trio.current_time()
    assert await client.ask(AUTH) == reply
    assert trio.current_time() - start == pytest.approx(8)
    assert connection.world.logged == [("smtp_login_refused", {"reason": reason.value})]


async def test_an_exchange_that_cannot_succeed_looks_like_a_wrong_password(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    connection = connect(nursery, World())
    client = connection.client
    await client.ask(b"EHLO x\r\n", 2)
    start = trio.current_time()
    forged = b"AUTH PLAIN " + base64.b64encode(b"bob@d\0alice@d\0p") + b"\r\n"
    assert (await client.ask(forged)).startswith(b"535 5.7.8 ")
    assert trio.current_time() - start == pytest.approx(2)
    assert connection.world.logins == []


async def test_a_login_that_fails_inside_is_454(nursery: trio.Nursery) -> None:
    def fail(_: Credentials) -> object:
        raise Overloaded("hash queue")

    connection = connect(nursery, World(login=fail))
    await connection.client.ask(b"EHLO x\r\n", 2)
    assert (await connection.client.ask(AUTH)).startswith(b"454 4.7.0 Temporary server problem")


async def test_ten_failed_logins_close(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    refusal = LoginRefusal(RefusalReason.BAD_CREDENTIALS, 2.0)
    connection = connect(nursery, World(login=lambda _: refusal))
    client = connection.client
    await client.ask(b"EHLO x\r\n", 2)
    for _ in range(9):
        assert (await client.ask(AUTH)).startswith(b"535")
    await client.say(AUTH)
    assert (await client.rest()).endswith(b"421 4.7.0 Too many authentication failures\r\n")
    assert len(connection.world.logins) == 10


async def test_sessions_per_account_are_limited(nursery: trio.Nursery) -> None:
    world = World(limits=LimitSettings(smtp_sessions_per_account=1))
    first = connect(nursery, world)
    await first.log_in()
    second = connect(nursery, world)
    await second.client.ask(b"EHLO x\r\n", 2)
    await second.client.say(AUTH)
    assert await second.client.rest() == b"421 4.7.0 Too many connections\r\n"
    await first.client.ask(b"QUIT\r\n")
    await first.done.wait()
    await connect(nursery, world).log_in()


async def test_a_blocked_account_loses_its_session_at_once(nursery: trio.Nursery) -> None:
    connection = connect(nursery, World())
    await connection.log_in()
    connection.world.sessions.close_all(AccountId(1))
    assert (await connection.client.rest()).startswith(b"421 4.7.0 ")
    await connection.done.wait()
    assert connection.world.sessions.open == {}


async def test_a_blocked_account_loses_a_message_it_is_sending(nursery: trio.Nursery) -> None:
    connection = connect(nursery, World())
    await connection.log_in()
    await connection.client.ask(ENVELOPE, 3)
    await connection.client.say(b"half")
    await trio.testing.wait_all_tasks_blocked()
    connection.world.sessions.close_all(AccountId(1))
    assert (await connection.client.rest()).startswith(b"421 4.7.0 ")
    assert connection.world.messages == []
    assert connection.world.sinks == ["opened", "left"]


# --- port 25 ------------------------------------------------------------------------------------


async def test_port_25_before_tls(nursery: trio.Nursery) -> None:
    client = connect(nursery, World(), Role.INBOUND, tls=False).client
    assert await client.ask(b"VRFY alice@relay.example\r\n", 2) == (
        b"220 mx.relay.example ESMTP\r\n252 2.0.0 alice@relay.example\r\n"
    )
    assert b"250-STARTTLS\r\n" in await client.ask(b"EHLO peer.example\r\n")
    assert (await client.ask(b"MAIL FROM:<a@peer.example>\r\n")).startswith(b"530 5.7.0 Must")
    assert (await client.ask(AUTH)).startswith(b"502 5.5.1 ")


async def test_port_25_takes_mail_for_local_domains_only(nursery: trio.Nursery) -> None:
    world = World()
    client = connect(nursery, world, Role.INBOUND).client
    await client.ask(b"EHLO peer.example\r\n", 2)
    assert await client.ask(
        b"MAIL FROM:<a@peer.example>\r\nRCPT TO:<x@other.example>\r\nRCPT TO:<bob@relay.example>"
        b"\r\nRCPT TO:<no-such-user@relay.example>\r\nRCPT TO:<bob@127.0.0.1>\r\nDATA\r\n",
        6,
    ) == (
        b"250 2.1.0 Ok\r\n550 5.7.1 Relaying denied\r\n" + b"250 2.1.5 Ok\r\n" * 3 + GO_AHEAD[28:]
    )
    assert (await client.ask(CONTENT)).startswith(b"250 2.0.0")
    door, envelope, content = world.messages[0]
    assert (door, content) == (Door.SMTP_INBOUND, STORED)
    assert [str(address) for address in envelope.recipients] == [
        "bob@relay.example",
        "no-such-user@relay.example",
        "bob@[127.0.0.1]",
    ]
    assert world.admitted == [EmailAddress.parse("a@peer.example")]
    assert world.sources == [Source("192.0.2.7", TransportKind.SMTP)]


@pytest.mark.parametrize(
    ("reason", "reply"),
    [
        (RefusalReason.SPOOFED_DOMAIN, b"550 5.7.1 Sender domain is local\r\n"),
        (RefusalReason.POLICY, b"550 5.7.1 Policy Rejection\r\n"),
    ],
)
async def test_port_25_says_what_is_wrong_with_the_sender_at_every_rcpt(
    nursery: trio.Nursery, reason: RefusalReason, reply: bytes
) -> None:
    client = connect(nursery, World(sender_verdict=Refuse(reason)), Role.INBOUND).client
    await client.ask(b"EHLO peer.example\r\n", 2)
    assert await client.ask(MAIL + RCPT + RCPT + b"DATA\r\n", 4) == (
        b"250 2.1.0 Ok\r\n" + reply * 2 + b"554 5.5.1 No valid recipients\r\n"
    )


async def test_port_25_needs_no_tls_where_the_operator_says_so(nursery: trio.Nursery) -> None:
    world = World(federation=FederationSettings(require_tls=False))
    client = connect(nursery, world, Role.INBOUND, tls=False).client
    assert b"250-STARTTLS\r\n" in await client.ask(b"EHLO peer.example\r\n", 2)
    assert await client.ask(b"MAIL FROM:<a@peer.example>\r\n" + RCPT, 2) == (
        b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n"
    )
    assert (await client.ask(AUTH)).startswith(b"502 5.5.1 ")
    submission = connect(nursery, world, Role.SUBMISSION, tls=False).client
    await submission.ask(b"EHLO peer.example\r\n", 2)
    assert (await submission.ask(MAIL)).startswith(b"530 5.7.0 ")


async def test_port_25_closes_after_a_bare_line_end_in_content(nursery: trio.Nursery) -> None:
    connection = connect(nursery, World(), Role.INBOUND)
    await connection.client.ask(b"EHLO peer.example\r\n", 2)
    await connection.client.ask(b"MAIL FROM:<>\r\n" + RCPT + b"DATA\r\n", 3)
    await connection.client.say(b"From: a\r\n\r\nx\n.\r\nQUIT\r\n\r\n.\r\n")
    assert await connection.client.rest() == b"554 5.6.0 Bare CR, LF or NUL not allowed\r\n"
    assert connection.world.messages == []


async def test_port_25_takes_bounces_and_a_hundred_recipients(nursery: trio.Nursery) -> None:
    connection = connect(nursery, World(), Role.INBOUND)
    await connection.client.ask(b"EHLO peer.example\r\n", 2)
    rcpts = b"".join(b"RCPT TO:<r%d@relay.example>\r\n" % number for number in range(101))
    replies = await connection.client.ask(b"MAIL FROM:<>\r\n" + rcpts, 102)
    assert replies.count(b"250 2.1.5") == 100
    assert replies.endswith(b"452 4.5.3 Too many recipients\r\n")


async def test_port_25_limit_is_the_smaller_one_and_receive_may_refuse(
    nursery: trio.Nursery,
) -> None:
    limits = LimitSettings(max_message_bytes=5000, max_federation_bytes=4000)
    world = World(limits=limits, outcome=Refuse(RefusalReason.POLICY))
    connection = connect(nursery, world, Role.INBOUND)
    client = connection.client
    assert b"250-SIZE 4000\r\n" in await client.ask(b"EHLO peer.example\r\n", 2)
    await client.ask(b"MAIL FROM:<>\r\n" + RCPT + b"DATA\r\n", 3)
    assert await client.ask(CONTENT) == b"550 5.7.1 Policy Rejection\r\n"
    assert world.doors == [(Door.SMTP_INBOUND, 4000)]


# --- endings ------------------------------------------------------------------------------------


async def test_silence_ends_after_five_minutes(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    connection = connect(nursery, World())
    await connection.log_in()
    start = trio.current_time()
    assert await connection.client.rest() == b"421 4.4.2 Idle for too long\r\n"
    assert 300 <= trio.current_time() - start <= 311  # never early
    assert connection.world.sessions.open == {}


async def test_silence_inside_content_discards(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    connection = connect(nursery, World())
    await connection.log_in()
    await connection.client.ask(ENVELOPE, 3)
    await connection.client.say(b"half")
    assert await connection.client.rest() == b"421 4.4.2 Idle for too long\r\n"
    assert connection.world.sinks == ["opened", "left"]


async def test_a_drip_of_octets_without_progress_ends_after_a_quarter_hour(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    connection = connect(nursery, World(), Role.INBOUND)
    client = connection.client
    await client.reply()
    start = trio.current_time()
    with trio.move_on_after(5000):
        while not connection.done.is_set():
            await client.say(b"N")
            await trio.sleep(20)
    assert await client.rest() == b"421 4.4.2 Idle for too long\r\n"
    assert trio.current_time() - start == pytest.approx(900, abs=20)


async def test_draining_ends_an_idle_session_at_once(nursery: trio.Nursery) -> None:
    connection = connect(nursery, World())
    await connection.log_in()
    connection.world.drain.set()
    assert await connection.client.rest() == b"421 4.3.2 Service shutting down\r\n"


async def test_draining_lets_a_message_finish_and_then_ends(nursery: trio.Nursery) -> None:
    connection = connect(nursery, World())
    await connection.log_in()
    await connection.client.ask(ENVELOPE, 3)
    await connection.client.say(CONTENT[:10])
    await trio.testing.wait_all_tasks_blocked()
    connection.world.drain.set()
    await connection.client.say(CONTENT[10:])
    assert await connection.client.rest() == (
        b"250 2.0.0 Ok: queued as 7x\r\n421 4.3.2 Service shutting down\r\n"
    )
    assert len(connection.world.messages) == 1


async def test_draining_while_a_message_is_stored_refuses_the_next_one(
    nursery: trio.Nursery,
) -> None:
    world = World()

    async def drain_now() -> None:
        world.drain.set()

    world.before_commit = drain_now
    connection = connect(nursery, world)
    await connection.log_in()
    await connection.client.ask(ENVELOPE, 3)
    await connection.client.say(CONTENT + ENVELOPE + CONTENT)
    assert await connection.client.rest() == (
        b"250 2.0.0 Ok: queued as 7x\r\n421 4.3.2 Service shutting down\r\n"
    )
    assert len(world.messages) == 1


async def test_draining_just_as_commands_come_refuses_them(nursery: trio.Nursery) -> None:
    connection = connect(nursery, World())
    await connection.log_in()
    await trio.testing.wait_all_tasks_blocked()
    await connection.client.say(ENVELOPE + CONTENT)
    connection.world.drain.set()
    out = await connection.client.rest()
    assert out.endswith(b"421 4.3.2 Service shutting down\r\n")
    assert connection.world.messages == []


async def test_draining_interrupts_the_wait_after_a_refused_login(nursery: trio.Nursery) -> None:
    refusal = LoginRefusal(RefusalReason.BAD_CREDENTIALS, 30.0)
    connection = connect(nursery, World(login=lambda _: refusal))
    await connection.client.ask(b"EHLO x\r\n", 2)
    await connection.client.say(AUTH)
    await trio.testing.wait_all_tasks_blocked()
    connection.world.drain.set()
    assert (await connection.client.rest()).startswith(b"421 4.3.2")


async def test_a_new_connection_while_draining_is_told_so(nursery: trio.Nursery) -> None:
    world = World()
    world.drain.set()
    connection = connect(nursery, world)
    assert await connection.client.rest() == b"421 4.3.2 Service shutting down\r\n"


async def test_cancellation_from_outside_still_says_421(nursery: trio.Nursery) -> None:
    connection = connect(nursery, World())
    await connection.log_in()
    connection.cancel.cancel()
    assert await connection.client.rest() == b"421 4.3.2 Service shutting down\r\n"
    assert connection.world.sessions.open == {}


async def test_a_commit_that_outlives_the_cancellation_is_still_acknowledged(
    nursery: trio.Nursery,
) -> None:
    world = World()
    connection = connect(nursery, world)

    async def cancelled_meanwhile() -> None:
        connection.cancel.cancel()

    world.before_commit = cancelled_meanwhile
    await connection.log_in()
    await connection.client.ask(ENVELOPE, 3)
    await connection.client.say(CONTENT)
    out = await connection.client.rest()
    assert len(world.messages) == 1
    assert out.endswith(b"421 4.3.2 Service shutting down\r\n")
    assert out.startswith(b"250 2.0.0 Ok: queued as 7x\r\n")


async def test_a_store_that_hangs_is_451_before_core_gives_up(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(before_commit=trio.sleep_forever)
    connection = connect(nursery, world)
    await connection.log_in()
    await connection.client.ask(ENVELOPE, 3)
    start = trio.current_time()
    await connection.client.say(CONTENT)
    assert await connection.client.rest() == b"451 4.3.0 Temporary failure\r\n"
    assert trio.current_time() - start == pytest.approx(45)
    assert world.messages == []


async def test_a_commit_that_ends_after_the_deadline_is_a_250(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def slow() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(50)

    world = World(before_commit=slow)
    connection = connect(nursery, world)
    await connection.log_in()
    await connection.client.ask(ENVELOPE, 3)
    await connection.client.say(CONTENT)
    out = await connection.client.rest()
    assert out == b"250 2.0.0 Ok: queued as 7x\r\n421 4.4.2 Idle for too long\r\n"


async def test_nothing_is_said_behind_a_write_that_was_broken_off(nursery: trio.Nursery) -> None:
    connection = connect(nursery, World())
    await connection.log_in()
    connection.stream.writes.clear()
    connection.stream.is_stalled = True
    await connection.client.say(b"NOOP\r\n")
    await trio.testing.wait_all_tasks_blocked()
    connection.cancel.cancel()
    await connection.done.wait()
    assert connection.stream.writes == [b"250 2.0.0 Ok\r\n"]


async def test_too_many_errors_close(nursery: trio.Nursery) -> None:
    connection = connect(nursery, World())
    await connection.client.reply()
    await connection.client.say(b"BOGUS\r\n" * 30)
    out = await connection.client.rest()
    assert out.count(b"500 5.5.2") == 20
    assert out.endswith(b"421 4.7.0 Too many errors\r\n")


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
