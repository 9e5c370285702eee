"""Delivery over SMTP: transactions, recipients, refusals, content."""

from __future__ import annotations

import attrs
import pytest
import trio
import trio.testing

from chatmail.domain.formats.dot_stuffing import DotStuffer
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.federation import HopFault, TlsRule
from tests.unit.adapters.outbound.mail_server import MailServer, attempt
from tests.unit.adapters.outbound.rig import (
    CONTENT,
    DELIVERED,
    PERMANENT,
    TEMPORARY,
    Authority,
    fates,
    letter,
    peer,
    smtp_hop,
    smtp_transport,
)

# --- delivery ------------------------------------------------------------------------------------


@pytest.mark.parametrize("capabilities", [("PIPELINING", "SIZE 1000", "8BITMIME"), ()])
async def test_a_message_arrives_with_prefix_and_stuffed_dots(
    authority: Authority, capabilities: tuple[str, ...]
) -> None:
    server = MailServer(authority.server("peer.example"), capabilities)
    result = await attempt(
        server,
        letter("bob", "carol", prefix=b"DKIM-Signature: x\r\n"),
        tls=TlsRule.VERIFY,
        authority=authority,
    )
    assert result.fault is None
    assert fates(result) == {"bob": DELIVERED, "carol": DELIVERED}
    assert result.outcomes[0].reply == "250 2.0.0 queued"
    stuffer = DotStuffer()
    wire = stuffer.feed(b"DKIM-Signature: x\r\n" + CONTENT) + stuffer.finish()
    assert server.contents == [wire]


async def test_a_large_message_arrives_whole(authority: Authority) -> None:
    line = b".dots and text " * 4 + b"\r\n"
    content = line * 10_000
    server = MailServer(authority.server("peer.example"))
    result = await attempt(
        server, letter(content=content, prefix=b"X: y\r\n"), tls=TlsRule.VERIFY, authority=authority
    )
    assert fates(result) == {"bob": DELIVERED}
    (wire,) = server.contents
    unstuffed = wire.removesuffix(b".\r\n").replace(b"\r\n..", b"\r\n.")
    assert unstuffed == b"X: y\r\n" + content


async def test_the_name_we_say_and_the_size() -> None:
    server = MailServer()
    transport = smtp_transport()
    async with peer(server) as served:
        await transport.attempt(smtp_hop(served.port, TlsRule.NONE), letter(prefix=b"X: y\r\n"))
        transport.pool.close()
    assert served.heard[0] == "EHLO relay.example"
    assert served.heard[1].endswith(f" SIZE={len(CONTENT) + 6} BODY=8BITMIME")


async def test_recipients_are_judged_one_by_one() -> None:
    server = MailServer(rcpt=["250 ok", "550 5.1.1 no such user", "450 4.2.0 later"])
    result = await attempt(server, letter("bob", "carol", "dave"))
    assert fates(result) == {"bob": DELIVERED, "carol": PERMANENT, "dave": TEMPORARY}
    assert result.fault is None


async def test_postponed_recipients_get_another_transaction() -> None:
    """A6.4."""
    server = MailServer(rcpt=["250 ok", "452 4.5.3 too many", "452 4.5.3 too many"])
    result = await attempt(server, letter("bob", "carol", "dave"))
    assert fates(result) == {"bob": DELIVERED, "carol": DELIVERED, "dave": DELIVERED}
    assert len(server.contents) == 2
    assert server.sessions == 1


async def test_more_than_a_hundred_recipients_are_several_transactions() -> None:
    """A6.7."""
    server = MailServer()
    result = await attempt(server, letter(*(f"u{number}" for number in range(150))))
    assert len(fates(result)) == 150
    assert set(fates(result).values()) == {DELIVERED}
    assert len(server.contents) == 2


async def test_all_refused_sends_no_content() -> None:
    """A6.4: the server that says 354 all the same gets a lone dot."""
    server = MailServer(rcpt=["550 5.1.1 no"], verdict=["554 5.5.1 no recipients"])
    result = await attempt(server)
    assert fates(result) == {"bob": PERMANENT}
    assert server.contents == [b".\r\n"]


async def test_a_message_above_size_is_not_sent() -> None:
    server = MailServer(capabilities=("SIZE 10",))
    result = await attempt(server)
    assert fates(result) == {"bob": PERMANENT}
    assert result.outcomes[0].reply.startswith("552 5.3.4")
    assert server.contents == []


@pytest.mark.parametrize(
    ("replies", "fault", "reply"),
    [
        pytest.param({"greeting": ["554 5.7.1 no"]}, HopFault.BROKEN, "554 5.7.1", id="banner"),
        pytest.param({"greeting": ["421 4.3.2 busy"]}, HopFault.BUSY, "421 4.3.2", id="busy"),
        pytest.param({"mail": ["550 5.7.1 no"]}, HopFault.BROKEN, "550 5.7.1", id="mail"),
        pytest.param({"rcpt": ["421 4.3.2 bye"]}, HopFault.BUSY, "421 4.3.2", id="rcpt-421"),
    ],
)
async def test_a_refused_session_is_a_fault(
    replies: dict[str, list[str]], fault: HopFault, reply: str
) -> None:
    result = await attempt(MailServer(**replies))
    assert result.fault is fault
    assert result.reply.startswith(reply)


async def test_a_sender_to_come_again_is_a_word_on_the_message() -> None:
    """Greylisting: the peer is there, and other messages may pass."""
    result = await attempt(MailServer(mail=["451 4.7.1 later"]), letter("bob", "carol"))
    assert result.fault is None
    assert fates(result) == {"bob": TEMPORARY, "carol": TEMPORARY}
    assert result.outcomes[0].reply == "451 4.7.1 later"


async def test_a_final_refusal_is_the_peers_word() -> None:
    result = await attempt(MailServer(verdict=["554 5.7.1 No DKIM signature found"]))
    assert result.fault is None
    assert result.outcomes[0].reply == "554 5.7.1 No DKIM signature found"


# --- content that cannot be read -----------------------------------------------------------------


@pytest.mark.parametrize("how", ["raises", "short"])
async def test_unreadable_content_never_ends_in_a_dot(how: str) -> None:
    async def read(offset: int, length: int) -> bytes:
        if offset == 0:
            return CONTENT
        if how == "short":
            return b""
        raise TransientFailure("gone")

    server = MailServer()
    mail = attrs.evolve(letter(), size=200_000, read=read)
    transport = smtp_transport()
    async with peer(server) as served:
        with pytest.raises(TransientFailure):
            await transport.attempt(smtp_hop(served.port, TlsRule.NONE), mail)
        await trio.testing.wait_all_tasks_blocked()
    assert server.contents in ([], [b""], [CONTENT[:9]]) or not server.contents[0].endswith(
        b"\r\n.\r\n"
    )
    assert len(transport.pool) == 0
