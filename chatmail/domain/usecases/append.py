"""IMAP APPEND: an account puts one message into a mailbox of its own."""

from __future__ import annotations

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
class AppendMessage:
    """The APPEND door."""

    take_in: TakeIn

    async def __call__(
        self,
        account: Account,
        mailbox: _Mailbox,
        flags: Flags,
        internal_date_s: int,
        message: Collector,
    ) -> AppendReceipt | Refuse:
        """Judge and store the message; durable when this returns.

        Raises:  MailboxGone: the mailbox was deleted meanwhile. TransientFailure, Overloaded.
        """
        outcome = await self.take_in.append(account, mailbox.id, flags, internal_date_s, message)
        if outcome is None:
            raise MailboxGone
        return outcome
