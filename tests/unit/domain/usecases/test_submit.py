"""Submission: who may send, what is stored, what is said about recipients."""

from __future__ import annotations

import email
import email.policy

import attrs
import pytest

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.errors import Overloaded
from chatmail.domain.model.message import Envelope
from chatmail.domain.model.verdict import RefusalReason, Refuse
from chatmail.domain.usecases.submit import Accepted, Submit
from tests.builders import make_message
from tests.unit.domain.usecases.relay import DOMAIN, CountingEntropy, FewBudgets, MemoryRelay

ALICE = f"alice@{DOMAIN}"
BOB = f"bob@{DOMAIN}"
NOBODY = f"nobody@{DOMAIN}"


def submission(relay: MemoryRelay, budgets: FewBudgets | None = None) -> Submit:
    return Submit(
        take_in=relay.take_in,
        budgets=budgets or FewBudgets(),  # type: ignore[arg-type]
        clock=relay.clock,
        entropy=CountingEntropy(),
        settings=lambda: relay.settings,
    )


def to(*recipients: str) -> Envelope:
    return Envelope(
        EmailAddress.parse(ALICE), tuple(EmailAddress.parse(text) for text in recipients)
    )


async def send(
    relay: MemoryRelay, octets: bytes, *recipients: str
) -> tuple[Accepted | Refuse, object]:
    alice = (await relay.accounts.resolve([EmailAddress.parse(ALICE)]))[0]
    assert alice is not None
    async with await relay.collected(octets) as message:
        return await submission(relay)(alice, to(*recipients), message), alice


def test_only_the_own_address_may_send() -> None:
    relay = MemoryRelay()
    alice = relay.accounts.add(ALICE)
    submit = submission(relay)
    assert submit.admit(alice, alice.address) is None
    refused = submit.admit(alice, EmailAddress.parse(BOB))
    assert refused == Refuse(RefusalReason.NOT_OWNER, "F-01", BOB, ALICE)
    null_sender = submit.admit(alice, None)
    assert null_sender is not None
    assert null_sender.reason is RefusalReason.NOT_OWNER


def test_the_rate_is_charged_per_account_and_only_to_owners() -> None:
    relay = MemoryRelay()
    alice = relay.accounts.add(ALICE)
    budgets = FewBudgets(left=1)
    submit = submission(relay, budgets)
    assert submit.admit(alice, EmailAddress.parse(BOB)) is not None
    assert budgets.asked == []
    assert submit.admit(alice, alice.address) is None
    refused = submit.admit(alice, alice.address)
    assert refused is not None
    assert refused.reason is RefusalReason.TOO_MUCH_MAIL
    assert refused.subject == ALICE
    assert budgets.asked[0] == ("send", str(alice.id), 1.0, 10)
    relay.limit(send_rate_per_minute=0)
    assert submit.admit(alice, alice.address) is None


async def test_all_recipients_get_one_identical_copy_with_the_edits_of_the_gate() -> None:
    relay = MemoryRelay()
    relay.accounts.add(ALICE)
    bob, carol = relay.accounts.add(BOB), relay.accounts.add(f"carol@{DOMAIN}")
    octets = make_message(
        sender=ALICE, fields=[("Subject", "a secret plan"), ("X-Mailer", "leaky 1.0")]
    )
    outcome, _ = await send(relay, octets, BOB, f"carol@{DOMAIN}")
    assert isinstance(outcome, Accepted)
    (at_bob,), (at_carol,) = await relay.inbox(bob), await relay.inbox(carol)
    assert at_bob == at_carol
    assert b"\r\nSubject: [...]\r\n" in b"\r\n" + at_bob
    assert b"secret" not in at_bob
    assert b"leaky" not in at_bob
    assert at_bob.partition(b"\r\n\r\n")[2] == octets.partition(b"\r\n\r\n")[2]


async def test_what_the_client_left_out_is_supplied() -> None:
    relay = MemoryRelay()
    relay.accounts.add(ALICE)
    bob = relay.accounts.add(BOB)
    await send(relay, make_message(sender=ALICE, without=["Message-ID", "Date"]), BOB)
    (stored,) = await relay.inbox(bob)
    message = email.message_from_bytes(stored, policy=email.policy.SMTP)
    assert message["Message-ID"].endswith(f"@{DOMAIN}>")
    assert message["Date"].datetime.timestamp() == relay.clock.now


async def test_a_message_that_fails_for_everybody_is_refused_and_leaves_nothing() -> None:
    relay = MemoryRelay()
    relay.accounts.add(ALICE)
    relay.accounts.add(f"blocked@{DOMAIN}", is_blocked=True)
    for recipients in ([NOBODY], [f"blocked@{DOMAIN}", "x@elsewhere.test"]):
        outcome, _ = await send(relay, make_message(sender=ALICE), *recipients)
        assert isinstance(outcome, Refuse)
        assert outcome.reason is RefusalReason.UNKNOWN_RECIPIENT
        assert outcome.subject == recipients[0]
    assert relay.intake.committed == []


async def test_the_first_recipient_in_rcpt_order_gives_the_text() -> None:
    relay = MemoryRelay()
    relay.accounts.add(ALICE)
    outcome, _ = await send(relay, make_message(sender=ALICE), "x@elsewhere.test", NOBODY)
    assert isinstance(outcome, Refuse)
    assert outcome.reason is RefusalReason.POLICY


async def test_some_failures_are_reported_later_in_the_same_commit() -> None:
    relay = MemoryRelay()
    alice = relay.accounts.add(ALICE)
    bob = relay.accounts.add(BOB)
    outcome, _ = await send(relay, make_message(sender=ALICE), NOBODY, BOB, "x@elsewhere.test")
    assert isinstance(outcome, Accepted)
    assert len(await relay.inbox(bob)) == 1
    (batch,) = relay.intake.committed
    (report,) = batch.reports
    assert report.sender == alice.address
    assert [(str(f.address), f.reason) for f in report.failed] == [
        (NOBODY, RefusalReason.UNKNOWN_RECIPIENT),
        ("x@elsewhere.test", RefusalReason.POLICY),
    ]
    assert report.due_s > relay.clock.now
    assert report.header.endswith(b"\r\n\r\n")


async def test_cleartext_is_refused_before_recipients_are_looked_at() -> None:
    relay = MemoryRelay()
    relay.accounts.add(ALICE)
    outcome, _ = await send(relay, make_message(sender=ALICE, encrypted=False), NOBODY)
    assert isinstance(outcome, Refuse)
    assert outcome.reason is RefusalReason.ENCRYPTION_NEEDED


async def test_a_full_mailbox_is_trimmed_oldest_first_then_refused() -> None:
    relay = MemoryRelay()
    relay.accounts.add(ALICE)
    bob = relay.accounts.add(BOB)
    octets = make_message(sender=ALICE, size=3000)
    size = len(octets)
    relay.limit(max_mailbox_bytes=size * 4)
    for _ in range(2):
        outcome, _ = await send(relay, octets, BOB)
        assert isinstance(outcome, Accepted)
    relay.clock.now += 2 * 86400
    for _ in range(2):
        outcome, _ = await send(relay, octets, BOB)
        assert isinstance(outcome, Accepted)
    assert 0 < relay.state.usage(bob.id) <= size * 4
    for _ in range(8):
        outcome, _ = await send(relay, octets, BOB)
    # What came within the last day is never trimmed, so in the end there is no room.
    assert isinstance(outcome, Refuse)
    assert outcome.reason is RefusalReason.OVER_QUOTA
    relay.clock.now += 2 * 86400
    outcome, _ = await send(relay, octets, BOB)
    assert isinstance(outcome, Accepted)


@pytest.mark.parametrize("size", [100_000, 150_000, 250_000, 800_000])
async def test_large_messages_arrive_whole_by_memory_or_spool(size: int) -> None:
    relay = MemoryRelay()
    relay.accounts.add(ALICE)
    bob = relay.accounts.add(BOB)
    octets = make_message(sender=ALICE, size=size)
    outcome, _ = await send(relay, octets, BOB)
    assert isinstance(outcome, Accepted)
    (stored,) = await relay.inbox(bob)
    assert stored.partition(b"\r\n\r\n")[2] == octets.partition(b"\r\n\r\n")[2]


async def test_beyond_the_size_limit_nothing_is_kept() -> None:
    relay = MemoryRelay()
    relay.limit(max_message_bytes=300_000)
    relay.accounts.add(ALICE)
    relay.accounts.add(BOB)
    outcome, _ = await send(relay, make_message(sender=ALICE, size=400_000), BOB)
    assert isinstance(outcome, Refuse)
    assert outcome.reason is RefusalReason.TOO_BIG
    assert relay.intake.committed == []


async def test_limits_are_read_live() -> None:
    relay = MemoryRelay()
    relay.accounts.add(ALICE)
    relay.accounts.add(BOB)
    relay.settings = attrs.evolve(
        relay.settings,
        identity=attrs.evolve(relay.settings.identity, local_domains=frozenset({"moved.test"})),
    )
    outcome, _ = await send(relay, make_message(sender=ALICE), BOB)
    assert isinstance(outcome, Refuse)
    assert outcome.reason is RefusalReason.POLICY


async def test_a_trim_that_fails_after_the_commit_does_not_undo_the_acceptance() -> None:
    relay = MemoryRelay()
    relay.accounts.add(ALICE)
    bob = relay.accounts.add(BOB)
    octets = make_message(sender=ALICE, size=3000)
    relay.limit(max_mailbox_bytes=len(octets) * 5 // 4)  # stored, it is beyond the mark to trim at

    async def fail(*_: object, **more: object) -> int:
        raise Overloaded("the write queue is full")

    relay.mail.trim = fail  # type: ignore[method-assign,assignment]
    outcome, _ = await send(relay, octets, BOB)
    assert isinstance(outcome, Accepted)
    assert len(await relay.inbox(bob)) == 1
