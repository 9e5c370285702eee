"""IMAP APPEND: an account puts messages into a mailbox of its own, all of them or none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import attrs

from chatmail.domain.model.account import Account
from chatmail.domain.model.errors import MailboxGone
from chatmail.domain.model.mailbox import AppendReceipt, Flags, MailboxId
from chatmail.domain.model.verdict import Refuse
from chatmail.domain.usecases.collect import Collector
from chatmail.domain.usecases.intake import TakeIn


class _Mailbox(Protocol):
    @property
    def id(self) -> MailboxId: ...


@attrs.frozen
class AppendMessages:
    """The APPEND door."""

    take_in: TakeIn

    async def __call__(
        self,
        account: Account,
        mailbox: _Mailbox,
        messages: Sequence[tuple[Flags, int, Collector]],
    ) -> tuple[AppendReceipt, ...] | Refuse:
        """Judge and store the messages; durable when this returns.

        Args:  messages: of each its flags, its internal date (unix time), its octets.
        Returns:  where they landed, in their order; or why the first that was refused was.
        Raises:  MailboxGone: the mailbox was deleted meanwhile. TransientFailure, Overloaded.
        """
        outcome = await self.take_in.append(account, mailbox.id, messages)
        if outcome is None:
            raise MailboxGone
        return outcome
