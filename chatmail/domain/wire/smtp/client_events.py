"""What the SMTP client machine tells its shell, and what it is told.

Texts of faults are clean reply lines.
"""

from __future__ import annotations

import enum
from typing import Final, TypeAlias

import attrs

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.federation import HopFault, RecipientOutcome

MAX_RECIPIENTS: Final = 100
"""Of one transaction (A6.7); RFC 5321 §4.5.3.1.8: every server takes so many."""


class TlsUse(enum.Enum):
    """What the session has to be."""

    REQUIRED = "required"
    WHEN_OFFERED = "when_offered"
    NEVER = "never"


class Phase(enum.Enum):
    """Where the dialogue stands; each has its own patience."""

    GREETING = "greeting"
    HELLO = "hello"
    UPGRADE = "upgrade"
    READY = "ready"
    ENVELOPE = "envelope"
    CONTENT = "content"
    VERDICT = "verdict"
    CLOSED = "closed"


class ClientSignal(enum.Enum):
    """Events without content."""

    NEED_DATA = "need_data"
    UPGRADE = "upgrade"
    READY = "ready"
    SEND_CONTENT = "send_content"


NEED_DATA: Final = ClientSignal.NEED_DATA
UPGRADE: Final = ClientSignal.UPGRADE
READY: Final = ClientSignal.READY
SEND_CONTENT: Final = ClientSignal.SEND_CONTENT


@attrs.frozen
class Send:
    """Octets to send now."""

    octets: bytes


@attrs.frozen
class TransactionEnd:
    """The transaction is over: an outcome for every recipient, but for those `postponed`.

    The peer wants the postponed ones in a transaction of their own. The next event is READY, or
    `SessionEnd` when the peer closes.
    """

    outcomes: tuple[RecipientOutcome, ...]
    postponed: tuple[EmailAddress, ...]


@attrs.frozen
class SessionEnd:
    """The session is over; `outcomes` of a transaction that was under way.

    `reply` describes the fault in one clean line; BROKEN with 5xx: the peer refused the session
    or the sender for good.
    """

    fault: HopFault
    reply: str
    outcomes: tuple[RecipientOutcome, ...] = ()


ClientEvent: TypeAlias = ClientSignal | Send | TransactionEnd | SessionEnd


@attrs.frozen(kw_only=True)
class Transaction:
    """What one transaction carries; `size` is that of the content before dots are stuffed."""

    reverse_path: EmailAddress | None
    recipients: tuple[EmailAddress, ...]
    size: int
    is_eight_bit: bool = True


LOST: Final = "451 4.4.2 Connection lost"
TIMED_OUT: Final = "451 4.4.2 Timed out"
NONSENSE: Final = "451 4.5.0 The server does not speak SMTP properly"
NO_TLS: Final = "454 4.7.4 TLS is required, but the server does not offer it"
TOO_LARGE: Final = "552 5.3.4 Message is larger than the server accepts"
UNANSWERED: Final = "451 4.4.2 No answer after the whole message was sent"
