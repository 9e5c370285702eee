"""One attempt: what is learned of the peer and counted (A10)."""

from __future__ import annotations

from chatmail.domain.model.federation import (
    Hop,
    HopFault,
    HopResult,
    LedgerEvent,
    PeerHealth,
    PeerOverride,
    RecipientFate,
)
from chatmail.domain.ports.remote import Letter
from tests.unit.domain.usecases.abroad import BOB, PEER
from tests.unit.domain.usecases.one_attempt import ERIN, HTTPS, SMTP, relay_with_mx
from tests.unit.fakes.remote import breaks, refuses, spoken


async def test_each_step_counts_on_its_own_transport_with_the_latency() -> None:
    relay = relay_with_mx()
    relay.transport.on(
        HTTPS, "mx.peer.test", breaks(HopFault.TLS, "454 4.7.5 certificate of <x@peer.test>")
    )
    relay.enqueue(BOB)
    relay.clock.now += 0.25
    await relay.deliver()
    (record,) = relay.ledger.records()
    assert record.counts == {LedgerEvent.FAIL_HTTPS: 1, LedgerEvent.OK_SMTP: 1}
    assert (record.latency_sum_ms, record.latency_count) == (250, 1)
    assert record.last_error == "454 4.7.5 certificate of <...>"


async def test_nothing_is_counted_when_statistics_are_off() -> None:
    relay = relay_with_mx()
    relay.federate(keeps_stats=False)
    relay.transport.on(HTTPS, "mx.peer.test", refuses())
    relay.enqueue(BOB)
    await relay.deliver()
    assert relay.ledger.records() == []


async def test_a_peer_that_is_down_is_remembered_with_a_pause() -> None:
    relay = relay_with_mx()
    for host in ("mx.peer.test", PEER):
        relay.transport.on(None, host, breaks(HopFault.CONNECT))
    relay.enqueue(BOB)
    await relay.deliver()
    health = relay.memory.health(PEER)
    assert health.connect_fail_streak == 1
    assert 24 <= health.not_before_s - relay.clock.now <= 36
    (due,) = [one.due_s for m in relay.state.outbound.values() for one in m.entries.values()]
    assert due == health.not_before_s  # the oldest stays first


async def test_a_message_that_a_peer_saw_is_not_the_next_probe() -> None:
    relay = relay_with_mx()
    relay.transport.on(HTTPS, "mx.peer.test", breaks(HopFault.BROKEN))
    relay.transport.on(HTTPS, PEER, breaks(HopFault.CONNECT))
    relay.transport.on(SMTP, "mx.peer.test", breaks(HopFault.CONNECT))
    relay.enqueue(BOB)
    await relay.deliver()
    health = relay.memory.health(PEER)
    (due,) = [one.due_s for m in relay.state.outbound.values() for one in m.entries.values()]
    assert due > health.not_before_s > relay.clock.now


async def test_an_override_goes_where_it_says() -> None:
    relay = relay_with_mx()
    await relay.directory.put_override(
        PeerOverride(domain=PEER, target="https://exchange.test:8443/in")
    )
    relay.transport.on(HTTPS, "exchange.test", breaks(HopFault.BROKEN))
    relay.enqueue(BOB)
    await relay.deliver()
    first, second = (one.hop for one in relay.transport.attempts)
    assert (first.port, first.path, first.is_operators_word) == (8443, "/in", True)
    assert (second.transport, second.host) == (SMTP, "exchange.test")
    assert relay.resolver.asked == []


async def test_partial_words_before_a_fault_count() -> None:
    relay = relay_with_mx()
    relay.memory.remember(PeerHealth(domain=PEER, https_block_until_s=2**40))

    def half(hop: Hop, letter: Letter) -> HopResult:
        return HopResult(
            hop=hop,
            outcomes=spoken(hop, letter, RecipientFate.DELIVERED).outcomes[:1],
            fault=HopFault.BROKEN,
            reply="421 4.3.2 Closing",
        )

    relay.transport.on(SMTP, "mx.peer.test", half)
    relay.enqueue(BOB, ERIN)
    await relay.deliver()
    assert relay.waiting() == {ERIN: "421 4.3.2 Closing"}
