"""One attempt: what becomes of each recipient, who is told, what DNS says (A6.8, A7)."""

from __future__ import annotations

import pytest

from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.federation import Dismissal, HopFault, LedgerEvent, PeerAction, PeerRule
from chatmail.domain.ports.remote import DnsFault, MxAnswer
from tests.unit.domain.usecases.abroad import ALICE, BOB, PEER, RelayAbroad
from tests.unit.domain.usecases.one_attempt import (
    DELIVERED,
    ERIN,
    FRANK,
    HOUR,
    HTTPS,
    SMTP,
    UNKNOWN,
    each,
    relay_with_mx,
)
from tests.unit.fakes.remote import breaks, refuses

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
