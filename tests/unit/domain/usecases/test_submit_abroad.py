"""Submission with recipients elsewhere (A1, contract 3, spec mail 6.5)."""

from __future__ import annotations

import email
import email.policy

import pytest

from chatmail.domain.formats.body_digest import BodyDigests, Canonicalization
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.errors import Overloaded, TransientFailure
from chatmail.domain.model.federation import Dismissal, LedgerEvent, PeerAction, PeerRule
from chatmail.domain.model.message import Envelope
from chatmail.domain.model.outbound import NewOutbound
from chatmail.domain.model.verdict import RefusalReason, Refuse
from chatmail.domain.policy import quota
from chatmail.domain.usecases.submit import Accepted, Submit
from tests.builders import make_message
from tests.unit.domain.usecases.abroad import ALICE, BOB, PEER, RelayAbroad, names
from tests.unit.domain.usecases.relay import DOMAIN, CountingEntropy, FewBudgets

CAROL = f"carol@{DOMAIN}"
NOBODY = f"nobody@{DOMAIN}"
REFUSED = "550 5.1.1 User unknown"


def make_relay() -> RelayAbroad:
    relay = RelayAbroad()
    relay.accounts.add(ALICE)
    relay.accounts.add(CAROL)
    return relay


def submission(relay: RelayAbroad) -> Submit:
    return Submit(
        take_in=relay.take_in,
        budgets=FewBudgets(),  # type: ignore[arg-type]
        clock=relay.clock,
        entropy=CountingEntropy(),
        settings=lambda: relay.settings,
    )


async def send(
    relay: RelayAbroad, *recipients: str, octets: bytes | None = None
) -> Accepted | Refuse:
    octets = make_message(sender=ALICE) if octets is None else octets
    submit = submission(relay)
    envelope = Envelope(
        EmailAddress.parse(ALICE), tuple(EmailAddress.parse(text) for text in recipients)
    )
    (alice,) = await relay.accounts.resolve([EmailAddress.parse(ALICE)])
    assert alice is not None
    digests = submit.digests(envelope)
    if digests is not None:
        digests.feed(octets.partition(b"\r\n\r\n")[2])
    async with await relay.collected(octets) as message:
        return await submit(alice, envelope, message, digests)


def queued(relay: RelayAbroad) -> NewOutbound:
    (batch,) = relay.intake.committed
    assert batch.outbound is not None
    return batch.outbound


async def test_copies_entries_and_reports_are_one_commit() -> None:
    relay = make_relay()
    await relay.directory.put_rule(PeerRule("denied.test", PeerAction.BLOCK, 0))
    outcome = await send(relay, BOB, "x@denied.test", CAROL, NOBODY, f"erin@{PEER}")
    assert isinstance(outcome, Accepted)
    (batch,) = relay.intake.committed
    assert len(batch.deliveries) == 1
    assert names(queued(relay).recipients) == [BOB, f"erin@{PEER}"]
    (report,) = batch.reports
    assert [(str(one.address), one.reason) for one in report.failed] == [
        ("x@denied.test", RefusalReason.POLICY),
        (NOBODY, RefusalReason.UNKNOWN_RECIPIENT),
    ]
    assert report.due_s > relay.clock.now


async def test_the_message_is_signed_as_it_leaves_and_local_copies_have_no_signature() -> None:
    relay = make_relay()
    octets = make_message(sender=ALICE, fields=[("User-Agent", "leaky"), ("Received", "from me")])
    await send(relay, BOB, CAROL, octets=octets)
    new = queued(relay)
    content = octets.partition(b"\r\n\r\n")[2]
    digests = BodyDigests(Canonicalization.SIMPLE)
    digests.feed(content)
    hashed = digests.sha256(Canonicalization.SIMPLE)
    assert hashed is not None
    assert new.prefix == f"DKIM-Signature: d={DOMAIN}; bh={hashed.hex()}\r\n".encode()
    stored = relay.state.outbound[new.id].blob.octets
    assert stored.partition(b"\r\n\r\n")[2] == content
    for leak in (b"leaky", b"Received", b"DKIM-Signature"):
        assert leak not in stored
    assert email.message_from_bytes(stored, policy=email.policy.SMTP)["From"]


async def test_every_recipient_denied_is_the_reply_and_leaves_nothing() -> None:
    relay = make_relay()
    await relay.directory.put_rule(PeerRule("*", PeerAction.BLOCK, 0))
    outcome = await send(relay, BOB, NOBODY)
    assert outcome == Refuse(RefusalReason.POLICY, subject=BOB)
    assert relay.intake.committed == []


async def test_too_much_that_waits_is_a_temporary_no_and_stores_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Policy 3: an account's mail to others is bounded; mail to people here is not in it."""
    monkeypatch.setattr(quota, "MAX_WAITING_ENTRIES", 3)
    relay = make_relay()
    assert isinstance(await send(relay, BOB, f"erin@{PEER}"), Accepted)
    assert await send(relay, BOB, f"erin@{PEER}", CAROL) == Refuse(RefusalReason.MAIL_WAITS)
    assert len(relay.intake.committed) == 1
    assert isinstance(await send(relay, CAROL), Accepted)
    assert isinstance(await send(relay, BOB), Accepted)


async def test_local_domains_are_exempt_from_policy_and_dismissal() -> None:
    relay = make_relay()
    await relay.directory.put_rule(PeerRule("*", PeerAction.BLOCK, 0))
    await relay.directory.put_dismissal(Dismissal("*", 0))
    assert isinstance(await send(relay, CAROL), Accepted)
    (batch,) = relay.intake.committed
    assert len(batch.deliveries) == 1


async def test_without_federation_every_other_domain_is_denied() -> None:
    relay = make_relay()
    relay.federate(is_enabled=False)
    outcome = await send(relay, BOB)
    assert isinstance(outcome, Refuse)
    assert outcome.reason is RefusalReason.POLICY
    assert isinstance(await send(relay, CAROL), Accepted)


async def test_what_is_dismissed_is_accepted_counted_and_not_stored() -> None:
    relay = make_relay()
    await relay.directory.put_dismissal(Dismissal("peer.test", 0))
    assert isinstance(await send(relay, BOB, f"erin@{PEER}"), Accepted)
    assert relay.intake.committed == []
    assert relay.ledger.records()[0].counts == {LedgerEvent.DISMISSED: 1}


async def test_policy_comes_before_dismissal() -> None:
    relay = make_relay()
    await relay.directory.put_dismissal(Dismissal("peer.test", 0))
    await relay.directory.put_rule(PeerRule("peer.test", PeerAction.BLOCK, 0))
    assert isinstance(await send(relay, BOB), Refuse)


async def test_dismissed_beside_failed_is_accepted_with_a_report() -> None:
    relay = make_relay()
    await relay.directory.put_dismissal(Dismissal("peer.test", 0))
    assert isinstance(await send(relay, BOB, NOBODY), Accepted)
    assert relay.reported() == [[(NOBODY, "unknown_recipient")]]


async def test_trouble_of_the_store_is_temporary_for_all() -> None:
    relay = make_relay()

    async def full(batch: object) -> None:
        raise Overloaded("full")

    relay.intake.commit = full  # type: ignore[method-assign,assignment]
    with pytest.raises(Overloaded):
        await send(relay, BOB, CAROL)
    assert relay.first.tried == []
    assert relay.first.started == []


# --- the first attempt -----


async def test_a_lone_remote_recipient_is_tried_while_the_client_waits() -> None:
    relay = make_relay()
    assert isinstance(await send(relay, BOB), Accepted)
    ((letter, wait_s),) = relay.first.tried
    assert wait_s == 1.0
    assert queued(relay).leased_until_s > relay.clock.now + 60
    (entry,) = letter.entries
    held = relay.state.outbound[entry.message.id]
    assert entry.message == held.facts()
    assert await letter.read(0, entry.message.size) == held.blob.octets
    assert await letter.read(10, 700) == held.blob.octets[10:710]
    assert await letter.read(entry.message.size, 10) == b""


async def test_a_refusal_in_time_is_the_reply() -> None:
    relay = make_relay()
    relay.first.refusal = REFUSED
    assert await send(relay, BOB) == Refuse(RefusalReason.REMOTE, subject=REFUSED)


@pytest.mark.parametrize("others", [[CAROL], [NOBODY], ["x@other.test"], [f"erin@{PEER}"]])
async def test_with_anybody_else_served_nobody_waits(others: list[str]) -> None:
    relay = make_relay()
    relay.first.refusal = REFUSED
    assert isinstance(await send(relay, BOB, *others), Accepted)
    assert relay.first.tried == []
    assert relay.first.started


async def test_one_letter_for_each_destination() -> None:
    relay = make_relay()
    await send(relay, BOB, "x@other.test", f"erin@{PEER}")
    assert [names(e.recipient for e in one.entries) for one in relay.first.started] == [
        [BOB, f"erin@{PEER}"],
        ["x@other.test"],
    ]


async def test_a_wait_of_zero_never_waits() -> None:
    relay = make_relay()
    relay.schedule(reply_wait_s=0.0)
    relay.first.refusal = REFUSED
    assert isinstance(await send(relay, BOB), Accepted)
    assert relay.first.tried == []
    assert len(relay.first.started) == 1


async def test_peers_that_are_unwell_leave_it_to_the_queue() -> None:
    relay = make_relay()
    relay.first.unwell = {PEER}
    assert isinstance(await send(relay, BOB, "x@other.test"), Accepted)
    assert relay.first.tried == []
    assert relay.first.started == []
    assert queued(relay).leased_until_s == 0.0
    assert relay.state.outbound_added.is_set()


@pytest.mark.parametrize("size", [100_000, 800_000])
async def test_large_messages_are_read_from_memory_or_from_the_store(size: int) -> None:
    relay = make_relay()
    octets = make_message(sender=ALICE, size=size)
    await send(relay, BOB, octets=octets)
    ((letter, _),) = relay.first.tried
    message = letter.entries[0].message
    pieces = [await letter.read(at, 65536) for at in range(0, message.size, 65536)]
    assert b"".join(pieces).partition(b"\r\n\r\n")[2] == octets.partition(b"\r\n\r\n")[2]


async def test_hashes_are_made_only_for_mail_that_leaves() -> None:
    relay = make_relay()
    submit = submission(relay)
    alice = EmailAddress.parse(ALICE)
    assert submit.digests(Envelope(alice, (EmailAddress.parse(CAROL),))) is None
    remote = (EmailAddress.parse(CAROL), EmailAddress.parse(BOB))
    assert submit.digests(Envelope(alice, remote)) is not None


async def test_mail_that_leaves_without_hashes_is_temporary_trouble() -> None:
    relay = make_relay()
    (alice,) = await relay.accounts.resolve([EmailAddress.parse(ALICE)])
    assert alice is not None
    envelope = Envelope(alice.address, (EmailAddress.parse(BOB),))
    async with await relay.collected(make_message(sender=ALICE)) as message:
        with pytest.raises(TransientFailure):
            await submission(relay)(alice, envelope, message)
    assert relay.intake.committed == []


async def test_ids_grow_with_every_message_and_fit() -> None:
    relay = make_relay()
    drawn = []
    for at in range(50):
        relay.clock.now += at % 3 * 0.0004
        await send(relay, BOB)
        outbound = relay.intake.committed[-1].outbound
        assert outbound is not None
        drawn.append(int(outbound.id))
    assert drawn == sorted(set(drawn))
    assert all(0 < one < 2**63 for one in drawn)
    relay.clock.now = 2**42 / 1000 - 1  # the year 2109
    await send(relay, BOB)
    outbound = relay.intake.committed[-1].outbound
    assert outbound is not None
    assert outbound.id < 2**63


async def test_two_processes_draw_different_ids() -> None:
    one, other = make_relay(), make_relay()
    other.entropy.octets(5)
    assert queued_id(await sent(one)) != queued_id(await sent(other))


async def sent(relay: RelayAbroad) -> RelayAbroad:
    await send(relay, BOB)
    return relay


def queued_id(relay: RelayAbroad) -> int:
    return int(queued(relay).id)
