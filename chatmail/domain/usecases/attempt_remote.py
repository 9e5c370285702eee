"""One attempt to hand one message to one destination, and what becomes of its recipients.

`attempt` talks to peers and changes nothing in the queue; `settlement` says what has to change, in
one transaction. Between the two whoever runs attempts decides whether a refusal goes to a waiting
client or into a report.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

import attrs

from chatmail.domain.formats.final_reply import as_permanent, expired
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.federation import (
    Hop,
    HopFault,
    HopResult,
    RecipientFate,
    TransportKind,
)
from chatmail.domain.model.outbound import (
    LastAttempt,
    OutboundEntry,
    QueuedMessage,
    Settled,
    Settlement,
    SettlementKind,
)
from chatmail.domain.model.queue import FailedRecipient, NewReport
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.model.verdict import RefusalReason
from chatmail.domain.policy import retry
from chatmail.domain.policy.retry import LOST_LINE, MAX_PATIENCE_S, NextStep
from chatmail.domain.policy.routes import RoutePlan
from chatmail.domain.ports.federation import PeerMemory
from chatmail.domain.ports.remote import Letter, RemoteTransport
from chatmail.domain.ports.system import Clock, Entropy
from chatmail.domain.usecases.count_peers import CountPeers
from chatmail.domain.usecases.lookup_route import LookupRoute, Unroutable
from chatmail.domain.usecases.peer_policy import PeerPolicy

REPORT_DELAY_S: Final = 2
"""So long after an attempt a report leaves: client-facts: one that overtakes the 250 is undone."""
UNREADABLE_PAUSE_S: Final = 60.0
POLICY_REPLY: Final = "550 5.7.1 Policy Rejection"

Read: TypeAlias = Callable[[int, int], Awaitable[bytes]]
MayVisit: TypeAlias = Callable[[str], bool]


@attrs.frozen(kw_only=True)
class Verdict:
    """How an attempt ended for one entry; `reply` is one clean line, `host` who said it.

    `last` None: nothing was attempted, the entry goes back as it was.
    """

    entry: OutboundEntry
    kind: SettlementKind
    due_s: float = 0.0
    last: LastAttempt | None = None
    reason: RefusalReason = RefusalReason.REMOTE


@attrs.frozen(kw_only=True)
class Attempted:
    """The end of one attempt. `is_down`: nobody answered, whatever the message.

    `crowded_host`: as many as may are under way there; nothing was attempted, no verdict is given.
    """

    verdicts: tuple[Verdict, ...]
    is_down: bool = False
    crowded_host: str = ""

    @property
    def delivered(self) -> bool:
        """Say whether a recipient has it now."""
        return any(one.kind is SettlementKind.DELIVERED for one in self.verdicts)

    @property
    def is_complete(self) -> bool:
        """Say whether every recipient has it now: nobody is owed a word."""
        return all(one.kind is SettlementKind.DELIVERED for one in self.verdicts)

    @property
    def refusal(self) -> str | None:
        """Return the peer's word if this was about one recipient who was refused for good."""
        if len(self.verdicts) != 1 or self.verdicts[0].kind is not SettlementKind.FAILED:
            return None
        last = self.verdicts[0].last
        return last.reply if last is not None else None


@attrs.define(kw_only=True)
class _Walk:
    """An attempt under way: who still waits, who said what."""

    waiting: dict[EmailAddress, OutboundEntry]
    results: list[HopResult] = attrs.field(factory=list)
    words: dict[EmailAddress, tuple[RecipientFate, str, Hop]] = attrs.field(factory=dict)
    mail_hosts_only: bool = False

    def note(self, result: HopResult) -> None:
        self.results.append(result)
        for outcome in result.outcomes:
            if outcome.recipient not in self.waiting:
                continue
            self.words[outcome.recipient] = (outcome.fate, outcome.reply, result.hop)
            if outcome.fate is not RecipientFate.TEMPORARY:
                del self.waiting[outcome.recipient]

    def decisive(self) -> HopResult:
        """The result that speaks for those nobody spoke of: SMTP's, if a mail host was there."""
        smtp = [one for one in self.results if one.hop.transport is TransportKind.SMTP]
        unclear = [one for one in self.results if one.fault is HopFault.UNCLEAR]
        if unclear and (not smtp or not retry.is_reachable_by_smtp(smtp)):
            return unclear[-1]
        lost = [one for one in self.results if one.fault is HopFault.AMBIGUOUS]
        return (lost or smtp or self.results)[-1]


@attrs.frozen(kw_only=True)
class AttemptRemote:
    """Attempts, judges and learns."""

    route: LookupRoute
    transport: RemoteTransport
    memory: PeerMemory
    count: CountPeers
    policy: PeerPolicy
    clock: Clock
    entropy: Entropy
    settings: Callable[[], SettingsSnapshot]

    async def __call__(
        self, entries: Sequence[OutboundEntry], read: Read, may_visit: MayVisit = lambda host: True
    ) -> Attempted:
        """Try to deliver leased entries of one message and one destination.

        Args:  read: (offset, length) → stored octets. may_visit: asked once, with the host that is
            tried first: many domains may share it (A7.4).
        Never raises for what a peer does, nor for octets that cannot be read.
        Cancellation:  safe; a peer that had the whole message may have it.
        """
        domain = entries[0].domain
        if not self.policy.allows(domain):
            return self._refused(entries, RefusalReason.POLICY, POLICY_REPLY)
        if self.policy.dismisses(domain):
            self.count.dismissed(domain)
            return Attempted(verdicts=tuple(map(_dismissed, entries)))
        plan = await self.route(domain, _preferred(entries))
        if isinstance(plan, Unroutable):
            return self._unroutable(entries, plan)
        host = plan.hops[0].host
        if not may_visit(host):
            return Attempted(verdicts=(), crowded_host=host)
        walk = _Walk(waiting={entry.recipient: entry for entry in entries})
        try:
            await self._walk(walk, plan, entries[0].message, read)
        except TransientFailure:
            if not walk.results:
                return self._unread(entries)
        self._learn(walk, entries[0])
        return Attempted(
            verdicts=tuple([self._verdict(entry, walk) for entry in entries]),
            is_down=retry.is_down(walk.results),
        )

    # --- the walk along the hops ----------------------------------------------------------------

    async def _walk(self, walk: _Walk, plan: RoutePlan, message: QueuedMessage, read: Read) -> None:
        for hop in plan.hops:
            if not await self._try(walk, hop, message, read):
                return
        if walk.mail_hosts_only or retry.is_reachable_by_smtp(walk.results):
            return
        domain = next(iter(walk.waiting.values())).domain
        self.memory.remember(retry.without_block(self.memory.health(domain)))
        for hop in plan.last_resorts:
            if not await self._try(walk, hop, message, read):
                return

    async def _try(self, walk: _Walk, hop: Hop, message: QueuedMessage, read: Read) -> bool:
        """Try one hop; False: no other may be tried."""
        if walk.mail_hosts_only and hop.transport is not TransportKind.SMTP:
            return True
        letter = Letter(
            reverse_path=message.reverse_path,
            recipients=tuple(walk.waiting),
            prefix=message.prefix,
            size=message.size,
            read=read,
        )
        result = await self.transport.attempt(hop, letter)
        walk.note(result)
        step = retry.next_step(result)
        walk.mail_hosts_only |= step is NextStep.MAIL_HOSTS_ONLY
        return bool(walk.waiting) and step is not NextStep.STOP

    def _learn(self, walk: _Walk, entry: OutboundEntry) -> None:
        domain, now_s = entry.domain, self.clock.now_s()
        # The first attempt is due when the message is queued, to the millisecond.
        queued_s = entry.message.created_s if entry.attempts else entry.due_s
        self.count.attempted(domain, walk.results, now_s - queued_s)
        health = retry.learn(
            self.memory.health(domain), walk.results, now_s, self.settings().queue, self._chance()
        )
        self.memory.remember(health)

    def _chance(self) -> float:
        return int.from_bytes(self.entropy.octets(4)) / 0xFFFFFFFF

    # --- verdicts -------------------------------------------------------------------------------

    def _verdict(self, entry: OutboundEntry, walk: _Walk) -> Verdict:
        word = walk.words.get(entry.recipient)
        if word is not None and word[0] is not RecipientFate.TEMPORARY:
            fate, reply, hop = word
            is_delivered = fate is RecipientFate.DELIVERED
            kind = SettlementKind.DELIVERED if is_delivered else SettlementKind.FAILED
            return Verdict(entry=entry, kind=kind, last=self._last(reply, hop))
        result = walk.decisive()
        if word is None:
            reply, hop = retry.waiting_reply(result), result.hop
            age_s = self.clock.now_s() - entry.message.created_s
            if retry.may_give_up(result, age_s):
                last = self._last(as_permanent(reply), hop)
                return Verdict(entry=entry, kind=SettlementKind.FAILED, last=last)
        else:
            _, reply, hop = word
        patience = max((one.retry_after_s or 0.0 for one in walk.results), default=0.0)
        if retry.is_the_message_innocent(walk.results):
            return self._with_next_probe(entry, self._last(reply, hop))
        return self._again(entry, self._last(reply, hop), patience)

    def _with_next_probe(self, entry: OutboundEntry, last: LastAttempt) -> Verdict:
        """The peer's pause is the message's: as the oldest it is the next probe, in its order."""
        due_s = max(self.clock.now_s(), self.memory.health(entry.domain).not_before_s)
        return Verdict(entry=entry, kind=SettlementKind.RETRY, due_s=due_s, last=last)

    def _again(self, entry: OutboundEntry, last: LastAttempt, patience_s: float = 0.0) -> Verdict:
        schedule = self.settings().queue.schedule_s
        pause_s = retry.delay_s(entry.attempts + 1, schedule, self._chance())
        health = self.memory.health(entry.domain)
        # Behind the peer's next probe, so that another message is that probe: one that the peer
        # chokes on must not stand in the way of the others.
        due_s = max(
            self.clock.now_s() + max(pause_s, min(patience_s, MAX_PATIENCE_S)),
            health.not_before_s + 1,
        )
        return Verdict(entry=entry, kind=SettlementKind.RETRY, due_s=due_s, last=last)

    def _last(self, reply: str, hop: Hop | None = None) -> LastAttempt:
        return LastAttempt(
            at_s=int(self.clock.now_s()),
            reply=reply,
            transport=None if hop is None else hop.transport,
            host="" if hop is None else hop.host,
        )

    def _refused(
        self, entries: Sequence[OutboundEntry], reason: RefusalReason, reply: str
    ) -> Attempted:
        last = self._last(reply)
        return Attempted(
            verdicts=tuple(
                [
                    Verdict(entry=one, kind=SettlementKind.FAILED, last=last, reason=reason)
                    for one in entries
                ]
            )
        )

    def _unroutable(self, entries: Sequence[OutboundEntry], why: Unroutable) -> Attempted:
        now_s = self.clock.now_s()
        if now_s - entries[0].message.created_s >= why.final_after_s:
            return self._refused(entries, RefusalReason.REMOTE, as_permanent(why.reply))
        if why.is_about_now:
            health = self.memory.health(entries[0].domain)
            queue = self.settings().queue
            self.memory.remember(retry.after_failed_contact(health, now_s, queue, self._chance()))
        last = self._last(why.reply)
        again = self._with_next_probe if why.is_about_now else self._again
        return Attempted(
            verdicts=tuple([again(entry, last) for entry in entries]),
            is_down=why.is_about_now,
        )

    def _unread(self, entries: Sequence[OutboundEntry]) -> Attempted:
        """The store could not give the octets: nothing was attempted."""
        due_s = self.clock.now_s() + UNREADABLE_PAUSE_S
        return Attempted(
            verdicts=tuple(
                [Verdict(entry=one, kind=SettlementKind.RETRY, due_s=due_s) for one in entries]
            )
        )

    def cut_off(self, entries: Sequence[OutboundEntry]) -> Attempted:
        """Judge entries whose attempt took too long; what was sent may have arrived."""
        last = self._last(f"451 {LOST_LINE} The attempt took too long")
        return Attempted(verdicts=tuple([self._again(entry, last) for entry in entries]))

    def give_up(self, entries: Sequence[OutboundEntry]) -> Attempted:
        """Judge entries of one message that are too old (A7.1)."""
        return Attempted(
            verdicts=tuple(
                [
                    Verdict(
                        entry=one,
                        kind=SettlementKind.FAILED,
                        last=self._last(expired(one.last.reply if one.last else "")),
                    )
                    for one in entries
                ]
            )
        )

    # --- what the queue has to change -----------------------------------------------------------

    async def settlement(
        self, attempted: Attempted, read: Read, *, is_told: bool, is_last_try: bool = True
    ) -> Settled:
        """Return the transaction that ends an attempt, with the report it owes.

        Args:  is_told: the sender knows of the failure from the reply of the submission.
            is_last_try: a header block that cannot be read is left out of the report.
        Raises:  TransientFailure: it cannot be read, and this is not the last try.
        """
        failed = [one for one in attempted.verdicts if one.kind is SettlementKind.FAILED]
        reports: tuple[NewReport, ...] = ()
        if failed:
            if not is_told:
                reports = await self._reports(failed, read, is_last_try)
            self.count.bounced(failed[0].entry.domain)
        return Settled(entries=tuple(map(_settlement, attempted.verdicts)), reports=reports)

    async def _reports(
        self, failed: Sequence[Verdict], read: Read, is_last_try: bool
    ) -> tuple[NewReport, ...]:
        """A10.1: one per message and event; none for a report, for a null or foreign sender."""
        message = failed[0].entry.message
        sender = message.reverse_path
        if message.is_report or sender is None:
            return ()
        if sender.domain not in self.settings().identity.local_domains:
            return ()
        try:
            header = await read(0, message.header_size)
        except TransientFailure:
            if not is_last_try:
                raise
            header = b"\r\n"  # a report that names no message is better than none
        return (
            NewReport(
                sender=sender,
                failed=tuple(map(_failed_recipient, failed)),
                header=header,
                arrived_s=message.created_s,
                due_s=int(self.clock.now_s()) + REPORT_DELAY_S,
            ),
        )


def _preferred(entries: Sequence[OutboundEntry]) -> TransportKind | None:
    """The transport whose last attempt may have delivered after all (A3.4)."""
    for entry in entries:
        if entry.last is not None and entry.last.reply[4:].startswith(LOST_LINE + " "):
            return entry.last.transport
    return None


def _dismissed(entry: OutboundEntry) -> Verdict:
    return Verdict(entry=entry, kind=SettlementKind.DELIVERED)


def _settlement(verdict: Verdict) -> Settlement:
    return Settlement(
        message=verdict.entry.message.id,
        recipient=verdict.entry.recipient,
        kind=verdict.kind,
        due_s=verdict.due_s,
        last=verdict.last,
    )


def _failed_recipient(verdict: Verdict) -> FailedRecipient:
    last = verdict.last
    is_remote = verdict.reason is RefusalReason.REMOTE and last is not None
    return FailedRecipient(
        verdict.entry.recipient,
        verdict.reason,
        reply=last.reply if last is not None and is_remote else "",
        host=last.host if last is not None and is_remote else "",
    )
