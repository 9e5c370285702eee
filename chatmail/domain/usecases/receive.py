"""Another relay hands in a message, on port 25 or by `/mxdeliv`.

Both surfaces come here, so their answers cannot differ. The order of checks is that of
federation-web.md B3: envelope, octets, hops, header, From, own-domain spoof, encryption, and only
then what costs a look at DNS: authenticity. After them come the policy on the verified domain and
its rate. Who the recipients are is looked at last, and nothing that is said depends on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from chatmail.domain.formats.body_digest import BodyDigests, Canonicalization
from chatmail.domain.formats.dkim_tags import digests_for
from chatmail.domain.formats.report_form import minimise_report
from chatmail.domain.formats.rfc5322 import edit_header, end_of_header
from chatmail.domain.model.address import EmailAddress, is_literal
from chatmail.domain.model.federation import LedgerEvent, Source, TransportKind
from chatmail.domain.model.message import Body, Envelope
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.model.verdict import Accept, AcceptedKind, RefusalReason, Refuse
from chatmail.domain.policy import inbound
from chatmail.domain.policy.encryption_gate import (
    CleartextRecipients,
    DkimResult,
    GateContext,
    effective_reverse_path,
    judge,
    needs_dkim,
)
from chatmail.domain.ports.accounts import AccountStore
from chatmail.domain.ports.federation import PeerLedger
from chatmail.domain.ports.mail_auth import DkimVerifier
from chatmail.domain.ports.system import Budgets, Clock, Entropy, Log
from chatmail.domain.usecases.collect import Collector
from chatmail.domain.usecases.intake import Arrival, TakeIn

_ID_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


@attrs.frozen
class Accepted:
    """The message is durable for everyone who can be served; `queue_id` is for the reply."""

    queue_id: str


@attrs.frozen
class _Passed:
    """A message that passed everything but the look at its recipients."""

    accept: Accept
    author: EmailAddress
    dkim: DkimResult
    is_from_itself: bool

    @property
    def is_proven(self) -> bool:
        """Say whether the author's domain did send this."""
        return self.dkim is DkimResult.PASS or self.is_from_itself


def inbound_digests(header: bytes) -> BodyDigests:
    """Return the hashes the content of an inbound message needs, given its header block.

    For its signatures; at least one form, by which a second arrival is told.
    """
    return digests_for(header) or BodyDigests(Canonicalization.SIMPLE)


@attrs.frozen(kw_only=True)
class Receive:
    """The inbound door.

    Attributes:
        is_allowed: the federation policy on a normalised domain (spec policy 7.1).
        contact: told of every domain that proved to be alive: what waits for it may go (A7.3).
        secret: key of what is kept about arrivals for 48 h; the same after a restart.
    """

    take_in: TakeIn
    accounts: AccountStore
    verifier: DkimVerifier
    budgets: Budgets
    ledger: PeerLedger
    clock: Clock
    entropy: Entropy
    settings: Callable[[], SettingsSnapshot]
    is_allowed: Callable[[str], bool]
    contact: Callable[[str], None]
    secret: bytes
    log: Log

    def admit(self, reverse_path: EmailAddress | None) -> Refuse | None:
        """Say what is wrong with an envelope's sender, before any content (D-04). Sync."""
        if reverse_path is None:
            return None
        if reverse_path.domain in self.settings().identity.local_domains:
            return Refuse(RefusalReason.SPOOFED_DOMAIN, "F-06")
        if not self.is_allowed(reverse_path.domain):
            return Refuse(RefusalReason.POLICY)
        return None

    async def __call__(
        self, envelope: Envelope, message: Collector, source: Source
    ) -> Accepted | Refuse:
        """Judge and store one whole message.

        Args:  envelope: its recipients are local.
        Raises:  TransientFailure, Overloaded: nothing was stored.
        """
        settings = self.settings()
        passed = self.admit(envelope.reverse_path) or await self._judge(
            envelope, message, source, settings
        )
        if isinstance(passed, Refuse):
            return passed
        await self._store(envelope, message, passed, settings)
        self._remember(passed, source, settings)
        return Accepted(self.entropy.text(_ID_ALPHABET, 12))

    # --- checks -------------------------------------------------------------------------------

    async def _judge(
        self, envelope: Envelope, message: Collector, source: Source, settings: SettingsSnapshot
    ) -> _Passed | Refuse:
        facts, door = message.facts(), message.door
        context = await self._context(envelope, message, settings)
        if needs_dkim(facts, door, context):
            context = attrs.evolve(context, dkim=await self._verify(message, settings))
        verdict = judge(facts, door, context)
        if isinstance(verdict, Refuse):
            return verdict
        author = facts.header_facts.from_address
        if author is None:  # F-05 refused it
            return Refuse(RefusalReason.INVALID_FROM, "F-05")
        is_itself = inbound.comes_from_itself(author.domain, source.host)
        is_bare = is_literal(author.domain) and not is_itself
        if is_bare and settings.federation.literal_source == "match":
            return Refuse(RefusalReason.NO_DKIM, "B5.6")
        if not self.is_allowed(author.domain):
            return Refuse(RefusalReason.POLICY)
        rate = inbound.message_rate(author.domain, comes_from_itself=is_itself)
        if not self._take(rate, author.domain):
            return Refuse(RefusalReason.TOO_MUCH_MAIL, subject=str(author))
        return _Passed(verdict, author, context.dkim or DkimResult.NOT_NEEDED, is_itself)

    async def _context(
        self, envelope: Envelope, message: Collector, settings: SettingsSnapshot
    ) -> GateContext:
        """Gather what the gate needs; recipients' wishes only where one could matter."""
        context = GateContext(
            envelope=envelope,
            settings=settings.gate,
            local_domains=settings.identity.local_domains,
        )
        probe = judge(message.facts(), message.door, attrs.evolve(context, dkim=DkimResult.PASS))
        if isinstance(probe, Accept) or probe.reason is not RefusalReason.ENCRYPTION_NEEDED:
            return context
        found = await self.accounts.resolve(envelope.recipients)
        wishes = {one is not None and one.accepts_cleartext for one in found}
        if wishes == {True}:
            return attrs.evolve(context, cleartext_recipients=CleartextRecipients.ALL)
        some = CleartextRecipients.SOME if True in wishes else CleartextRecipients.NONE
        return attrs.evolve(context, cleartext_recipients=some)

    async def _verify(self, message: Collector, settings: SettingsSnapshot) -> DkimResult:
        author = message.facts().header_facts.from_address
        if author is None or inbound.is_exempt_from_dkim(author.domain, settings.federation):
            return DkimResult.NOT_NEEDED
        digests = message.digests or BodyDigests()
        return await self.verifier.verify(message.header(), digests, author.domain)

    def _take(self, rate: inbound.Rate, key: str) -> bool:
        return self.budgets.take(rate.kind, key, per_s=rate.per_s, burst=rate.burst)

    # --- storing ------------------------------------------------------------------------------

    async def _store(
        self, envelope: Envelope, message: Collector, passed: _Passed, settings: SettingsSnapshot
    ) -> None:
        header = edit_header(message.header(), passed.accept.edits)
        message_id = message.facts().header_facts.message_id

        async def seal() -> Body:
            body = await message.body(header)
            is_report = passed.accept.kind is AcceptedKind.BOUNCE
            return _minimised(body) if is_report and settings.gate.minimise_bounces else body

        now_s = self.clock.now_s()
        await self.take_in.from_peer(
            Arrival(
                recipients=envelope.recipients,
                header=header,
                size=message.size + len(header) - len(message.header()),
                seal=seal,
                once=lambda recipient: inbound.content_key(
                    self.secret, recipient, message_id, message.digests
                ),
                may_report=lambda: self._may_report(envelope, message, passed, settings),
                report_due_s=inbound.report_due_s(now_s, self.entropy.octets(2)),
            )
        )

    def _may_report(
        self, envelope: Envelope, message: Collector, passed: _Passed, settings: SettingsSnapshot
    ) -> EmailAddress | None:
        """Say who is to be told of recipients without a copy; None: nobody.

        Only who signed is told: a report to anybody else would be what the world calls backscatter.
        Source:  spec federation-web B7.2, A10.4.
        """
        sender = effective_reverse_path(message.facts(), envelope)
        if sender is None or not settings.federation.dsn_to_unknown:
            return None
        if passed.dkim is not DkimResult.PASS or passed.accept.kind is AcceptedKind.BOUNCE:
            return None
        # Whoever writes to many unknown names must not make us a source of much mail.
        may = self._take(inbound.REPORTS_OF_ADDRESS, str(sender)) and self._take(
            inbound.REPORTS_OF_DOMAIN, sender.domain
        )
        if not may:
            self.log.info("report_dropped")
        return sender if may else None

    def _remember(self, passed: _Passed, source: Source, settings: SettingsSnapshot) -> None:
        is_smtp = source.transport is TransportKind.SMTP
        event = LedgerEvent.INBOUND_SMTP if is_smtp else LedgerEvent.INBOUND_HTTP
        if settings.federation.keeps_stats:
            self.ledger.count(passed.author.domain, event, self.clock.now_s())
        if passed.is_proven:
            self.contact(passed.author.domain)


def _minimised(body: Body) -> Body:
    """Reduce a report, which is small enough to be in memory (X-DSN4), to what clients need."""
    octets = minimise_report(b"".join((body.header, *body.chunks)))
    end = end_of_header(octets)
    return Body(header=octets[:end], chunks=(octets[end:],), content_size=len(octets) - end)
