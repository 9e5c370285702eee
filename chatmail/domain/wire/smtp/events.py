"""What the SMTP server machine tells its shell.

Commands that need a decision come as the values of `commands`: Hello, StartTls, Mail, Rcpt, Data.
"""

from __future__ import annotations

import enum
from typing import Final, TypeAlias

import attrs

from chatmail.domain.model.account import Credentials
from chatmail.domain.wire.smtp.commands import Data, Hello, Mail, Rcpt, StartTls
from chatmail.domain.wire.smtp.data import ContentFault


class Signal(enum.Enum):
    """States of the machine in which there is no event."""

    NEED_DATA = "need_data"  # no event until more octets arrive
    PAUSED = "paused"  # STARTTLS was granted: shake hands, then `tls_started`
    CLOSED = "closed"  # nothing more is read; the shell sends what it has and closes


NEED_DATA: Final = Signal.NEED_DATA
PAUSED: Final = Signal.PAUSED
CLOSED: Final = Signal.CLOSED


@attrs.frozen
class Answered:
    """The machine replied itself: the shell only sends these octets."""

    octets: bytes


@attrs.frozen
class Login:
    """A SASL exchange is complete.

    `credentials` None: it cannot succeed, and is to be answered like a wrong password.
    """

    credentials: Credentials | None


@attrs.frozen
class ContentChunk:
    """Content octets without stuffed dots, at most 64 KiB; a small message is one chunk."""

    octets: bytes


@attrs.frozen
class ContentEnd:
    """The content is over; `size` counts its octets. With a `fault` nothing may be kept."""

    size: int
    fault: ContentFault | None


Event: TypeAlias = (
    Signal | Answered | Hello | StartTls | Login | Mail | Rcpt | Data | ContentChunk | ContentEnd
)
