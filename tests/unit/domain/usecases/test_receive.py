"""The inbound door: the order of its checks, what is stored, who is told."""

from __future__ import annotations

import pytest

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.federation import LedgerEvent, Source, TransportKind
from chatmail.domain.model.settings import IdentitySettings
from chatmail.domain.model.verdict import RefusalReason, Refuse
from chatmail.domain.policy.encryption_gate import DkimResult
from chatmail.domain.usecases.intake import NOWHERE
from chatmail.domain.usecases.receive import Accepted
from tests.builders import delivery_report, make_message, report_body, securejoin_request
from tests.unit.domain.usecases.inbound import (
    ANN,
    BOB,
    HTTPS,
    MESSAGE,
    NOBODY,
    PEER,
    SMTP,
    InboundRelay,
    reason_of,
)
from tests.unit.domain.usecases.relay import DOMAIN

CAROL = f"carol@{DOMAIN}"


@pytest.fixture
def relay() -> InboundRelay:
    return InboundRelay()


# --- what is stored -----------------------------------------------------------------------------


def another(octets: bytes, number: int) -> bytes:
    """The same message under another Message-ID: a second arrival is no second copy."""
    return octets.replace(b"Message-ID: <", b"Message-ID: <%d" % number, 1)


async def test_a_message_reaches_every_recipient_without_its_trace(relay: InboundRelay) -> None:
    bob, carol = relay.accounts.add(BOB), relay.accounts.add(CAROL)
    trace = [
        ("Received", "from client ([192.0.2.9])"),
        ("DKIM-Signature", "v=1; d=peer.example"),
        ("Authentication-Results", "there; dkim=pass"),
        ("X-Other", "stays"),
    ]
    octets = make_message(sender=ANN, fields=trace)
    outcome = await relay.hand_in(octets, BOB, CAROL)
    assert isinstance(outcome, Accepted)
    assert outcome.queue_id
    (at_bob,), (at_carol,) = await relay.inbox(bob), await relay.inbox(carol)
    assert at_bob == at_carol
    header, _, body = at_bob.partition(b"\r\n\r\n")
    for name in (b"Received", b"DKIM-Signature", b"Authentication-Results", b"192.0.2"):
        assert name not in header
    assert b"X-Other: stays" in header
    assert body == octets.partition(b"\r\n\r\n")[2]
    assert len(relay.intake.committed) == 1


async def test_a_large_message_is_stored_from_its_spool(relay: InboundRelay) -> None:
    bob = relay.accounts.add(BOB)
    octets = make_message(sender=ANN, size=400_000, fields=[("Received", "from there")])
    assert isinstance(await relay.hand_in(octets), Accepted)
    (stored,) = await relay.inbox(bob)
    assert stored.partition(b"\r\n\r\n")[2] == octets.partition(b"\r\n\r\n")[2]


async def test_a_report_is_reduced_to_what_clients_need(relay: InboundRelay) -> None:
    bob = relay.accounts.add(BOB)
    secret = b"a text that was quoted"
    original = b"From: bob@relay.test\r\nMessage-ID: <m1@relay.test>\r\n\r\n" + secret + b"\r\n"
    octets = delivery_report(
        sender="MAILER-DAEMON@peer.example",
        body=report_body(original=original, text=b"line\r\n" * 2000),
    )
    assert isinstance(await relay.hand_in(octets, sender=None), Accepted)
    (stored,) = await relay.inbox(bob)
    assert secret not in stored
    assert b"text/rfc822-headers" in stored
    assert b"Message-ID: <m1@relay.test>" in stored
    assert b"Action: failed" in stored
    assert stored.count(b"line\r\n") * 6 <= 4096
    relay.change("gate", minimise_bounces=False)
    await relay.hand_in(another(octets, 2), sender=None)
    assert secret in (await relay.inbox(bob))[1]


async def test_a_request_to_join_passes(relay: InboundRelay) -> None:
    bob = relay.accounts.add(BOB)
    assert isinstance(await relay.hand_in(securejoin_request(sender=ANN)), Accepted)
    assert len(await relay.inbox(bob)) == 1


async def test_cleartext_passes_only_when_every_recipient_wants_it(relay: InboundRelay) -> None:
    open_minded = relay.accounts.add(BOB, accepts_cleartext=True)
    relay.accounts.add(CAROL)
    octets = make_message(sender=ANN, encrypted=False)
    assert isinstance(await relay.hand_in(octets, BOB), Accepted)
    for others in ((BOB, CAROL), (CAROL,), (BOB, NOBODY), (NOBODY,)):
        assert reason_of(await relay.hand_in(octets, *others)) is RefusalReason.ENCRYPTION_NEEDED
    assert len(await relay.inbox(open_minded)) == 1
    relay.verifier.result = DkimResult.BAD
    assert reason_of(await relay.hand_in(octets, BOB)) is RefusalReason.BAD_DKIM


# --- the order of checks ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"From: ann@peer.example\r\n\r\nbare\nfeed\r\n", RefusalReason.BAD_LINE),
        (make_message(sender=ANN, size=5_000_000), RefusalReason.TOO_BIG),
        (
            make_message(sender=f"x@{DOMAIN}", fields=[("Received", "x")] * 51),
            RefusalReason.TOO_MANY_HOPS,
        ),
        (
            b"From: a@x.example\r\nFrom: b@relay.test\r\n\r\nx\r\n",
            RefusalReason.BAD_HEADER,
        ),
        (make_message(sender=f"{ANN}, <x@{DOMAIN}>"), RefusalReason.INVALID_FROM),
        (make_message(sender=f"eve@{DOMAIN}", encrypted=False), RefusalReason.SPOOFED_DOMAIN),
        (make_message(sender=ANN, encrypted=False), RefusalReason.ENCRYPTION_NEEDED),
    ],
    ids=lambda value: value.value if isinstance(value, RefusalReason) else "",
)
async def test_what_needs_no_look_at_dns_is_said_first(
    relay: InboundRelay, octets: bytes, reason: RefusalReason
) -> None:
    relay.accounts.add(BOB)
    relay.limit(max_message_bytes=4_000_000)
    relay.verifier.result = DkimResult.BAD
    relay.budgets.empty = {"inbound"}
    assert reason_of(await relay.hand_in(octets)) is reason
    assert relay.verifier.asked == []
    assert relay.budgets.taken == []
    assert relay.intake.committed == []


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (DkimResult.NONE, RefusalReason.NO_DKIM),
        (DkimResult.BAD, RefusalReason.BAD_DKIM),
        (DkimResult.UNAVAILABLE, RefusalReason.DKIM_UNAVAILABLE),
    ],
)
async def test_without_a_good_signature_nothing_enters(
    relay: InboundRelay, result: DkimResult, reason: RefusalReason
) -> None:
    relay.accounts.add(BOB)
    relay.verifier.result = result
    relay.denied.add(PEER)  # of the header only: the envelope is the null sender
    assert reason_of(await relay.hand_in(MESSAGE, sender=None)) is reason
    assert relay.intake.committed == []
    assert relay.contacts == []
    assert relay.ledger.counted == []


async def test_the_policy_is_asked_about_the_author_behind_the_null_sender(
    relay: InboundRelay,
) -> None:
    relay.denied.add(PEER)
    relay.budgets.empty = {"inbound"}
    assert reason_of(await relay.hand_in(MESSAGE, sender=None)) is RefusalReason.POLICY
    assert relay.verifier.asked == [PEER]


async def test_the_rate_comes_after_the_policy(relay: InboundRelay) -> None:
    relay.accounts.add(BOB)
    relay.budgets.empty = {"inbound"}
    refused = await relay.hand_in(MESSAGE)
    assert refused == Refuse(RefusalReason.TOO_MUCH_MAIL, subject=ANN)
    assert relay.budgets.taken == [("inbound", PEER, 20.0, 500.0)]


def test_a_sender_of_ours_or_a_denied_one_is_not_admitted(relay: InboundRelay) -> None:
    relay.denied.add(PEER)
    spoofed = relay.receive.admit(EmailAddress.parse(f"x@{DOMAIN}"))
    assert spoofed is not None
    assert spoofed.reason is RefusalReason.SPOOFED_DOMAIN
    denied = relay.receive.admit(EmailAddress.parse(ANN))
    assert denied is not None
    assert denied.reason is RefusalReason.POLICY
    assert relay.receive.admit(EmailAddress.parse("a@other.example")) is None
    assert relay.receive.admit(None) is None


async def test_the_envelope_is_judged_with_the_message_too(relay: InboundRelay) -> None:
    relay.accounts.add(BOB)
    spoofed = await relay.hand_in(MESSAGE, sender=f"x@{DOMAIN}")
    assert reason_of(spoofed) is RefusalReason.SPOOFED_DOMAIN


async def test_domains_may_be_exempt_from_signing(relay: InboundRelay) -> None:
    relay.accounts.add(BOB)
    relay.verifier.result = DkimResult.NONE
    relay.change("federation", dkim_exempt=frozenset({PEER}))
    assert isinstance(await relay.hand_in(MESSAGE), Accepted)
    assert relay.contacts == []  # nobody proved to be there
    other = make_message(sender="a@other.example")
    assert reason_of(await relay.hand_in(other, sender=None)) is RefusalReason.NO_DKIM
    relay.change("federation", require_dkim=False)
    assert isinstance(await relay.hand_in(other, sender=None), Accepted)


# --- address literals ---------------------------------------------------------------------------

LITERAL = "ann@[192.0.2.7]"


async def test_a_literal_needs_no_signature_and_its_source_may_be_asked_for(
    relay: InboundRelay,
) -> None:
    relay.accounts.add(BOB)
    octets = make_message(sender=LITERAL)
    elsewhere = Source("198.51.100.1", TransportKind.SMTP)
    assert isinstance(await relay.hand_in(octets, sender=LITERAL), Accepted)
    assert isinstance(await relay.hand_in(octets, sender=LITERAL, source=elsewhere), Accepted)
    assert relay.verifier.asked == []
    assert [(kind, per_s, burst) for kind, _, per_s, burst in relay.budgets.taken] == [
        ("inbound", 20.0, 500.0),
        ("inbound_unproven", 2.0, 50.0),
    ]
    assert relay.contacts == ["[192.0.2.7]"]
    relay.change("federation", literal_source="match")
    refused = await relay.hand_in(octets, sender=LITERAL, source=elsewhere)
    assert reason_of(refused) is RefusalReason.NO_DKIM
    assert isinstance(await relay.hand_in(octets, sender=LITERAL), Accepted)


async def test_a_literal_that_is_ours_is_spoofed(relay: InboundRelay) -> None:
    relay.settings = InboundRelay().settings
    identity = IdentitySettings(
        mail_domain=DOMAIN,
        local_domains=frozenset({DOMAIN, "[192.0.2.7]"}),
        hostname="mx.relay.test",
    )
    relay.settings = type(relay.settings)(identity=identity)
    octets = make_message(sender=LITERAL)
    assert reason_of(await relay.hand_in(octets, sender=None)) is RefusalReason.SPOOFED_DOMAIN


# --- recipients without a copy ------------------------------------------------------------------


async def test_nobody_learns_who_exists(relay: InboundRelay) -> None:
    relay.accounts.add(BOB)
    relay.accounts.add(f"blocked@{DOMAIN}", is_blocked=True)
    outcomes = [
        await relay.hand_in(MESSAGE, to)
        for to in (BOB, NOBODY, f"blocked@{DOMAIN}", f"postmaster@{DOMAIN}")
    ]
    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    assert len(relay.intake.committed) == 4


async def test_for_nobody_the_store_has_the_same_work(relay: InboundRelay) -> None:
    relay.accounts.add(BOB)
    for to in (BOB, NOBODY):
        await relay.hand_in(MESSAGE, to)
    for_bob, for_nobody = relay.intake.committed
    assert for_nobody.body == for_bob.body
    assert len(for_nobody.deliveries) == len(for_bob.deliveries) == 1
    assert for_nobody.deliveries[0].mailbox == NOWHERE
    relay.state.fail = 1
    with pytest.raises(TransientFailure):
        await relay.hand_in(MESSAGE, NOBODY)


async def test_the_author_is_told_of_whom_could_not_be_served(relay: InboundRelay) -> None:
    bob = relay.accounts.add(BOB)
    relay.accounts.add(f"blocked@{DOMAIN}", is_blocked=True)
    await relay.hand_in(MESSAGE, NOBODY, BOB, f"blocked@{DOMAIN}")
    assert len(await relay.inbox(bob)) == 1
    (batch,) = relay.intake.committed
    (report,) = batch.reports
    assert str(report.sender) == ANN
    assert [(str(one.address), one.reason) for one in report.failed] == [
        (NOBODY, RefusalReason.UNKNOWN_RECIPIENT),
        (f"blocked@{DOMAIN}", RefusalReason.UNKNOWN_RECIPIENT),
    ]
    assert b"Message-ID:" in report.header
    assert 2 <= report.due_s - relay.clock.now <= 15


async def test_the_delay_of_reports_is_drawn_from_2_to_15_s(relay: InboundRelay) -> None:
    for _ in range(60):
        await relay.hand_in(MESSAGE, NOBODY)
    delays = {batch.reports[0].due_s - relay.clock.now for batch in relay.intake.committed}
    assert delays <= set(range(2, 16))
    assert len(delays) > 5


@pytest.mark.parametrize("case", ["null", "other", "literal", "report", "exempt", "off"])
async def test_nobody_is_told_who_is_not_the_proven_author(relay: InboundRelay, case: str) -> None:
    octets, sender, source = MESSAGE, ANN, SMTP
    if case == "null":
        sender = None
    elif case == "other":  # F-08
        sender = "victim@elsewhere.example"
    elif case == "literal":
        octets, sender = make_message(sender=LITERAL), LITERAL
    elif case == "report":
        sender = "mailer-daemon@peer.example"
        octets = delivery_report(sender=sender)
    elif case == "exempt":
        relay.change("federation", require_dkim=False)
    else:
        relay.change("federation", dsn_to_unknown=False)
    assert isinstance(await relay.hand_in(octets, NOBODY, sender=sender, source=source), Accepted)
    (batch,) = relay.intake.committed
    assert batch.reports == ()
    assert [one.mailbox for one in batch.deliveries] == [NOWHERE]


@pytest.mark.parametrize("kind", ["bounce_domain", "bounce_address"])
async def test_reports_have_a_rate(relay: InboundRelay, kind: str) -> None:
    relay.budgets.empty = {kind}
    assert isinstance(await relay.hand_in(MESSAGE, NOBODY), Accepted)
    assert relay.intake.committed[0].reports == ()
    assert relay.log.events() == ["report_dropped"]


async def test_an_hours_worth_of_reports_to_a_domain_at_once_ten_an_hour_to_an_address(
    relay: InboundRelay,
) -> None:
    await relay.hand_in(MESSAGE, NOBODY)
    taken = {kind: (key, per_s, burst) for kind, key, per_s, burst in relay.budgets.taken}
    assert taken["bounce_address"] == (ANN, 10 / 3600, 10.0)
    assert taken["bounce_domain"] == (PEER, 1 / 60, 60.0)


async def test_a_full_mailbox_is_trimmed_and_else_reported(relay: InboundRelay) -> None:
    bob = relay.accounts.add(BOB)
    relay.limit(max_mailbox_bytes=5000)
    await relay.hand_in(MESSAGE)
    await relay.hand_in(another(MESSAGE, 2))
    await relay.hand_in(another(MESSAGE, 3))  # everything is of today: nothing may go
    assert len(await relay.inbox(bob)) == 2
    (failed,) = relay.intake.committed[-1].reports[0].failed
    assert failed.reason is RefusalReason.OVER_QUOTA
    relay.clock.now += 2 * 86_400
    relay.receive.take_in._room._resting.clear()
    assert isinstance(await relay.hand_in(another(MESSAGE, 4)), Accepted)
    assert relay.intake.committed[-1].reports == ()
    assert relay.intake.committed[-1].deliveries[0].mailbox == bob.inbox


# --- durability ---------------------------------------------------------------------------------


async def test_a_store_that_fails_fails_for_everybody(relay: InboundRelay) -> None:
    bob = relay.accounts.add(BOB)
    relay.state.fail = 1
    with pytest.raises(TransientFailure):
        await relay.hand_in(MESSAGE, BOB, NOBODY)
    assert await relay.inbox(bob) == []
    assert relay.state.reports == []
    assert relay.contacts == []


async def test_a_copy_carries_what_tells_its_second_arrival(relay: InboundRelay) -> None:
    relay.accounts.add(BOB)
    relay.accounts.add(CAROL)
    other_body = make_message(sender=ANN, size=1001)
    other_id = make_message(sender=ANN, message_id="<other@peer.example>")
    for octets in (MESSAGE, MESSAGE, other_body, other_id):
        await relay.hand_in(octets, BOB, CAROL)
    keys = [[one.once for one in batch.deliveries] for batch in relay.intake.committed]
    assert keys[0] == keys[1]
    assert all(key and len(key) == 16 for both in keys for key in both)
    assert len({key for both in keys[1:] for key in both}) == 6


# --- what is remembered -------------------------------------------------------------------------


async def test_arrivals_are_counted_and_wake_what_waits_for_the_peer(relay: InboundRelay) -> None:
    relay.accounts.add(BOB)
    await relay.hand_in(MESSAGE)
    await relay.hand_in(MESSAGE, source=HTTPS)
    assert relay.ledger.counted == [
        (PEER, LedgerEvent.INBOUND_SMTP),
        (PEER, LedgerEvent.INBOUND_HTTP),
    ]
    assert relay.contacts == [PEER, PEER]
    relay.change("federation", keeps_stats=False)
    await relay.hand_in(MESSAGE)
    assert len(relay.ledger.counted) == 2
