"""Submission: a logged-in account hands in one message (spec mail 6.5, contract 3)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final

import attrs

from chatmail.domain.formats.body_digest import BodyDigests
from chatmail.domain.model.account import Account
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.message import AddField, Envelope, HeaderEdit
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.model.verdict import RefusalReason, Refuse
from chatmail.domain.ports.system import Budgets, Clock, Entropy
from chatmail.domain.usecases.collect import Collector
from chatmail.domain.usecases.intake import TakeIn

_ID_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


@attrs.frozen
class Accepted:
    """The message is durable for everyone who can be served; `queue_id` is for the reply."""

    queue_id: str


@attrs.frozen(kw_only=True)
class Submit:
    """The submission door."""

    take_in: TakeIn
    budgets: Budgets
    clock: Clock
    entropy: Entropy
    settings: Callable[[], SettingsSnapshot]

    def admit(self, account: Account, reverse_path: EmailAddress | None) -> Refuse | None:
        """Say at the first RCPT whether this sender may send now; takes one rate token.

        Source:  spec policy F-01, 7.4: the rate is per account, charged after the owner check.
        """
        if reverse_path != account.address:
            shown = str(reverse_path) if reverse_path is not None else ""
            return Refuse(RefusalReason.NOT_OWNER, "F-01", shown, str(account.address))
        limits = self.settings().limits
        if limits.send_rate_per_minute and not self.budgets.take(
            "send",
            str(account.id),
            per_s=limits.send_rate_per_minute / 60,
            burst=limits.send_burst,
        ):
            return Refuse(RefusalReason.TOO_MUCH_MAIL, subject=str(reverse_path))
        return None

    def digests(self, envelope: Envelope) -> BodyDigests | None:
        """Return the hashes to make of the content while it arrives; None: none are needed."""
        local_domains = self.settings().identity.local_domains
        if self.take_in.abroad is None:
            return None
        if all(recipient.domain in local_domains for recipient in envelope.recipients):
            return None
        return self.take_in.abroad.digests()

    async def __call__(
        self,
        account: Account,
        envelope: Envelope,
        message: Collector,
        digests: BodyDigests | None = None,
    ) -> Accepted | Refuse:
        """Judge and store one whole message; `digests` were asked for and fed with its content.

        Raises:  TransientFailure, Overloaded: nothing was stored.
        """
        outcome = await self.take_in.for_recipients(
            envelope, account.address, message, self._additions, digests
        )
        if isinstance(outcome, Refuse):
            return outcome
        return Accepted(self.entropy.text(_ID_ALPHABET, 12))

    def _additions(self, has_message_id: bool, has_date: bool) -> tuple[HeaderEdit, ...]:
        """RFC 6409 §8: a submission server supplies what the client left out."""
        added: tuple[HeaderEdit, ...] = ()
        if not has_message_id:
            host = self.settings().identity.mail_domain
            identity = f"<{self.entropy.text(_ID_ALPHABET, 24)}@{host}>"
            added += (AddField(b"Message-ID", identity.encode()),)
        if not has_date:
            now = datetime.fromtimestamp(int(self.clock.now_s()), UTC)
            added += (AddField(b"Date", format_datetime(now).encode()),)
        return added
