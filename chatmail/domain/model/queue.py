"""Deliveries that outlive the reply: reports owed to a sender."""

from __future__ import annotations

from typing import NewType

import attrs

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.verdict import RefusalReason

QueueId = NewType("QueueId", int)


@attrs.frozen
class FailedRecipient:
    """One recipient that could not be served, and why.

    `reply` is what a peer said, one clean line `550 5.1.1 text` (reason REMOTE); `host` is who.
    """

    address: EmailAddress
    reason: RefusalReason
    reply: str = ""
    host: str = ""


@attrs.frozen(kw_only=True)
class NewReport:
    """A report to be written after the reply, committed together with the message.

    `header` is the original header block as stored: the only part a report quotes.
    """

    sender: EmailAddress
    failed: tuple[FailedRecipient, ...]
    header: bytes
    arrived_s: int
    due_s: int


@attrs.frozen(kw_only=True)
class QueueEntry:
    """A claimed report."""

    id: QueueId
    report: NewReport
    attempts: int
