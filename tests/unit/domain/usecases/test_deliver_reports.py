"""Owed reports reach their sender once, or are tried again."""

from __future__ import annotations

import attrs

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.federation import Dismissal, PeerAction, PeerRule
from chatmail.domain.model.message import Body
from chatmail.domain.model.queue import FailedRecipient, NewReport
from chatmail.domain.model.verdict import RefusalReason
from chatmail.domain.ports.intake import Delivery, IntakeBatch
from chatmail.domain.usecases.deliver_reports import DeliverReports
from tests.unit.domain.usecases.abroad import RelayAbroad
from tests.unit.domain.usecases.relay import DOMAIN, NOW_S, CountingEntropy, MemoryRelay
from tests.unit.fakes.accounts import MemoryReportQueue

ALICE = f"alice@{DOMAIN}"


class TwoClocks:
    """Wall time and steady time, each moved by hand."""

    def __init__(self) -> None:
        self.wall_s, self.steady_s = NOW_S, 5.0

    def now_s(self) -> float:
        return self.wall_s

    def monotonic_s(self) -> float:
        return self.steady_s


def report(due_s: int = int(NOW_S)) -> NewReport:
    return NewReport(
        sender=EmailAddress.parse(ALICE),
        failed=(
            FailedRecipient(EmailAddress.parse("gone@relay.test"), RefusalReason.UNKNOWN_RECIPIENT),
        ),
        header=b"Message-ID: <orig@relay.test>\r\n\r\n",
        arrived_s=int(NOW_S) - 2,
        due_s=due_s,
    )


def owing(*reports: NewReport) -> tuple[MemoryRelay, MemoryReportQueue]:
    relay = MemoryRelay()
    relay.state.reports.extend(reports)
    return relay, MemoryReportQueue(relay.state)


def delivering(relay: MemoryRelay, queue: MemoryReportQueue) -> DeliverReports:
    return DeliverReports(
        queue=queue,
        take_in=relay.take_in,
        clock=relay.clock,
        entropy=CountingEntropy(),
        settings=lambda: relay.settings,
        diagnose=lambda failed: f"550 5.1.1 <{failed.address}>: {failed.reason.value}",
    )


async def test_a_due_report_lands_in_the_senders_inbox_and_is_settled() -> None:
    relay, queue = owing(report())
    alice = relay.accounts.add(ALICE)
    assert await delivering(relay, queue)() is None
    (stored,) = await relay.inbox(alice)
    assert b"Message-ID: <orig@relay.test>" in stored
    assert b"Diagnostic-Code: smtp; 550 5.1.1 <gone@relay.test>: unknown_recipient" in stored
    assert await queue.next_due_s() is None


async def test_a_blocked_or_full_sender_gets_none_and_the_entry_ends() -> None:
    for is_blocked, limit in ((True, 10**6), (False, 100)):
        relay, queue = owing(report())
        relay.accounts.add(ALICE, is_blocked=is_blocked)
        relay.limit(max_mailbox_bytes=limit)
        await delivering(relay, queue)()
        assert relay.intake.committed == []
        assert await queue.next_due_s() is None


async def test_a_report_trims_like_any_delivery() -> None:
    relay, queue = owing(report())
    alice = relay.accounts.add(ALICE)
    mailbox = alice.inbox
    old = Body(b"Subject: old\r\n\r\n", (b"x" * 7000,), 7000)
    await relay.intake.commit(
        IntakeBatch(body=old, internal_date_s=int(NOW_S) - 90000, deliveries=(Delivery(mailbox),))
    )
    relay.limit(max_mailbox_bytes=9000)
    await delivering(relay, queue)()
    (stored,) = await relay.inbox(alice)
    assert b"Undelivered Mail" in stored


async def test_nothing_leaves_before_it_is_due() -> None:
    relay, queue = owing(report(due_s=int(NOW_S) + 2))
    alice = relay.accounts.add(ALICE)
    assert await delivering(relay, queue)() == 2
    assert await relay.inbox(alice) == []


async def test_a_clock_that_is_set_back_postpones_nothing() -> None:
    relay, queue = owing(report(due_s=int(NOW_S) + 2))
    alice = relay.accounts.add(ALICE)
    clock = TwoClocks()
    deliver = attrs.evolve(delivering(relay, queue), clock=clock)
    clock.wall_s -= 86_400
    clock.steady_s += 1
    assert await deliver() == 1
    clock.steady_s += 1
    assert await deliver() is None
    assert len(await relay.inbox(alice)) == 1


async def test_a_sender_that_is_gone_gets_none_and_the_entry_ends() -> None:
    relay, queue = owing(report())
    await delivering(relay, queue)()
    assert await queue.next_due_s() is None
    assert relay.intake.committed == []


async def test_store_trouble_postpones() -> None:
    relay, queue = owing(report())
    relay.accounts.add(ALICE)

    async def fail(batch: object) -> None:
        raise TransientFailure

    relay.intake.commit = fail  # type: ignore[method-assign,assignment]
    await delivering(relay, queue)()
    assert await queue.next_due_s() == NOW_S + 30


async def test_a_report_and_the_end_of_its_entry_are_one_commit() -> None:
    relay, queue = owing(report())
    alice = relay.accounts.add(ALICE)

    async def die(entry: object) -> None:
        raise RuntimeError("the process is killed here")

    queue.settle = die  # type: ignore[method-assign,assignment]
    await delivering(relay, queue)()
    relay.clock.now += 3600
    await delivering(relay, queue)()
    assert len(await relay.inbox(alice)) == 1


# --- senders elsewhere (A10.4) -----


def report_to(sender: str) -> NewReport:
    return attrs.evolve(report(), sender=EmailAddress.parse(sender))


def owing_abroad(*senders: str) -> tuple[RelayAbroad, MemoryReportQueue]:
    relay = RelayAbroad()
    relay.state.reports.extend(map(report_to, senders))
    return relay, MemoryReportQueue(relay.state)


async def test_a_sender_elsewhere_gets_a_signed_report_from_nobody() -> None:
    relay, queue = owing_abroad("bob@peer.test")
    await delivering(relay, queue)()
    (batch,) = relay.intake.committed
    new = batch.outbound
    assert new is not None
    assert (new.reverse_path, new.is_report) == (None, True)
    assert [str(one) for one in new.recipients] == ["bob@peer.test"]
    assert new.prefix.startswith(b"DKIM-Signature: d=relay.test;")
    octets = relay.state.outbound[new.id].blob.octets
    assert b"From: Mail Delivery System <MAILER-DAEMON@relay.test>" in octets
    assert await queue.next_due_s() is None
    digests = relay.signer.digests()
    digests.feed(octets.partition(b"\r\n\r\n")[2])
    assert relay.signer.sign(b"", digests, DOMAIN, 0) == new.prefix


async def test_literals_and_those_the_policy_keeps_away_get_none() -> None:
    relay, queue = owing_abroad("bob@[203.0.113.7]", "x@denied.test", "y@dismissed.test")
    await relay.directory.put_rule(PeerRule("denied.test", PeerAction.BLOCK, 0))
    await relay.directory.put_dismissal(Dismissal("dismissed.test", 0))
    await delivering(relay, queue)()
    assert relay.intake.committed == []
    assert await queue.next_due_s() is None


async def test_what_a_peer_said_is_passed_on_with_its_name() -> None:
    owed = attrs.evolve(
        report(),
        failed=(
            FailedRecipient(
                EmailAddress.parse("bob@peer.test"),
                RefusalReason.REMOTE,
                reply="554 5.7.1 Go away",
                host="mx.peer.test",
            ),
        ),
    )
    relay, queue = owing(owed)
    alice = relay.accounts.add(ALICE)
    await delivering(relay, queue)()
    (stored,) = await relay.inbox(alice)
    assert b"Could not deliver to bob@peer.test: 554 5.7.1 Go away" in stored
    assert b"Remote-MTA: dns; mx.peer.test\r\nDiagnostic-Code: smtp; 554 5.7.1 Go away" in stored
    assert b"Status: 5.7.1" in stored
