"""The single road into the store: gate, quota, commit.

Every door ends here (submission, port 25, APPEND, our own reports), so the rules cannot differ
between doors; what differs is the `Door` that is handed in. An architecture test lists the callers
of `Intake.commit`: this module is the only one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

import attrs

from chatmail.domain.formats.body_digest import BodyDigests
from chatmail.domain.formats.rfc5322 import edit_header
from chatmail.domain.model.account import Account
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.mailbox import AppendReceipt, Flags, MailboxId
from chatmail.domain.model.message import Body, Envelope, HeaderEdit
from chatmail.domain.model.queue import FailedRecipient, NewReport, QueueId
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.model.verdict import RefusalReason, Refuse
from chatmail.domain.policy import quota, routing
from chatmail.domain.policy.encryption_gate import GateContext, judge
from chatmail.domain.ports.accounts import AccountStore
from chatmail.domain.ports.intake import Delivery, Intake, IntakeBatch
from chatmail.domain.ports.mailstore import MailStore
from chatmail.domain.ports.system import Clock
from chatmail.domain.usecases.collect import Collector
from chatmail.domain.usecases.make_room import MakeRoom
from chatmail.domain.usecases.send_abroad import RemoteRecipients, SendAbroad

NOWHERE: Final = MailboxId(0)
"""No mailbox has this id."""

REPORT_DELAY_S: Final = 2
"""A report leaves this long after the reply: client-facts: one that overtakes the 250 is undone."""


@attrs.frozen
class Taken:
    """The message is durable. `failed` are the recipients that got no copy."""

    receipts: tuple[AppendReceipt | None, ...]
    failed: tuple[FailedRecipient, ...]


@attrs.frozen(kw_only=True)
class _Sorted:
    """What becomes of the recipients of one message; `failed` in RCPT order."""

    served: list[Account]
    failed: list[FailedRecipient]
    queued: tuple[EmailAddress, ...] = ()
    dismissed: tuple[EmailAddress, ...] = ()

    @property
    def is_hopeless(self) -> bool:
        return not (self.served or self.queued or self.dismissed)


@attrs.frozen(kw_only=True)
class Arrival:
    """A message of another relay that passed every check; its recipients are local addresses.

    Attributes:
        header, size: of the message as it will be stored.
        seal: gives the octets to store; called once.
        once: what tells a second arrival for a recipient (`Delivery.once`).
        may_report: who is told of recipients that get no copy, None: nobody; called once, if there
            are any.
    """

    recipients: tuple[EmailAddress, ...]
    header: bytes
    size: int
    seal: Callable[[], Awaitable[Body]]
    once: Callable[[EmailAddress], bytes | None]
    may_report: Callable[[], EmailAddress | None]
    report_due_s: int


@attrs.frozen(kw_only=True)
class TakeIn:
    """Judges, makes room and commits."""

    accounts: AccountStore
    intake: Intake
    mail: MailStore
    clock: Clock
    settings: Callable[[], SettingsSnapshot]
    abroad: SendAbroad | None = None
    """None: nothing goes to other relays, as if every one of them were denied."""
    _room: MakeRoom = attrs.field(init=False)

    @_room.default
    def _make_room(self) -> MakeRoom:
        return MakeRoom(accounts=self.accounts, mail=self.mail, clock=self.clock)

    async def for_recipients(
        self,
        envelope: Envelope,
        identity: EmailAddress,
        message: Collector,
        additions: Callable[[bool, bool], tuple[HeaderEdit, ...]],
        digests: BodyDigests | None = None,
    ) -> Taken | Refuse:
        """Take a submitted message in for all recipients that can be served.

        `additions(has_message_id, has_date)` gives the fields to add. `digests`: hashes of the
        content, needed for recipients elsewhere.

        Returns:  a refusal when the gate says no, or when every recipient fails for a reason known
            now (the first one's, RCPT order); then nothing is stored (contract 3). Also when the
            only recipient is elsewhere and is refused there at once; then nothing remains stored.
        Raises:  TransientFailure, Overloaded: nothing was stored.
        """
        settings = self.settings()
        facts = message.facts()
        verdict = judge(
            facts,
            message.door,
            GateContext(
                envelope=envelope,
                identity=identity,
                settings=settings.gate,
                local_domains=settings.identity.local_domains,
            ),
        )
        if isinstance(verdict, Refuse):
            return verdict
        edits = verdict.edits + additions(
            facts.header_facts.has_message_id, facts.header_facts.has_date
        )
        header = edit_header(message.header(), edits)
        size = facts.size + len(header) - len(message.header())
        found = await self._sort_recipients(envelope, size, settings)
        if found.is_hopeless:
            return Refuse(found.failed[0].reason, subject=str(found.failed[0].address))
        if (
            self.abroad is not None
            and found.queued
            and not await self.abroad.has_room(identity, len(found.queued), size)
        ):
            return Refuse(RefusalReason.MAIL_WAITS)
        return await self._take(identity, found, message, header, digests)

    async def _take(
        self,
        identity: EmailAddress,
        found: _Sorted,
        message: Collector,
        header: bytes,
        digests: BodyDigests | None,
    ) -> Taken | Refuse:
        """Commit what was judged, then see to what follows from it."""
        outbound = None
        if self.abroad is not None and found.queued:
            outbound = self.abroad.make(identity, found.queued, header, digests)
        body = await message.body(header)
        receipts: tuple[AppendReceipt | None, ...] = ()
        if found.served or outbound is not None or found.failed:
            receipts = await self.intake.commit(
                IntakeBatch(
                    body=body,
                    internal_date_s=int(self.clock.now_s()),
                    deliveries=tuple([Delivery(account.inbox) for account in found.served]),
                    reports=self._report(identity, found.failed, header) if found.failed else (),
                    outbound=outbound,
                )
            )
        await self._trim_after(found.served, body.size, self.settings())
        if self.abroad is not None:
            self.abroad.count_dismissed(found.dismissed)
            if outbound is not None:
                is_only = not (found.served or found.failed or found.dismissed)
                refused = await self.abroad.attempt(outbound, body, is_only_recipient=is_only)
                if refused is not None:
                    return Refuse(RefusalReason.REMOTE, subject=refused)
        return Taken(receipts, tuple(found.failed))

    async def append(
        self,
        account: Account,
        mailbox: MailboxId,
        messages: Sequence[tuple[Flags, int, Collector]],
    ) -> tuple[AppendReceipt, ...] | Refuse | None:
        """Take messages in for one mailbox of their owner, unedited (spec mail 4.4 APPEND).

        All of them or none, in one commit (RFC 3502).

        Args:  messages: of each its flags, its internal date (unix time), its octets.
        Returns:  None when the mailbox is gone.
        """
        settings = self.settings()
        for _, _, message in messages:
            refusal = self._refuse_append(account, message, settings)
            if refusal is not None:
                return refusal
        size = sum(message.facts().size for _, _, message in messages)
        (now,) = await self.accounts.resolve((account.address,))
        if now is None or now.id != account.id:
            return None
        held = now.used_messages + len(messages) - 1
        if not quota.fits(size, now.used_bytes, held, settings.limits):
            return Refuse(RefusalReason.OVER_QUOTA)
        batches = [
            IntakeBatch(
                body=await message.body(message.header()),
                internal_date_s=internal_date_s,
                deliveries=(Delivery(mailbox, flags),),
            )
            for flags, internal_date_s, message in messages
        ]
        landed = [receipts[0] for receipts in await self.intake.commit_all(batches)]
        receipts = tuple(receipt for receipt in landed if receipt is not None)
        return receipts if len(receipts) == len(messages) else None

    def _refuse_append(
        self, account: Account, message: Collector, settings: SettingsSnapshot
    ) -> Refuse | None:
        verdict = judge(
            message.facts(),
            message.door,
            GateContext(
                envelope=Envelope(account.address, (account.address,)),
                identity=account.address,
                settings=settings.gate,
                local_domains=settings.identity.local_domains,
            ),
        )
        return verdict if isinstance(verdict, Refuse) else None

    async def from_peer(self, arrival: Arrival) -> Taken:
        """Deliver what the inbound door let in: all copies and the report owed, or nothing.

        With nobody to serve it is committed to a mailbox that never was, so that the time an answer
        takes does not tell who has an account; the store forgets it by itself.
        Raises:  TransientFailure, Overloaded: nothing was stored.
        """
        settings = self.settings()
        now_s = int(self.clock.now_s())
        served, failed = await self._sort_local(arrival, settings)
        sender = arrival.may_report() if failed else None
        reports: tuple[NewReport, ...] = ()
        if sender is not None:
            reports = (
                NewReport(
                    sender=sender,
                    failed=tuple(failed),
                    header=arrival.header,
                    arrived_s=now_s,
                    due_s=arrival.report_due_s,
                ),
            )
        copies = [Delivery(one.inbox, once=arrival.once(one.address)) for one in served]
        receipts = await self.intake.commit(
            IntakeBatch(
                body=await arrival.seal(),
                internal_date_s=now_s,
                deliveries=tuple(copies or [Delivery(NOWHERE)]),
                reports=reports,
            )
        )
        await self._trim_after(served, arrival.size, settings)
        return Taken(receipts, tuple(failed))

    async def _sort_local(
        self, arrival: Arrival, settings: SettingsSnapshot
    ) -> tuple[list[Account], list[FailedRecipient]]:
        """Return who gets a copy, and why the others do not."""
        served: list[Account] = []
        failed: list[FailedRecipient] = []
        accounts = await self.accounts.resolve(arrival.recipients)
        for address, account in zip(arrival.recipients, accounts, strict=True):
            if account is None or account.is_blocked:
                failed.append(FailedRecipient(address, RefusalReason.UNKNOWN_RECIPIENT))
            elif not await self._room.before(account, arrival.size, settings):
                failed.append(FailedRecipient(address, RefusalReason.OVER_QUOTA))
            else:
                served.append(account)
        return served, failed

    async def own_report(self, recipient: EmailAddress, octets: bytes, settles: QueueId) -> bool:
        """Deliver a report this relay wrote to one of its own accounts, exempt from the gate.

        Returns:  whether the copy was committed, and the entry `settles` ended with it. A recipient
            that is gone or has no room gets none: a report is never reported on.
        """
        (account,) = await self.accounts.resolve((recipient,))
        settings = self.settings()
        if account is None or account.is_blocked:
            return False
        if not await self._room.before(account, len(octets), settings):
            return False
        header, _, content = octets.partition(b"\r\n\r\n")
        body = Body(header=header + b"\r\n\r\n", chunks=(content,), content_size=len(content))
        await self.intake.commit(
            IntakeBatch(
                body=body,
                internal_date_s=int(self.clock.now_s()),
                deliveries=(Delivery(account.inbox),),
                settles=settles,
            )
        )
        await self._trim_after([account], len(octets), settings)
        return True

    async def report_abroad(self, recipient: EmailAddress, octets: bytes, settles: QueueId) -> bool:
        """Queue a report this relay wrote for a sender elsewhere, signed; ends `settles` with it.

        Returns:  whether it was queued: not for literals, nor where policy keeps mail from going.
        """
        if self.abroad is None or not self.abroad.may_report(recipient):
            return False
        header, _, content = octets.partition(b"\r\n\r\n")
        header += b"\r\n\r\n"
        digests = self.abroad.digests()
        digests.feed(content)
        await self.intake.commit(
            IntakeBatch(
                body=Body(header=header, chunks=(content,), content_size=len(content)),
                internal_date_s=int(self.clock.now_s()),
                deliveries=(),
                outbound=self.abroad.make_report(recipient, header, digests),
                settles=settles,
            )
        )
        return True

    async def _sort_recipients(
        self, envelope: Envelope, size: int, settings: SettingsSnapshot
    ) -> _Sorted:
        local, remote = routing.split(envelope.recipients, settings.identity.local_domains)
        if self.abroad is None:
            elsewhere = RemoteRecipients(denied=tuple(remote))
        else:
            elsewhere = self.abroad.sort(remote)
        reasons = dict.fromkeys(elsewhere.denied, RefusalReason.POLICY)
        served: list[Account] = []
        for address, account in zip(local, await self.accounts.resolve(local), strict=True):
            if account is None or account.is_blocked:
                reasons[address] = RefusalReason.UNKNOWN_RECIPIENT
            elif not await self._room.before(account, size, settings):
                reasons[address] = RefusalReason.OVER_QUOTA
            else:
                served.append(account)
        return _Sorted(
            served=served,
            failed=[FailedRecipient(a, reasons[a]) for a in envelope.recipients if a in reasons],
            queued=elsewhere.queued,
            dismissed=elsewhere.dismissed,
        )

    async def _trim_after(
        self, served: list[Account], size: int, settings: SettingsSnapshot
    ) -> None:
        """Clean up behind a delivery."""
        # The message is durable: whatever fails from here on, a sender told to try again would
        # send it twice. The next delivery trims.
        with suppress(TransientFailure):
            await self._room.after(served, size, settings)

    def _report(
        self, sender: EmailAddress, failed: list[FailedRecipient], header: bytes
    ) -> tuple[NewReport, ...]:
        now = int(self.clock.now_s())
        return (
            NewReport(
                sender=sender,
                failed=tuple(failed),
                header=header,
                arrived_s=now,
                due_s=now + REPORT_DELAY_S,
            ),
        )
