"""One attempt: which hops, in which order (A3)."""

from __future__ import annotations

import pytest

from chatmail.domain.model.federation import HopFault, PeerHealth
from tests.unit.domain.usecases.abroad import BOB, PEER, RelayAbroad
from tests.unit.domain.usecases.one_attempt import (
    DELIVERED,
    ERIN,
    FRANK,
    GREYLISTED,
    HTTPS,
    SMTP,
    UNKNOWN,
    each,
    relay_with_mx,
)
from tests.unit.fakes.remote import breaks, refuses


async def test_https_goes_first_and_says_it_all() -> None:
    relay = relay_with_mx()
    relay.enqueue(BOB, ERIN)
    await relay.deliver()
    assert relay.transport.tried() == [("https", "mx.peer.test")]
    (attempt,) = relay.transport.attempts
    assert attempt.octets.startswith(b"DKIM-Signature: here\r\nFrom: <alice@relay.test>\r\n")
    assert len(attempt.letter.recipients) == 2
    assert relay.waiting() == {}
    assert relay.reported() == []


@pytest.mark.parametrize("fault", [HopFault.UNSUPPORTED, HopFault.CONNECT, HopFault.BROKEN])
async def test_smtp_follows_at_once_when_https_gives_no_word(fault: HopFault) -> None:
    relay = relay_with_mx("mx1.peer.test", "mx2.peer.test")
    for host in ("mx1.peer.test", "mx2.peer.test"):
        relay.transport.on(HTTPS, host, breaks(fault))
    relay.transport.on(SMTP, "mx1.peer.test", breaks(HopFault.CONNECT))
    relay.enqueue(BOB)
    await relay.deliver()
    assert relay.transport.tried() == [
        ("https", "mx1.peer.test"),
        ("https", "mx2.peer.test"),
        ("smtp", "mx1.peer.test"),
        ("smtp", "mx2.peer.test"),
    ]
    assert relay.waiting() == {}


async def test_the_domain_itself_is_asked_when_no_mail_host_can_be_reached() -> None:
    relay = relay_with_mx()
    relay.transport.on(None, "mx.peer.test", breaks(HopFault.CONNECT))
    relay.enqueue(BOB)
    await relay.deliver()
    assert relay.transport.tried() == [
        ("https", "mx.peer.test"),
        ("smtp", "mx.peer.test"),
        ("https", PEER),
    ]
    assert relay.memory.health(PEER).learned_host == PEER


async def test_the_host_that_answered_is_asked_first_next_time() -> None:
    relay = relay_with_mx()
    relay.memory.remember(PeerHealth(domain=PEER, learned_host=PEER))
    relay.enqueue(BOB)
    await relay.deliver()
    assert relay.transport.tried() == [("https", PEER)]


async def test_a_permanent_word_over_smtp_is_the_last_word() -> None:
    relay = relay_with_mx("mx1.peer.test", "mx2.peer.test")
    for host in ("mx1.peer.test", "mx2.peer.test"):
        relay.transport.on(HTTPS, host, breaks(HopFault.UNSUPPORTED))
    relay.transport.on(SMTP, "mx1.peer.test", refuses("554 5.7.1 No"))
    relay.enqueue(BOB)
    await relay.deliver()
    assert relay.transport.tried()[-1] == ("smtp", "mx1.peer.test")
    assert relay.waiting() == {}
    assert relay.reported() == [[(BOB, "554 5.7.1 No")]]


async def test_a_word_over_https_is_not_asked_for_again_over_smtp() -> None:
    for reply in ("554 5.7.1 No", "450 4.2.0 Later"):
        relay = relay_with_mx()
        relay.transport.on(HTTPS, "mx.peer.test", refuses(reply))
        relay.enqueue(BOB)
        await relay.deliver()
        assert relay.transport.tried() == [("https", "mx.peer.test")]


async def test_a_temporary_word_of_a_mail_host_leads_to_the_next_mail_host() -> None:
    relay = relay_with_mx("mx1.peer.test", "mx2.peer.test")
    relay.memory.remember(PeerHealth(domain=PEER, https_block_until_s=2**40))
    relay.transport.on(SMTP, "mx1.peer.test", each(bob=DELIVERED, erin=GREYLISTED, frank=UNKNOWN))
    relay.enqueue(BOB, ERIN, FRANK)
    await relay.deliver()
    assert [[one.local for one in a.letter.recipients] for a in relay.transport.attempts] == [
        ["bob", "erin", "frank"],
        ["erin"],
    ]
    assert relay.waiting() == {}
    assert relay.reported() == [[(FRANK, UNKNOWN[1])]]


async def test_what_is_unclear_is_asked_over_smtp() -> None:
    relay = relay_with_mx("mx1.peer.test", "mx2.peer.test")
    relay.transport.on(HTTPS, "mx1.peer.test", breaks(HopFault.UNCLEAR, "550 5.7.1 Forbidden"))
    relay.enqueue(BOB)
    await relay.deliver()
    assert relay.transport.tried() == [("https", "mx1.peer.test"), ("smtp", "mx1.peer.test")]
    assert relay.waiting() == {}


@pytest.mark.parametrize(
    ("reply", "is_final"), [("550 5.7.1 Forbidden", True), ("450 4.0.0 Bad request", False)]
)
async def test_what_is_unclear_holds_when_smtp_cannot_be_asked(reply: str, is_final: bool) -> None:
    relay = relay_with_mx()
    relay.transport.on(HTTPS, "mx.peer.test", breaks(HopFault.UNCLEAR, reply))
    relay.transport.on(SMTP, "mx.peer.test", breaks(HopFault.CONNECT))
    relay.enqueue(BOB)
    await relay.deliver()
    assert relay.reported() == ([[(BOB, reply)]] if is_final else [])
    assert relay.waiting() == ({} if is_final else {BOB: reply})


async def test_a_peer_that_finds_us_too_eager_is_left_alone_as_long_as_it_says() -> None:
    relay = relay_with_mx()
    busy = breaks(HopFault.BUSY, "450 4.7.1 Too many requests", retry_after_s=900.0)
    relay.transport.on(HTTPS, "mx.peer.test", busy)
    relay.enqueue(BOB)
    await relay.deliver()
    assert relay.transport.tried() == [("https", "mx.peer.test")]
    (due,) = [one.due_s for m in relay.state.outbound.values() for one in m.entries.values()]
    assert due >= relay.clock.now + 900


async def test_a_web_server_without_its_service_leads_to_smtp() -> None:
    relay = relay_with_mx()
    relay.transport.on(HTTPS, "mx.peer.test", breaks(HopFault.BUSY, "451 4.3.2 HTTP 503: Busy"))
    relay.enqueue(BOB)
    await relay.deliver()
    assert relay.transport.tried() == [("https", "mx.peer.test"), ("smtp", "mx.peer.test")]


async def test_an_unknown_end_stops_and_the_same_transport_goes_first_next_time() -> None:
    relay = relay_with_mx()
    relay.transport.on(HTTPS, "mx.peer.test", breaks(HopFault.UNSUPPORTED))
    relay.transport.on(SMTP, "mx.peer.test", breaks(HopFault.AMBIGUOUS, "451 4.4.0 Timed out"))
    relay.enqueue(BOB)
    await relay.deliver()
    assert relay.waiting() == {BOB: "451 4.4.2 Timed out"}
    relay.transport.on(SMTP, "mx.peer.test", refuses("250 2.0.0 OK"))
    relay.clock.now += 60
    relay.transport.attempts.clear()
    await relay.deliver()
    assert relay.transport.tried()[0] == ("smtp", "mx.peer.test")


async def test_an_unknown_end_over_https_goes_to_https_again_even_when_it_is_left_alone() -> None:
    relay = relay_with_mx()
    relay.transport.on(HTTPS, "mx.peer.test", breaks(HopFault.AMBIGUOUS))
    relay.enqueue(BOB)
    await relay.deliver()
    assert relay.transport.tried() == [("https", "mx.peer.test")]
    health = relay.memory.health(PEER)
    relay.memory.remember(
        PeerHealth(domain=PEER, https_block_until_s=2**40, updated_s=health.updated_s)
    )
    relay.clock.now += 60
    await relay.deliver()
    assert relay.transport.tried()[1] == ("https", "mx.peer.test")


async def test_https_that_is_left_alone_is_tried_at_once_when_smtp_cannot_connect() -> None:
    relay = relay_with_mx()
    relay.memory.remember(PeerHealth(domain=PEER, https_block_until_s=2**40))
    relay.transport.on(SMTP, "mx.peer.test", breaks(HopFault.CONNECT))
    relay.enqueue(BOB)
    await relay.deliver()
    assert relay.transport.tried() == [("smtp", "mx.peer.test"), ("https", "mx.peer.test")]
    assert relay.memory.health(PEER).https_block_until_s == 0
    assert relay.waiting() == {}


async def test_literals_end_with_plain_http() -> None:
    relay = RelayAbroad()
    bob = "bob@[203.0.113.7]"
    for kind in (HTTPS, SMTP):
        relay.transport.on(kind, "203.0.113.7", breaks(HopFault.CONNECT))
    relay.enqueue(bob)
    await relay.deliver("[203.0.113.7]")
    assert relay.transport.tried() == [
        ("https", "203.0.113.7"),
        ("smtp", "203.0.113.7"),
        ("http", "203.0.113.7"),
    ]
    assert relay.resolver.asked == []
