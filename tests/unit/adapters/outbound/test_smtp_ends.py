"""Losses, silence and floods on the way out by SMTP, and what is known of the message then."""

from __future__ import annotations

import attrs
import pytest
import trio

from chatmail.domain.model.federation import HopFault, TlsRule
from chatmail.domain.ports.remote import DnsFault
from tests.unit.adapters.outbound.mail_server import MailServer, attempt, breaking
from tests.unit.adapters.outbound.rig import (
    DELIVERED,
    HASTE,
    PATIENCE,
    FakeResolver,
    PeerStream,
    Script,
    fates,
    letter,
    peer,
    smtp_hop,
    smtp_transport,
)


@pytest.mark.parametrize("at", ["connect", "ehlo", "envelope"])
async def test_a_loss_before_the_end_is_a_broken_hop(at: str) -> None:
    result = await attempt(breaking(at))
    assert (result.fault, result.reply) == (HopFault.BROKEN, "451 4.4.2 Connection lost")


async def test_a_loss_amid_a_large_content_is_not_ambiguous() -> None:
    result = await attempt(breaking("content"), letter(content=b"x" * 70 + b"\r\n" * 2_000_000))
    assert result.fault is HopFault.BROKEN


async def test_a_loss_after_the_final_dot_is_ambiguous() -> None:
    """A3.4."""
    result = await attempt(breaking("verdict"))
    assert result.fault is HopFault.AMBIGUOUS
    assert result.reply.startswith("451 4.4.2 ")


def mute(*said: str) -> Script:
    """A server that says this line after line, and then nothing."""

    async def serve(stream: PeerStream) -> None:
        for reply in said:
            await stream.send(reply + "\r\n")
            await stream.line()
        await trio.sleep_forever()

    return serve


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        pytest.param([], HopFault.BROKEN, id="greeting"),
        pytest.param(["220 x"], HopFault.BROKEN, id="ehlo"),
        pytest.param(["220 x", "250 x"], HopFault.BROKEN, id="mail"),
        pytest.param(["220 x", "250 x", "250 x"], HopFault.BROKEN, id="rcpt"),
        pytest.param(["220 x", "250 x", "250 x", "250 x"], HopFault.BROKEN, id="data"),
        pytest.param(["220 x", "250 x", "250 x", "250 x", "354 x"], HopFault.AMBIGUOUS, id="dot"),
    ],
)
async def test_a_mute_server_times_out(said: list[str], fault: HopFault) -> None:
    """A6.6."""
    result = await attempt(mute(*said), patience=HASTE)
    assert result.fault is fault
    assert result.reply.startswith("451 4.4.2 ")


async def test_a_trickle_of_octets_is_no_progress() -> None:
    async def server(stream: PeerStream) -> None:
        while True:
            await stream.send("220-x\r\n")
            await trio.sleep(0.02)

    with trio.fail_after(60):
        result = await attempt(server, patience=HASTE)
    assert (result.fault, result.reply) == (HopFault.BROKEN, "451 4.4.2 Timed out")


async def test_a_hop_has_an_end_whatever_the_server_does() -> None:
    async def server(stream: PeerStream) -> None:
        await stream.send("220 x\r\n")
        await stream.line()
        await stream.send("250-x\r\n250 PIPELINING\r\n")
        while True:
            await trio.sleep(0.05)
            await stream.send("250 ok\r\n")

    patience = attrs.evolve(PATIENCE, smtp_base=0.3)
    names = [f"u{number}" for number in range(100)]
    with trio.fail_after(60):
        result = await attempt(server, letter(*names), patience=patience)
    assert (result.fault, result.reply) == (HopFault.BROKEN, "451 4.4.2 Timed out")


async def test_a_server_that_takes_nothing_times_out() -> None:
    async def server(stream: PeerStream) -> None:
        await stream.send("220 x\r\n")
        await stream.line()
        await stream.send("250-x\r\n250 PIPELINING\r\n")
        for _ in range(3):
            await stream.line()
        await stream.send("250 ok\r\n250 ok\r\n354 go\r\n")
        await trio.sleep_forever()

    result = await attempt(server, letter(content=b"x\r\n" * 7_000_000), patience=HASTE)
    assert (result.fault, result.reply) == (HopFault.BROKEN, "451 4.4.2 Timed out")


async def test_a_flood_of_replies_is_cut_off() -> None:
    async def server(stream: PeerStream) -> None:
        await stream.send("220-" + "x" * 4000 + "\r\n")
        while True:
            await stream.send("220-" + "x" * 4000 + "\r\n")

    result = await attempt(server)
    assert (result.fault, result.reply[:9]) == (HopFault.BROKEN, "451 4.5.0")


async def test_a_refused_connection_is_no_connection() -> None:
    async with peer(MailServer()) as served:
        pass
    result = await smtp_transport().attempt(smtp_hop(served.port), letter())
    assert (result.fault, result.reply) == (HopFault.CONNECT, "451 4.4.1 Connection refused")


async def test_a_host_without_address_is_no_connection() -> None:
    transport = smtp_transport(resolver=FakeResolver(peer=DnsFault.NXDOMAIN))
    result = await transport.attempt(smtp_hop(25), letter())
    assert (result.fault, result.reply[:9]) == (HopFault.CONNECT, "451 4.4.4")


async def test_outcomes_before_a_fault_are_kept() -> None:
    server = MailServer(rcpt=["250 ok", "452 4.5.3 many"], mail=["250 ok", "550 5.7.1 no"])
    result = await attempt(server, letter("bob", "carol"))
    assert result.fault is HopFault.BROKEN
    assert fates(result) == {"bob": DELIVERED}


async def test_cancellation_leaves_nothing_behind() -> None:
    transport = smtp_transport()
    async with peer(mute("220 x", "250 x")) as served:
        with trio.move_on_after(0.1) as scope:
            await transport.attempt(smtp_hop(served.port, TlsRule.NONE), letter())
        assert scope.cancelled_caught
    assert len(transport.pool) == 0
