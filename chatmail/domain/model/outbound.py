"""Messages on their way to other relays.

One queued message has one entry per recipient; message id and recipient together name an entry.
The octets lie in the store, once, together with the local copies.
"""

from __future__ import annotations

import enum
from typing import Final, NewType

import attrs

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.federation import TransportKind
from chatmail.domain.model.queue import NewReport

OutboundMessageId = NewType("OutboundMessageId", int)
"""63 bits, drawn by whoever queues the message: a later message has a greater id, mostly."""

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_DIGITS: Final = 13


def queue_name(message: OutboundMessageId) -> str:
    """Return the id as operators see it: 13 letters and digits (base 32, Crockford's)."""
    digits = []
    rest = int(message)
    for _ in range(_DIGITS):
        rest, digit = divmod(rest, 32)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def parse_queue_name(text: str) -> OutboundMessageId:
    """Read an id back. Raises:  ValueError: it is none."""
    if len(text) != _DIGITS:
        raise ValueError("a queue id has 13 characters")
    value = 0
    for letter in text.lower():
        value = value * 32 + _ALPHABET.index(letter)
    return OutboundMessageId(value)


@attrs.frozen(kw_only=True)
class NewOutbound:
    """The remote part of a message that is being committed.

    Attributes:
        reverse_path: None is the null sender.
        prefix: header fields that stand in front when it is sent (DKIM-Signature), each ended by
            CRLF; the local copies do not have them.
        is_report: a delivery report: never reported on, given up earlier.
        due_s: when the first attempt is due, unix seconds.
        leased_until_s: 0: the queue takes it. Else whoever committed it attempts it first.
    """

    id: OutboundMessageId
    reverse_path: EmailAddress | None
    recipients: tuple[EmailAddress, ...]
    created_s: int
    due_s: float
    prefix: bytes = b""
    is_report: bool = False
    leased_until_s: float = 0.0


@attrs.frozen(kw_only=True)
class QueuedMessage:
    """A queued message; `size` and `header_size` are those of the stored octets, without prefix."""

    id: OutboundMessageId
    reverse_path: EmailAddress | None
    created_s: int
    prefix: bytes
    is_report: bool
    size: int
    header_size: int


@attrs.frozen(kw_only=True)
class LastAttempt:
    """How the last attempt for one recipient went. `reply` is one clean line, `450 4.2.0 text`."""

    at_s: int
    reply: str
    transport: TransportKind | None = None
    host: str = ""


@attrs.frozen(kw_only=True)
class OutboundEntry:
    """One recipient of a queued message, as claimed or listed."""

    message: QueuedMessage
    recipient: EmailAddress
    attempts: int
    due_s: float
    is_held: bool = False
    last: LastAttempt | None = None

    @property
    def domain(self) -> str:
        """The destination."""
        return self.recipient.domain


class SettlementKind(enum.Enum):
    """How an attempt ended for a recipient."""

    DELIVERED = "delivered"
    RETRY = "retry"
    FAILED = "failed"


@attrs.frozen(kw_only=True)
class Settlement:
    """What becomes of one entry after an attempt.

    `due_s` counts for RETRY only. `last` None: no attempt was made (a lease handed back); the
    attempts are not counted up then.
    """

    message: OutboundMessageId
    recipient: EmailAddress
    kind: SettlementKind
    due_s: float = 0.0
    last: LastAttempt | None = None


@attrs.frozen(kw_only=True)
class Settled:
    """One transaction: entries that end or wait, and the reports owed for those that failed."""

    entries: tuple[Settlement, ...]
    reports: tuple[NewReport, ...] = ()


@attrs.frozen
class Waiting:
    """What waits of one author: recipients, and octets of their messages."""

    entries: int
    octets: int


@attrs.frozen(kw_only=True)
class Backlog:
    """What waits for one destination. `next_due_s` None: all of it is held or being attempted."""

    domain: str
    entries: int
    held: int
    oldest_s: int
    next_due_s: float | None


@attrs.frozen(kw_only=True)
class QueueFilter:
    """Which entries an operator means; empty fields match everything."""

    message: OutboundMessageId | None = None
    domain: str = ""
    sender: str = ""
    recipient: str = ""
