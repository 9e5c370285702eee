"""The face towards other relays: what port 25 takes, from whom, for whom."""

from __future__ import annotations

import pytest
import trio

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.federation import Source, TransportKind
from chatmail.domain.model.message import Door
from chatmail.domain.model.settings import FederationSettings, LimitSettings
from chatmail.domain.model.verdict import RefusalReason, Refuse
from chatmail.domain.wire.smtp.sequence import Role
from tests.unit.adapters.smtp.dialogue import CONTENT, GO_AHEAD, MAIL, RCPT, STORED
from tests.unit.adapters.smtp.fakes import AUTH, World, connect


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
