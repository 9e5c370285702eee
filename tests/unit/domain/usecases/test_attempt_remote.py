"""One attempt: which hops, in which order, what becomes of each recipient (A3, A6.8, A7, A10)."""

from __future__ import annotations

import pytest

from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.federation import (
    Dismissal,
    Hop,
    HopFault,
    HopResult,
    LedgerEvent,
    PeerAction,
    PeerHealth,
    PeerOverride,
    PeerRule,
    RecipientFate,
    RecipientOutcome,
    TransportKind,
)
from chatmail.domain.ports.remote import DnsFault, Letter, MxAnswer
from tests.unit.domain.usecases.abroad import ALICE, BOB, PEER, RelayAbroad
from tests.unit.fakes.remote import breaks, refuses, spoken

HTTPS, SMTP = TransportKind.HTTPS, TransportKind.SMTP
HOUR = 3600
ERIN = f"erin@{PEER}"
FRANK = f"frank@{PEER}"


def relay_with_mx(*hosts: str) -> RelayAbroad:
    relay = RelayAbroad()
    relay.resolver.add_mx(PEER, *(hosts or ("mx.peer.test",)))
    return relay


def each(**fates: tuple[RecipientFate, str]):  # type: ignore[no-untyped-def]
    """A peer that says something else of each recipient, by local part."""

    def behaviour(hop: Hop, letter: Letter) -> HopResult:
        outcomes = tuple(RecipientOutcome(one, *fates[one.local]) for one in letter.recipients)
        return HopResult(hop=hop, outcomes=outcomes)

    return behaviour


DELIVERED = (RecipientFate.DELIVERED, "250 2.1.5 OK")
UNKNOWN = (RecipientFate.PERMANENT, "550 5.1.1 User unknown")
GREYLISTED = (RecipientFate.TEMPORARY, "450 4.2.0 Greylisted")


# --- the order of hops (A3) -----------------------------------------------------------------------


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


# --- what becomes of recipients -------------------------------------------------------------------


async def test_one_message_has_one_report_with_all_who_failed() -> None:
    relay = relay_with_mx()
    relay.transport.on(HTTPS, "mx.peer.test", each(bob=UNKNOWN, erin=DELIVERED, frank=UNKNOWN))
    relay.enqueue(BOB, ERIN, FRANK)
    await relay.deliver()
    assert relay.reported() == [[(BOB, UNKNOWN[1]), (FRANK, UNKNOWN[1])]]
    (report,) = relay.state.reports
    assert str(report.sender) == ALICE
    assert b"Message-ID: <m1@relay.test>" in report.header
    assert {one.host for one in report.failed} == {"mx.peer.test"}
    assert report.due_s > relay.clock.now


@pytest.mark.parametrize(
    "details",
    [{"sender": None}, {"is_report": True}, {"sender": "carol@elsewhere.test"}],
    ids=["null", "report", "foreign"],
)
async def test_nothing_is_reported_to_null_senders_foreign_ones_or_about_reports(
    details: dict[str, object],
) -> None:
    relay = relay_with_mx()
    relay.transport.on(HTTPS, "mx.peer.test", refuses())
    relay.enqueue(BOB, **details)  # type: ignore[arg-type]
    await relay.deliver()
    assert relay.waiting() == {}
    assert relay.state.reports == []


async def test_a_temporary_failure_waits_as_the_schedule_says() -> None:
    relay = relay_with_mx()
    relay.transport.on(HTTPS, "mx.peer.test", refuses("450 4.2.0 Later"))
    relay.enqueue(BOB)
    for step in (30, 60, 120, 300, 600, 900, 1800, 3600, 3600):
        await relay.deliver()
        (due,) = [one.due_s for m in relay.state.outbound.values() for one in m.entries.values()]
        assert 0.8 * step <= due - relay.clock.now <= 1.2 * step
        relay.clock.now = due
    assert relay.waiting() == {BOB: "450 4.2.0 Later"}


async def test_a_refusal_of_us_is_final_after_an_hour_only() -> None:
    relay = relay_with_mx()
    relay.transport.on(HTTPS, "mx.peer.test", breaks(HopFault.UNSUPPORTED))
    relay.transport.on(SMTP, "mx.peer.test", breaks(HopFault.BROKEN, "554 5.7.1 Go away"))
    relay.enqueue(BOB)
    await relay.deliver()
    assert relay.waiting() == {BOB: "554 5.7.1 Go away"}
    relay.clock.now += HOUR
    await relay.deliver()
    assert relay.reported() == [[(BOB, "554 5.7.1 Go away")]]


async def test_policy_is_asked_again_at_each_attempt() -> None:
    relay = relay_with_mx()
    relay.enqueue(BOB)
    await relay.directory.put_rule(PeerRule(PEER, PeerAction.BLOCK, 0))
    await relay.deliver()
    assert relay.transport.attempts == []
    assert relay.reported() == [[(BOB, "policy")]]


async def test_what_is_dismissed_meanwhile_is_discarded_and_counted() -> None:
    relay = relay_with_mx()
    relay.enqueue(BOB)
    await relay.directory.put_dismissal(Dismissal(PEER, 0))
    await relay.deliver()
    assert relay.transport.attempts == []
    assert relay.waiting() == {}
    assert relay.state.reports == []
    assert relay.ledger.records()[0].counts == {LedgerEvent.DISMISSED: 1}


async def test_octets_that_cannot_be_read_are_no_attempt() -> None:
    relay = relay_with_mx()
    number = relay.enqueue(BOB)
    relay.state.outbound[number].blob.is_damaged = True
    await relay.deliver()
    (entry,) = relay.state.outbound[number].entries.values()
    assert (entry.attempts, entry.last) == (0, None)
    assert entry.due_s == relay.clock.now + 60


async def test_a_report_about_damaged_content_is_tried_again_and_then_goes_without() -> None:
    relay = relay_with_mx()
    number = relay.enqueue(BOB)
    relay.state.outbound[number].blob.is_damaged = True
    entries = await relay.claimed()
    given_up = relay.attempt.give_up(entries)

    async def read(offset: int, length: int) -> bytes:
        return await relay.queue.read(number, offset, length)

    with pytest.raises(TransientFailure):
        await relay.attempt.settlement(given_up, read, is_told=False, is_last_try=False)
    settled = await relay.attempt.settlement(given_up, read, is_told=False, is_last_try=True)
    assert settled.reports[0].header == b"\r\n"


async def test_giving_up_names_the_last_reason() -> None:
    relay = relay_with_mx()
    relay.transport.on(HTTPS, "mx.peer.test", refuses("450 4.2.0 Later"))
    relay.enqueue(BOB)
    await relay.deliver()
    relay.clock.now += 60
    (verdict,) = relay.attempt.give_up(await relay.claimed()).verdicts
    assert verdict.last is not None
    assert verdict.last.reply == "550 5.4.7 Delivery time expired: 450 4.2.0 Later"


async def test_a_settlement_that_the_client_was_told_of_owes_no_report() -> None:
    relay = relay_with_mx()
    relay.transport.on(HTTPS, "mx.peer.test", refuses())
    relay.enqueue(BOB)
    entries = await relay.claimed()

    async def read(offset: int, length: int) -> bytes:
        return await relay.queue.read(entries[0].message.id, offset, length)

    attempted = await relay.attempt(entries, read)
    assert attempted.refusal == "550 5.1.1 User unknown"
    assert (await relay.attempt.settlement(attempted, read, is_told=True)).reports == ()


# --- DNS ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "reply", "final_after", "final"),
    [
        (DnsFault.NXDOMAIN, "450 4.1.2", HOUR, "550 5.1.2 Domain not found"),
        (DnsFault.SERVFAIL, "451 4.4.3", None, ""),
        (DnsFault.TIMEOUT, "451 4.4.3", None, ""),
    ],
)
async def test_faults_of_dns(
    fault: DnsFault, reply: str, final_after: int | None, final: str
) -> None:
    relay = RelayAbroad()
    relay.resolver.mxs[PEER] = fault
    relay.enqueue(BOB)
    await relay.deliver()
    assert relay.waiting()[BOB].startswith(reply)
    relay.clock.now += final_after or 47 * HOUR
    await relay.deliver()
    assert relay.reported() == ([] if final_after is None else [[(BOB, final)]])
    assert relay.transport.attempts == []


async def test_no_address_is_final_after_a_day() -> None:
    relay = RelayAbroad()
    relay.resolver.hosts[PEER] = DnsFault.NO_DATA
    relay.enqueue(BOB)
    await relay.deliver()
    assert relay.waiting()[BOB].startswith("450 4.4.4")
    relay.clock.now += 24 * HOUR
    await relay.deliver()
    assert relay.reported() == [[(BOB, "550 5.4.4 No address of a mail host")]]


async def test_a_domain_that_takes_no_mail_is_final_at_once() -> None:
    relay = RelayAbroad()
    relay.resolver.mxs[PEER] = MxAnswer(hosts=(), is_null=True)
    relay.enqueue(BOB)
    await relay.deliver()
    assert relay.reported() == [[(BOB, "556 5.1.10 Domain does not accept mail")]]


# --- what is learned and counted ------------------------------------------------------------------


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
