"""Writes the delivery reports that are owed (spec mail 6.7, contract 3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from chatmail.domain.formats.dsn import FailedDelivery, Report, render
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.queue import FailedRecipient, QueueEntry, QueueId
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.ports.reports import ReportQueue
from chatmail.domain.ports.system import Clock, Entropy
from chatmail.domain.usecases.intake import TakeIn

_BATCH: Final = 20
_LEASE_S: Final = 60.0
_RETRY_S: Final = 30.0
_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


class _ForwardTime:
    """Wall time that never goes back: what was due before the clock was set back stays due."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._now_s = clock.now_s()
        self._seen_s = clock.monotonic_s()

    def now_s(self) -> float:
        seen_s = self._clock.monotonic_s()
        self._now_s = max(self._clock.now_s(), self._now_s + seen_s - self._seen_s)
        self._seen_s = seen_s
        return self._now_s


@attrs.frozen(kw_only=True)
class DeliverReports:
    """Claims due reports; puts them into their senders' INBOX, or queues them for another relay."""

    queue: ReportQueue
    take_in: TakeIn
    clock: Clock
    entropy: Entropy
    settings: Callable[[], SettingsSnapshot]
    diagnose: Callable[[FailedRecipient], str]
    """Gives the SMTP reply text of a failure; the face that owns reply texts supplies it."""
    _time: _ForwardTime = attrs.field(
        init=False, default=attrs.Factory(lambda self: _ForwardTime(self.clock), takes_self=True)
    )

    async def __call__(self) -> float | None:
        """Deliver what is due.

        Returns:  seconds until the next entry is due (0: at once), None when there is none.
        """
        now = self._time.now_s()
        for entry in await self.queue.claim(now, _BATCH, _LEASE_S):
            await self._deliver(entry)
        due = await self.queue.next_due_s()
        return None if due is None else max(0.0, due - self._time.now_s())

    async def _deliver(self, entry: QueueEntry) -> None:
        report = entry.report
        try:
            # The copy and the end of the entry are one commit, so a crash cannot double the report.
            octets = self._render(entry)
            if not await self._hand_over(report.sender, octets, entry.id):
                await self.queue.settle(entry.id)
        except TransientFailure:
            delay = _RETRY_S * 2 ** min(entry.attempts, 7)
            await self.queue.postpone(entry.id, self._time.now_s() + delay)

    async def _hand_over(self, sender: EmailAddress, octets: bytes, entry: QueueId) -> bool:
        if sender.domain in self.settings().identity.local_domains:
            return await self.take_in.own_report(sender, octets, entry)
        return await self.take_in.report_abroad(sender, octets, entry)

    def _render(self, entry: QueueEntry) -> bytes:
        identity = self.settings().identity
        report = entry.report
        return render(
            Report(
                mail_domain=identity.mail_domain,
                hostname=identity.hostname,
                sender=report.sender,
                failed=[
                    FailedDelivery(f.address, f.reply or self.diagnose(f), f.host)
                    for f in report.failed
                ],
                original_header=report.header,
                arrived_s=report.arrived_s,
                written_s=int(self.clock.now_s()),
                message_id=self.entropy.text(_ALPHABET, 24),
                boundary=self.entropy.text(_ALPHABET, 32),
            )
        )
